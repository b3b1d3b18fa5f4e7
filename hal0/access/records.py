"""`keys.json` and its one schema: bytes to records and back."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from hal0.access.keys import KeyRecord, SessionRecord
from hal0.lib import jsonio

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class AccessRecords:
    schema: int = SCHEMA
    keys: tuple[KeyRecord, ...] = ()
    sessions: tuple[SessionRecord, ...] = ()


class DamagedKeysError(ValueError):
    """The file is not what hal0 writes. The text says where, and repeats nothing of it."""


class NewerKeysError(ValueError):
    """A newer hal0 wrote the file."""


_ADAPTER: Final = TypeAdapter(AccessRecords)


def dump(records: AccessRecords) -> bytes:
    return jsonio.dumps_pretty(_ADAPTER.dump_python(records, mode="json"))


def load(data: bytes) -> AccessRecords:
    """Raises DamagedKeysError or NewerKeysError."""
    try:
        raw: Any = jsonio.loads(data)
    except jsonio.JSONDecodeError:
        raise DamagedKeysError("it is not JSON") from None
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if type(schema) is not int or schema < 1:
        raise DamagedKeysError("it has no schema number")
    if schema > SCHEMA:
        raise NewerKeysError(f"schema {schema}, this hal0 knows {SCHEMA}")
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as err:
        where = ".".join(str(part) for part in err.errors(include_url=False, include_input=False)[0]["loc"])
        raise DamagedKeysError(f"{where} is not as it should be") from None
