"""Which tags FLM knows: asked of the image that is here, remembered until it is another one."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from hal0.engine.base import Engine
from hal0.engine.errand import printed
from hal0.errors import Hal0Error
from hal0.events.bus import Bus, Topic
from hal0.lib.atomic import write_atomic
from hal0.lib.jsonio import JSONDecodeError, dumps_pretty, loads
from hal0.models.tags import Tag
from hal0.providers.flm_tags import NotAList, parse

_log: Final = logging.getLogger(__name__)
_SCHEMA: Final = 1
IMAGE_KEY: Final = "flm"
_LIST: Final = ("list", "-j")
# An image that came in by another way than hal0's jobs is seen after this time.
_LOOK_EVERY_S: Final = 60.0

Learn = Callable[[tuple[Tag, ...]], None]


class Images(Protocol):
    async def local(self, key: str) -> str | None: ...


class TagBook:
    """`learn` is told the tags, in a thread, whenever they are others."""

    def __init__(self, engine: Engine, images: Images, record_file: Path, learn: Learn, *, instance: str) -> None:
        self._engine = engine
        self._images = images
        self._file = record_file
        self._learn = learn
        self._instance = instance
        self._image: str | None = None  # whose list is known

    def recall(self) -> None:
        """What was known when hal0 ran last. Blocking; a damaged file is asked for anew."""
        try:
            record = loads(self._file.read_bytes())
            if record["schema"] == _SCHEMA:
                self._learn(parse(record["printed"]))
                self._image = str(record["image"])
        except (OSError, JSONDecodeError, KeyError, TypeError, NotAList):
            return

    async def keep_up(self, bus: Bus) -> None:
        """For ever: look when an image has come, and now and then."""
        async with bus.listen(topics=frozenset({Topic.IMAGE})) as listening:
            while True:
                try:
                    await self.look()
                except Hal0Error as error:
                    _log.warning("cannot learn which models FLM knows: %s", error.message)
                try:
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await listening.next()
                except TimeoutError:
                    continue

    async def look(self) -> None:
        """Ask the image, when it is another one than before. Raises what the engine raises, or state.write_failed."""
        image = await self._images.local(IMAGE_KEY)
        if image is None or image == self._image:
            return
        try:
            text = await printed(self._engine, image, _LIST, instance=self._instance)
        except Hal0Error as error:
            if error.code == "engine.failed":
                self._image = image
            raise
        self._image = image  # one that cannot tell is not asked again every minute; a podman that stalled may be back
        try:
            tags = parse(text)
        except NotAList as error:
            raise Hal0Error("engine.failed", f"cannot read FLM's list of models: {error.said!r}") from error
        await asyncio.to_thread(self._keep, image, text, tags)

    def _keep(self, image: str, text: str, tags: tuple[Tag, ...]) -> None:
        self._learn(tags)
        try:
            write_atomic(self._file, dumps_pretty({"schema": _SCHEMA, "image": image, "printed": text}))
        except OSError as error:
            raise Hal0Error("state.write_failed", f"cannot write {self._file}: {error.strerror}") from error
