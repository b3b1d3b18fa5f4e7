"""The engines' own metrics, fetched when somebody looks, and told with the slot that they are of."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from hal0.observe.exposition import Family
from hal0.providers.base import Endpoint

_DEADLINE_S: Final = 1.0  # a scraper waits ten; an engine in the middle of a prompt may not answer at all
_FRESH_S: Final = 5.0  # two scrapers, or one that is impatient, cost the engine one look
_KEPT_S: Final = 60.0  # what a busy engine said last is better than a gap
_MOST_BYTES: Final = 256 << 10
_MOST_SAMPLES: Final = 1000
_NONE: Final = frozenset({404, 405, 501})  # this engine has no metrics

_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SAMPLE: Final = re.compile(
    rf'({_NAME})(?:\{{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*)\}})?[ \t]+(\S+)(?:[ \t]+-?\d+)?\Z'
)
_META: Final = re.compile(rf"# (HELP|TYPE) ({_NAME}) (.*)\Z")
_KINDS: Final = {"counter": "counter", "gauge": "gauge", "histogram": "histogram", "summary": "summary"}
_PARTS: Final = ("_bucket", "_sum", "_count")
# Words of hal0's own that no engine speaks for.
_RESERVED: Final = ("hal0_", "process_")
_OWN_SLOT: Final = re.compile(r'(^|,)slot="')


@dataclass(slots=True)
class _Said:
    """What an engine said, and when it was asked last; `text` None: it has no metrics, or has not answered yet."""

    endpoint: Endpoint
    asked_at: float
    said_at: float
    text: str | None
    up: bool | None


class EngineMetrics:
    """`endpoints` are the engines that run now, by slot."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoints: Callable[[], Mapping[str, Endpoint]],
        *,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._session = session
        self._deadline_s = deadline_s
        self._endpoints = endpoints
        self._said: dict[str, _Said] = {}
        self._asking = asyncio.Lock()

    async def families(self) -> list[Family]:
        """Within the deadline, whatever the engines do."""
        async with self._asking:  # whoever comes meanwhile shares the answer
            now, endpoints = time.monotonic(), self._endpoints()
            self._said = {slot: it for slot, it in self._said.items() if endpoints.get(slot) == it.endpoint}
            stale = [slot for slot in endpoints if slot not in self._said or now > self._said[slot].asked_at + _FRESH_S]
            await asyncio.gather(*(self._ask(slot, endpoints[slot]) for slot in stale))
        now = time.monotonic()
        up = Family("hal0_engine_metrics_up", "gauge", "Whether the slot's engine told its metrics when it was asked.")
        for slot, it in self._said.items():
            if it.up is not None:
                up.add(it.up, slot=slot)
        texts = {s: it.text for s, it in self._said.items() if it.text is not None and now < it.said_at + _KEPT_S}
        return [up, *relabelled(texts)]

    async def told(self, slot: str) -> dict[str, float]:
        """What the slot's engine says of itself now, by name and labels; nothing when it has no metrics."""
        await self.families()
        said = self._said.get(slot)
        lines = said.text.splitlines() if said is not None and said.text is not None else []
        return {f"{name}{{{labels}}}" if labels else name: float(value) for name, labels, value in samples(lines)}

    async def _ask(self, slot: str, endpoint: Endpoint) -> None:
        asked_at, before = time.monotonic(), self._said.get(slot)
        try:
            status, text = await self._fetch(endpoint)
        except (aiohttp.ClientError, TimeoutError, OSError):
            status, text = 0, None
        if text is None and before is not None and status not in _NONE:
            self._said[slot] = _Said(endpoint, asked_at, before.said_at, before.text, up=False)
        else:
            up = None if status in _NONE else text is not None
            self._said[slot] = _Said(endpoint, asked_at, asked_at, text, up)

    async def _fetch(self, endpoint: Endpoint) -> tuple[int, str | None]:
        headers = {"Authorization": f"Bearer {endpoint.secret}"}
        async with (
            asyncio.timeout(self._deadline_s),
            self._session.get(f"{endpoint.base_url}/metrics", headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                return response.status, None
            data = b""
            while len(data) < _MOST_BYTES and (piece := await response.content.read(_MOST_BYTES)):
                data += piece
            return 200, data[:_MOST_BYTES].decode(errors="replace")


def relabelled(texts: Mapping[str, str]) -> Iterator[Family]:
    """Several engines' families as one of each name, every sample with its slot. What is no sample is left out."""
    families: dict[str, Family] = {}
    for slot, text in texts.items():
        lines = text.splitlines()
        meta = _meta(lines)
        for name, labels, value in samples(lines):
            of = _family_of(name, meta)
            if of.startswith(_RESERVED):
                continue
            kind, told = meta.get(of, ("untyped", ""))
            family = families.setdefault(of, Family(of, kind, told))  # type: ignore[arg-type]
            others = _OWN_SLOT.sub(r'\1exported_slot="', labels).rstrip(",")
            family.lines.append(f'{name}{{slot="{slot}"{"," if others else ""}{others}}} {value}')
    yield from families.values()


def _meta(lines: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Kind and help by family."""
    found: dict[str, tuple[str, str]] = {}
    for line in lines:
        if match := _META.match(line):
            what, name, words = match.groups()
            kind, told = found.get(name, ("untyped", ""))
            found[name] = (kind, words) if what == "HELP" else (_KINDS.get(words.strip(), "untyped"), told)
    return found


def samples(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Name, labels and value of every sample in Prometheus' text; what is none is passed over."""
    count = 0
    for line in lines:
        match = _SAMPLE.match(line.strip())
        if match is None or not _is_number(match[3]):
            continue
        count += 1
        if count > _MOST_SAMPLES:
            return
        yield match[1], match[2] or "", match[3]


def _family_of(name: str, meta: Mapping[str, tuple[str, str]]) -> str:
    for part in _PARTS:
        stem = name.removesuffix(part)
        if stem != name and meta.get(stem, ("",))[0] in ("histogram", "summary"):
            return stem
    return name


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
