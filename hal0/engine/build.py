"""Build one image on this machine: from the host's packages where it can, else from the Containerfile."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hal0.engine.base import Engine, ImageInfo, ImageProgress, OnImageProgress
from hal0.engine.manifest import ImageEntry, Recipe, stage_settings
from hal0.engine.program import Finished, run_program
from hal0.errors import Hal0Error
from hal0.lib.aio import settled
from hal0.lib.aside import in_a_thread

# Without a word from rootfs.sh, which says every half minute that something has come: a slow line may take hours.
_QUIET_S: Final = 600.0
_FOLDER: Final = "image-"
_BUILDERS_OWN: Final = ("HAL0_TORCH_INDEX",)  # rootfs.sh reads them; a container has an environment of its own
_LOOKS, _LOOK_S = 20, 0.1
_UNABLE: Final = 3  # rootfs.sh: this host cannot build this way


class Unable(Exception):
    """This host cannot build from packages; the text says why."""


async def sweep(scratch: Path) -> None:
    """Remove the files of builds that ended with their hal0; to be called before there is another.

    Nobody waits for it: they may be gigabytes in a hundred thousand files.
    """
    if left := await asyncio.to_thread(lambda: [*scratch.glob(f"{_FOLDER}*/")]):
        in_a_thread(lambda: _remove(left))


def _remove(folders: Iterable[Path]) -> None:
    """Blocking. What a build that was killed still writes while it dies, the next sweep finds."""
    for folder in folders:
        for _ in range(_LOOKS):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(_LOOK_S)


async def build_image(
    engine: Engine, entry: ImageEntry, recipe: Recipe, *, root: Path, scratch: Path, on_progress: OnImageProgress
) -> ImageInfo:
    """Build `entry` and tag it locally. `root` is the images folder; `scratch` holds the files while they are made.

    Raises image.build_failed with the failing step's own words. Cancelling ends the build and removes its files.
    """
    try:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=_FOLDER, dir=scratch))
    except OSError as fault:
        raise _failed(entry, f"its files cannot be made in {scratch}: {fault.strerror}") from fault
    try:
        tar = folder / "rootfs.tar"
        await _write_rootfs(tar, entry, recipe, root, on_progress)
        text = await asyncio.to_thread((root / recipe.containerfile).read_text)
        return await engine.image_import(tar, entry.local_tag, stage_settings(text, recipe.target), on_progress)
    except Unable as why:
        on_progress(ImageProgress(f"building in a container, since here {why}"))
        try:
            return await _build_in_container(engine, entry, recipe, root, on_progress)
        except Hal0Error as fault:
            raise _failed(entry, f"{fault.message}; and from packages: {why}") from fault
    finally:
        await settled(asyncio.to_thread(_remove, [folder]))


async def _write_rootfs(tar: Path, entry: ImageEntry, recipe: Recipe, root: Path, on_progress: OnImageProgress) -> None:
    # By name of the shell: a wheel need not keep the script's mode.
    argv = ("bash", str(root / "rootfs.sh"), str(tar), recipe.folder, recipe.target)
    try:
        finished = await run_program(
            argv, timeout_s=_QUIET_S, on_line=lambda line: on_progress(ImageProgress(line)), renewed=True
        )
    except OSError as fault:
        if isinstance(fault, TimeoutError):
            raise _failed(entry, f"nothing has come for {_QUIET_S / 60:.0f} minutes; is the network there?") from fault
        raise Unable(f"bash cannot be started ({fault.strerror})") from fault
    _check(finished, entry)


def _check(finished: Finished, entry: ImageEntry) -> None:
    if finished.status == 0:
        return
    reason = finished.tail[-1] if finished.tail else f"rootfs.sh ended with status {finished.status}"
    reason = reason.removeprefix("cannot build the image: ")
    if finished.status == _UNABLE:
        raise Unable(reason)
    raise _failed(entry, reason)


async def _build_in_container(
    engine: Engine, entry: ImageEntry, recipe: Recipe, root: Path, on_progress: OnImageProgress
) -> ImageInfo:
    return await engine.image_build(
        root,
        containerfile=recipe.containerfile,
        target=recipe.target,
        tag=entry.local_tag,
        build_args={name: os.environ[name] for name in _BUILDERS_OWN if name in os.environ},
        on_progress=on_progress,
    )


def _failed(entry: ImageEntry, reason: str) -> Hal0Error:
    return Hal0Error("image.build_failed", f"cannot build image {entry.key}: {reason}")
