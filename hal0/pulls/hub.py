"""What a repository on the hub holds: its files with their published sizes and digests, its licence, its revision."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from yarl import URL

from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.lib.aio import backoff_s
from hal0.pulls.asking import Asker
from hal0.pulls.choosing import RemoteFile
from hal0.pulls.verdicts import OFFLINE, Again, Away, Changed

_LIST_S: Final = 30.0  # somebody waits for it
_AWAY_S: Final = 3.0  # and not that long for a hub that is not there
_MAX_LIST_BYTES: Final = 16 << 20  # the longest repositories have 10 000 files
_MAX_PAGES: Final = 20
_MAX_WORD: Final = 100
_MAX_FILE_BYTES: Final = 1 << 50  # what claims more is no file


@dataclass(frozen=True, slots=True)
class Listing:
    """`revision` is the commit: what is fetched later is of the same state as this list."""

    repo: str
    revision: str
    license: str | None
    files: tuple[RemoteFile, ...]


async def listing(asker: Asker, repo: str, revision: str) -> Listing:
    """Within thirty seconds, and soon when the hub is not there.

    Raises Hal0Error pull.gated, model.not_found, pull.failed, pull.address_refused.
    """
    troubles: list[Again] = []
    try:
        async with asyncio.timeout(_LIST_S):
            base = f"{asker.hub.endpoint}/api/models/{repo}"
            about = (await page(asker, f"{base}/revision/{_quoted(revision)}", repo, troubles))[0]
            commit = _commit(about) or revision
            tree = f"{base}/tree/{_quoted(commit)}?recursive=true"
            files = [file async for file in _files(asker, tree, repo, troubles)]
    except TimeoutError:
        why = f"{troubles[-1]}, for {_LIST_S:.0f} s" if troubles else f"the hub took longer than {_LIST_S:.0f} s"
        raise Hal0Error("pull.failed", f"cannot look at {repo}: {why}", hint=OFFLINE) from None
    return Listing(repo, commit, license_of(about), tuple(files))


def file_url(endpoint: str, repo: str, revision: str, path: str) -> str:
    return f"{endpoint}/{repo}/resolve/{_quoted(revision)}/{_quoted(path, slashes=True)}"


async def _files(asker: Asker, url: str, repo: str, troubles: list[Again]) -> AsyncIterator[RemoteFile]:
    for _ in range(_MAX_PAGES):
        entries, onward = await page(asker, url, repo, troubles)
        for entry in entries if isinstance(entries, list) else []:
            if (file := _file(entry)) is not None:
                yield file
        if onward is None:
            return
        url = onward


def _file(entry: object) -> RemoteFile | None:
    match entry:
        case {"type": "file", "path": str(path), "lfs": {"oid": str(oid), "size": int(size)}} if _is_size(size):
            return RemoteFile(path, size, oid if len(oid) == 64 else None)
        case {"type": "file", "path": str(path), "size": int(size)} if _is_size(size):
            return RemoteFile(path, size)
        case _:
            return None


def _is_size(size: int) -> bool:
    return 0 <= size <= _MAX_FILE_BYTES


def _commit(about: object) -> str | None:
    match about:
        case {"sha": str(commit)} if re.fullmatch(r"[0-9a-f]{7,64}", commit):
            return commit
        case _:
            return None


def license_of(about: object) -> str | None:
    match about:
        case {"cardData": {"license": str(name), "license_name": str(other)}} if name == "other":
            return _word(other)
        case {"cardData": {"license": str(name)}}:
            return _word(name)
        case _:
            return None


def _word(text: str) -> str | None:
    """What somebody else wrote, as it may stand in a line."""
    return "".join(filter(str.isprintable, text))[:_MAX_WORD] or None


async def page(asker: Asker, url: str, repo: str | None, troubles: list[Again]) -> tuple[Any, str | None]:
    """One answer, and the address of the next one of a long list; of one `repo`, or of the hub itself.

    What it is tried again for is added to `troubles`.
    """
    place = repo or "the hub"
    pauses, clock = backoff_s(0.5, 8.0), asyncio.get_running_loop().time
    away_at = clock() + _AWAY_S
    while True:
        try:
            async with asker.ask(url, f"the list of {place}", repo, {"Accept": "application/json"}) as response:
                raw = bytearray()
                while piece := await response.content.readany():
                    raw += piece
                    if len(raw) > _MAX_LIST_BYTES:
                        raise Hal0Error("pull.failed", f"cannot look at {place}: its list is too long")
                onward = response.links["next"]["url"] if "next" in response.links else None
            return jsonio.loads(bytes(raw)), _same_hub(asker, onward)
        except ValueError as e:
            raise Hal0Error("pull.failed", f"cannot look at {place}: the hub's answer is not JSON") from e
        except Changed as e:
            raise Hal0Error("pull.failed", f"cannot look at {place}: the hub refuses to list it") from e
        except Again as again:
            if isinstance(again, Away) and clock() >= away_at:
                raise Hal0Error("pull.failed", f"cannot look at {place}: {again}", hint=OFFLINE) from again
            troubles.append(again)
            wait = next(pauses) if again.wait_s is None else again.wait_s
            if wait > _LIST_S:
                raise Hal0Error("pull.failed", f"cannot look at {place}: {again}", retry_after_s=wait) from again
            await asyncio.sleep(wait)


def _same_hub(asker: Asker, onward: object) -> str | None:
    """The next page is the hub's own, or there is none."""
    if onward is None or URL(str(onward)).origin() != URL(asker.hub.endpoint).origin():
        return None
    return str(onward)


def _quoted(text: str, *, slashes: bool = False) -> str:
    return quote(text, safe="/" if slashes else "")
