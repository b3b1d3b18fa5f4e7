"""What the hub has by some words: repositories with GGUF files, the most fetched ones first."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from hal0.errors import Hal0Error
from hal0.pulls.asking import Asker
from hal0.pulls.hub import license_of, page
from hal0.pulls.sources import is_repo
from hal0.pulls.verdicts import OFFLINE, Again

_MOST: Final = 20
_SEARCH_S: Final = 10.0  # somebody waits for it
_WANTED: Final = ("downloads", "gated", "gguf", "cardData")


@dataclass(frozen=True, slots=True)
class Repository:
    """None for what the hub does not say. `gated`: its publisher wants consent first."""

    repo: str
    license: str | None
    downloads: int | None
    gated: bool
    architecture: str | None
    context_length: int | None
    parameters: int | None


async def search(asker: Asker, text: str) -> list[Repository]:
    """Raises Hal0Error pull.failed, pull.address_refused."""
    asked = [("search", text), ("filter", "gguf"), ("sort", "downloads"), ("direction", "-1"), ("limit", str(_MOST))]
    query = urlencode([*asked, *(("expand[]", name) for name in _WANTED)])
    troubles: list[Again] = []
    try:
        async with asyncio.timeout(_SEARCH_S):
            found, _ = await page(asker, f"{asker.hub.endpoint}/api/models?{query}", None, troubles)
    except TimeoutError:
        why = str(troubles[-1]) if troubles else f"it took longer than {_SEARCH_S:.0f} s"
        raise Hal0Error("pull.failed", f"cannot search the hub: {why}", hint=OFFLINE) from None
    rows = (_repository(it) for it in found[:_MOST]) if isinstance(found, list) else ()
    return [it for it in rows if it is not None]


def _repository(row: object) -> Repository | None:
    if not isinstance(row, dict) or not isinstance(repo := row.get("id"), str) or not is_repo(repo):
        return None
    told: dict[str, Any] = gguf if isinstance(gguf := row.get("gguf"), dict) else {}
    architecture = told.get("architecture")
    return Repository(
        repo=repo,
        license=license_of(row),
        downloads=_count(row.get("downloads")),
        gated=bool(row.get("gated")),
        architecture=architecture if isinstance(architecture, str) else None,
        context_length=_count(told.get("context_length")),
        parameters=_count(told.get("total")),
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 50 else None
