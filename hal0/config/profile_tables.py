"""`[profiles.<name>]` tables of hal0.toml: written, changed, taken away; those that come with hal0 stay as they are."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hal0.config.custom import Sources
from hal0.config.edit import REMOVE, Edit, edited, read_text, revision
from hal0.config.faults import Fault, complaints, refused
from hal0.config.load import Loaded
from hal0.config.profiles import BUILTIN_PROFILES, ProfileConfig
from hal0.config.root import TABLE_NAME, RootConfig
from hal0.errors import Hal0Error


def put(sources: Sources, name: str, fields: Mapping[str, Any], like: str | None = None) -> Loaded:
    """Set these fields (ProfileConfig's) of a profile, None takes one away; a new one may begin as a copy of `like`.

    Raises config.invalid naming the field and what is allowed, profile.not_found, and as `edit.write`. Blocking.
    """
    root = sources.load().root
    if not TABLE_NAME.match(name):
        allowed = "letters, digits and . _ -, at most 64, lower case"
        raise refused(f"set profile {name}", [Fault("", None, "name", f"{name!r} is not a name", allowed)])
    _own(name)
    given = {**({} if like is None else _copied(root, like)), **fields}
    _check(name, {key: value for key, value in given.items() if value is not None})
    edits = [Edit(("profiles", name, key), REMOVE if value is None else value) for key, value in given.items()]
    if not edits and name not in root.profiles:
        edits = [Edit(("profiles", name), {})]
    return _saved(sources, edits)


def take_away(sources: Sources, name: str) -> Loaded:
    """Remove a profile. Raises profile.not_found, profile.in_use, config.*, and as `edit.write`. Blocking."""
    root = sources.load().root
    _own(name)
    if name not in root.profiles:
        raise unknown(name, root)
    if users := users_of(root, name):
        raise Hal0Error(
            "profile.in_use",
            f"cannot delete profile {name}: slot {users[0]} is started by it",
            details={"slots": users},
        )
    return _saved(sources, [Edit(("profiles", name), REMOVE)])


def users_of(root: RootConfig, name: str) -> list[str]:
    """The slots that are started by it."""
    return [slot for slot, config in root.slots.items() if config.profile == name]


def unknown(name: str, root: RootConfig) -> Hal0Error:
    known = ", ".join([*BUILTIN_PROFILES, *root.profiles])
    return Hal0Error("profile.not_found", f"cannot find a profile {name!r}; there are {known}")


def _own(name: str) -> None:
    if name in BUILTIN_PROFILES:
        fault = Fault("", None, "name", f"the profile {name!r} comes with hal0 and is read-only", "another name")
        raise refused(f"set profile {name}", [fault])


def _copied(root: RootConfig, like: str) -> dict[str, Any]:
    profile = root.profile(like)
    if profile is None:
        raise unknown(like, root)
    return profile.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def _check(name: str, fields: Mapping[str, Any]) -> None:
    """All faults at once, in the request's words."""
    try:
        ProfileConfig.model_validate(dict(fields))
    except ValidationError as error:
        found = [Fault("", None, c.key, c.message, c.allowed) for c in complaints(error, ProfileConfig)]
        raise refused(f"set profile {name}", found) from error


def _saved(sources: Sources, edits: list[Edit]) -> Loaded:
    file = sources.paths.config_file
    expected = revision(file)
    return sources.write({file: edited(read_text(file), edits)}, {file: expected})
