"""Images of hal0's that nothing starts from any more: which they are, and taking them out of podman's store."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hal0.engine.base import Engine, ImageInfo
from hal0.engine.manifest import ImageEntry
from hal0.errors import Hal0Error


@dataclass(frozen=True, slots=True)
class Pruned:
    """`kept`: what had to stay, each with podman's reason: a container uses it."""

    removed: tuple[ImageInfo, ...]
    kept: tuple[tuple[ImageInfo, str], ...]


def superseded(
    images: Iterable[ImageInfo], entries: Collection[ImageEntry], *, former: Collection[str], used: Collection[str]
) -> list[ImageInfo]:
    """Former builds (by id), and what was pulled for an earlier manifest. Pure.

    Never what has a tag: somebody has named it; nor what is `used` (ids); nor what hal0 did not bring.
    """
    published = {entry.ref for entry in entries}
    wanted = {entry.pull_ref for entry in entries}

    def pulled_before(image: ImageInfo) -> bool:
        brought = any(digest.partition("@")[0] in published for digest in image.digests)
        return brought and wanted.isdisjoint(image.digests)

    left = (image for image in images if not image.tags and image.id not in used)
    return [image for image in left if image.id in former or pulled_before(image)]


async def remove(engine: Engine, images: Iterable[ImageInfo]) -> Pruned:
    """One after the other. Raises engine.unreachable or engine.timeout; what is gone by then is gone."""
    removed: list[ImageInfo] = []
    kept: list[tuple[ImageInfo, str]] = []
    for image in images:
        try:
            await engine.image_remove(image.id)
            removed.append(image)
        except Hal0Error as fault:
            if fault.code != "engine.failed":
                raise
            kept.append((image, fault.message))
    return Pruned(tuple(removed), tuple(kept))
