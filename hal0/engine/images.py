"""Runtime images: where each comes from, and fetching, building and checking them.

The order is always the same: a build of this machine, what was pulled by digest, a pull, a build. `choose` is that
order as a pure function; `ImageService` does what it says.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from hal0.engine.base import Engine, ImageInfo, ImageProgress, OnImageProgress
from hal0.engine.build import build_image
from hal0.engine.builds import Builds
from hal0.engine.manifest import ImageEntry, Recipe
from hal0.engine.superseded import Pruned, remove, superseded
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock

_DIGEST: Final = "@sha256:"
_NOWHERE: Final = "it is not published, and no packages make it"


class Source(StrEnum):
    """Where an image comes from next time it is needed."""

    LOCAL = "local"  # it is here
    PULL = "pull"
    BUILD = "build"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Choice:
    """`image` is set exactly when `source` is LOCAL."""

    source: Source
    image: ImageInfo | None = None


@dataclass(frozen=True, slots=True)
class ImageState:
    """One row of the image list; `note` says what a person should know about it.

    `own`: another image is used in its place, of which the manifest's entry says nothing.
    """

    entry: ImageEntry
    choice: Choice
    note: str | None = None
    own: bool = False


def choose(
    entry: ImageEntry, *, recorded: ImageInfo | None, tagged: ImageInfo | None, pulled: ImageInfo | None
) -> Choice:
    """The image that counts, or how to get one.

    `recorded` is the store's image of the recorded build, `tagged` what the local tag points to (a build whose
    record was lost), `pulled` the store's image of the manifest's digest.
    """
    for image in (recorded, tagged, pulled):
        if image is not None:
            return Choice(Source.LOCAL, image)
    if entry.digest is not None:
        return Choice(Source.PULL)
    return Choice(Source.BUILD if entry.recipe else Source.NONE)


class ImageService:
    """The images of one engine. Callers that ask for the same image share the work; the last to leave ends it."""

    def __init__(
        self,
        engine: Engine,
        manifest: Mapping[str, ImageEntry],
        *,
        root: Path,
        record_file: Path,
        clock: Clock,
        instead_of: Callable[[str], str | None] = lambda _key: None,
    ) -> None:
        """`root` is the images folder; `record_file` remembers builds, its folder holds them while they are made.

        `instead_of` gives the reference that the user wants in the place of a key's image now, None for none.
        """
        self._engine = engine
        self.manifest = manifest
        self._root = root
        self._scratch = record_file.parent
        self._builds = Builds(record_file, clock)
        self._instead_of = instead_of
        self._flights: dict[str, _Flight] = {}

    async def list(self) -> list[ImageState]:
        """Every image of the manifest, here or not."""
        return [await self._state(entry) for entry in self.manifest.values()]

    async def verify(self, key: str) -> ImageState:
        """Check that the image is here and is what it should be.

        Raises image.missing, or image.digest_mismatch when the local tag points to something that hal0 did not build.
        """
        entry = self.entry(key)
        state = await self._state(entry)
        if state.choice.image is None:
            raise missing(entry)
        if self._instead_of(key) is not None:
            return state  # hal0 has built none of it
        recorded = (await self._builds.ids()).get(key)
        tagged = await self._engine.image_inspect(entry.local_tag)
        if recorded and tagged and tagged.id != recorded:
            raise Hal0Error(
                "image.digest_mismatch",
                f"cannot vouch for {key}: {entry.local_tag} is {tagged.id[:12]}, hal0 built {recorded[:12]}",
                hint=f"hal0ctl image build {key} --force",
            )
        return state

    async def ensure(self, key: str, on_progress: OnImageProgress) -> str:
        """The id of the image for a manifest key, or for an image reference of the user's own.

        Pulls or builds what is not here. Raises image.missing, image.build_failed, image.digest_mismatch or engine.*.
        """
        entry = self.manifest.get(key)
        if entry is None:
            return (await self._own(key, on_progress)).id
        if (own := self._instead_of(key)) is not None:
            return (await self._own(own, on_progress)).id
        choice = (await self._state(entry)).choice
        if choice.image is not None:
            return choice.image.id
        if choice.source is Source.PULL:
            try:
                return (await self.pull(key, on_progress)).id
            except Hal0Error as fault:
                if entry.recipe is None or fault.code == "image.digest_mismatch":
                    raise
                on_progress(ImageProgress(f"{fault.message}; building it here instead"))
        return (await self.build(key, on_progress)).id

    async def local(self, key: str) -> str | None:
        """The id that `ensure` would give now without fetching anything; None when the image is not here."""
        entry = self.manifest.get(key)
        if entry is not None:
            image = (await self._state(entry)).choice.image
        else:
            image = await self._engine.image_inspect(key)
        return None if image is None else image.id

    async def pull(self, key: str, on_progress: OnImageProgress, *, force: bool = False) -> ImageInfo:
        """Pull by digest; with `force` even when it is here. Raises image.missing when it is not published."""
        entry = self.entry(key)
        ref = entry.pull_ref
        if ref is None:
            raise missing(entry)
        if not force and (image := await self._engine.image_inspect(ref)) is not None:
            return image
        return await self._shared(f"pull {key}", lambda tell: self._pull(entry, ref, tell), on_progress)

    async def build(self, key: str, on_progress: OnImageProgress, *, force: bool = False) -> ImageInfo:
        """Build on this machine; with `force` even when a build is here. Raises image.missing, image.build_failed."""
        entry = self.entry(key)
        recipe = entry.recipe
        if recipe is None:
            raise missing(entry)
        if not force and (image := await self._built(entry)) is not None:
            return image
        return await self._shared(f"build {key}", lambda tell: self._build(entry, recipe, tell), on_progress)

    async def prune(self, keep: Collection[str]) -> Pruned:
        """Remove what hal0 has built or pulled and starts nothing from any more. `keep`: other images of slots."""
        former, states = await self._builds.former(), await self.list()
        named = [await self._engine.image_inspect(ref) for ref in keep]
        used = {image.id for image in (*named, *(state.choice.image for state in states)) if image is not None}
        images = await self._engine.image_list()
        pruned = await remove(self._engine, superseded(images, self.manifest.values(), former=former, used=used))
        here = {image.id for image in images} - {image.id for image in pruned.removed}
        await self._builds.forget(former - here)
        return pruned

    async def aclose(self) -> None:
        """End what is under way and wait for it."""
        await asyncio.gather(*(flight.end() for flight in self._flights.values()))

    def entry(self, key: str) -> ImageEntry:
        if (entry := self.manifest.get(key)) is None:
            known = ", ".join(self.manifest)
            raise Hal0Error("image.not_found", f"cannot find image {key!r}: the keys are {known}")
        return entry

    async def _state(self, entry: ImageEntry) -> ImageState:
        if (own := self._instead_of(entry.key)) is not None:
            image = await self._engine.image_inspect(own)
            source = Source.LOCAL if image else Source.PULL if _DIGEST in own else Source.NONE
            note = f"{own} is used instead, as [images] in hal0.toml says"
            return ImageState(entry, Choice(source, image), note, own=True)
        pulled = None if entry.pull_ref is None else await self._engine.image_inspect(entry.pull_ref)
        recorded, tagged = await self._recorded(entry), await self._engine.image_inspect(entry.local_tag)
        choice = choose(entry, recorded=recorded, tagged=tagged, pulled=pulled)
        return ImageState(entry, choice, _note(entry, choice))

    async def _recorded(self, entry: ImageEntry) -> ImageInfo | None:
        recorded = (await self._builds.ids()).get(entry.key)
        return None if recorded is None else await self._engine.image_inspect(recorded)

    async def _built(self, entry: ImageEntry) -> ImageInfo | None:
        return await self._recorded(entry) or await self._engine.image_inspect(entry.local_tag)

    async def _own(self, ref: str, on_progress: OnImageProgress) -> ImageInfo:
        if (image := await self._engine.image_inspect(ref)) is not None:
            return image
        if _DIGEST not in ref:
            raise Hal0Error(
                "image.missing",
                f"cannot use image {ref}: it is not here, and only images named by digest are pulled",
                hint=f"podman pull {ref}, or write it as NAME@sha256:...",
            )
        return await self._shared(f"pull {ref}", lambda tell: self._engine.image_pull(ref, tell), on_progress)

    async def _pull(self, entry: ImageEntry, ref: str, tell: OnImageProgress) -> ImageInfo:
        image = await self._engine.image_pull(ref, tell)
        if image.digests and not any(digest.endswith(f"@{entry.digest}") for digest in image.digests):
            raise Hal0Error(
                "image.digest_mismatch",
                f"cannot use image {entry.key}: {entry.digest} was asked for, {image.digests[0]} came",
            )
        return image

    async def _build(self, entry: ImageEntry, recipe: Recipe, tell: OnImageProgress) -> ImageInfo:
        image = await build_image(self._engine, entry, recipe, root=self._root, scratch=self._scratch, on_progress=tell)
        await self._builds.remember(entry.key, image.id, entry.local_tag)
        return image

    async def _shared(
        self, name: str, work: Callable[[OnImageProgress], Awaitable[ImageInfo]], on_progress: OnImageProgress
    ) -> ImageInfo:
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = _Flight(work)
        try:
            return await flight.join(on_progress)
        finally:
            if not flight.listeners and self._flights.get(name) is flight:
                del self._flights[name]
                await flight.end()


class _Flight:
    """One pull or build, and everyone who waits for it."""

    def __init__(self, work: Callable[[OnImageProgress], Awaitable[ImageInfo]]) -> None:
        self.listeners: list[OnImageProgress] = []
        self._task = asyncio.ensure_future(self._run(work))

    async def _run(self, work: Callable[[OnImageProgress], Awaitable[ImageInfo]]) -> ImageInfo:
        return await work(self._tell)

    def _tell(self, progress: ImageProgress) -> None:
        for listener in tuple(self.listeners):
            listener(progress)

    async def join(self, on_progress: OnImageProgress) -> ImageInfo:
        self.listeners.append(on_progress)
        try:
            return await asyncio.shield(self._task)
        finally:
            self.listeners.remove(on_progress)

    async def end(self) -> None:
        """Cancel what is not done, and wait for it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def missing(entry: ImageEntry) -> Hal0Error:
    """image.missing: how to get what is not here, or why it cannot be had."""
    ways = [way for way, there in (("pull", entry.digest), ("build", entry.recipe)) if there]
    said = f"it is not here; {' or '.join(ways)} it" if ways else entry.note or _NOWHERE
    hint = f"hal0ctl image {ways[-1]} {entry.key}" if ways else None
    return Hal0Error("image.missing", f"cannot use image {entry.key}: {said}", hint=hint)


def _note(entry: ImageEntry, choice: Choice) -> str | None:
    return entry.note or (_NOWHERE if choice.source is Source.NONE else None)
