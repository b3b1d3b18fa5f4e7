"""What a model takes that nobody has fetched yet: its size by the hub's list, its figures from its file's head."""

import asyncio
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from hal0.errors import Hal0Error
from hal0.models import gguf
from hal0.models.absent import Absent
from hal0.models.entry import entry_of
from hal0.models.gguf import GgufError
from hal0.pulls.asking import Asker
from hal0.pulls.plan import PlannedFile
from hal0.pulls.planning import Draft
from hal0.pulls.verdicts import Again, Changed

# The figures stand before the vocabulary, but its length is checked: with it the largest headers known have 14 MiB.
_HEAD_BYTES: Final = 16 << 20
_HEAD_S: Final = 30.0  # somebody waits for it


async def weighed(draft: Draft, asker: Asker) -> Absent:
    """Raises Hal0Error as the hub answers. What its file's head does not say stays unknown."""
    sizes = [file.size_bytes for file in draft.files]
    size = None if None in sizes else sum(size for size in sizes if size is not None)
    first = draft.files[0]
    whole = Absent(id=draft.model, size_bytes=size, license=draft.license)
    if not first.name.lower().endswith(".gguf") or not first.size_bytes:
        return whole
    head = await _head(first, asker)
    return await asyncio.to_thread(_read, whole, first, head)


async def _head(file: PlannedFile, asker: Asker) -> bytes:
    got = bytearray()
    try:
        async with asyncio.timeout(_HEAD_S):
            asked = {"Range": f"bytes=0-{_HEAD_BYTES - 1}"}
            async with asker.ask(file.url, file.name, file.repo, asked) as response:
                while len(got) < _HEAD_BYTES and (piece := await response.content.readany()):
                    got += piece
    except (Again, Changed) as e:
        raise Hal0Error("pull.failed", f"cannot read the head of {file.name}: {e}") from e
    except TimeoutError as e:
        raise Hal0Error("pull.failed", f"cannot read the head of {file.name} within {_HEAD_S:.0f} s") from e
    return bytes(got[:_HEAD_BYTES])


def _read(whole: Absent, file: PlannedFile, head: bytes) -> Absent:
    """As if the file were here, with nothing behind its head. Blocking."""
    try:
        with TemporaryDirectory(prefix="hal0-") as folder, suppress(GgufError):
            path = Path(folder, Path(file.name).name)
            path.write_bytes(head)
            os.truncate(path, file.size_bytes or len(head))
            entry = entry_of(gguf.read(path), whole.id, created=0)
            return replace(
                whole,
                capabilities=entry.capabilities,
                context_length=entry.context_length,
                cache_bytes_per_token=entry.cache_bytes_per_token,
            )
    except OSError as e:
        message = f"cannot look at the head of {file.name}: {e.strerror or e}"
        raise Hal0Error("state.write_failed", message, hint="Free space in the folder for temporary files.") from e
    return whole
