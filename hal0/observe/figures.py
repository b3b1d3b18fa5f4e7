"""What busy engines are doing now: tokens a second, context in use, requests that wait inside of them.

Asked only while a slot answers somebody, and never waited for: an engine in the middle of a long prompt answers when
that is done, and its last words stand until then.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import aiohttp

from hal0.lib import jsonio
from hal0.lib.clock import Clock
from hal0.observe.engines import samples
from hal0.providers.base import Endpoint
from hal0.wire.slots import LiveView

_LOOK_EVERY_S: Final = 2.0
_SAME_WORK_S: Final = 2.5 * _LOOK_EVERY_S  # what was written since an older look was not written all the time
_DEADLINE_S: Final = 1.0
_KEPT_S: Final = 10.0  # figures of a moment that is over tell nothing
_MOST_BYTES: Final = 1 << 20
_READ: Final = ("n_prompt_tokens_processed", "n_prompt_tokens_cache")


@dataclass(frozen=True, slots=True)
class Figures:
    """At `at` of the event loop's clock; None: the engine does not tell. `context_used` in tokens, of all requests.

    `written` are the tokens of each answer under way, by the engine's numbers for it.
    """

    at: float
    tokens_per_second: float | None
    prompt_tokens_per_second: float | None
    deferred: int | None
    context_used: int | None
    written: Mapping[str, int] = field(default_factory=dict)
    told_at: float = 0.0  # seconds since the epoch


class LiveFigures:
    """`endpoints` are the engines that run now, `busy` the slots that answer somebody."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoints: Callable[[], Mapping[str, Endpoint]],
        busy: Callable[[], Iterable[str]],
        clock: Clock,
    ) -> None:
        self._session = session
        self._endpoints = endpoints
        self._busy = busy
        self._clock = clock
        self._known: dict[str, Figures] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def of(self, slot: str) -> Figures | None:
        """What is known of a busy slot; None of one that is not, or does not tell."""
        found = self._known.get(slot)
        return found if found is not None and asyncio.get_running_loop().time() < found.at + _KEPT_S else None

    def view(self, slot: str) -> LiveView | None:
        """The same, as it is shown."""
        found = self.of(slot)
        if found is None:
            return None
        return LiveView(
            tokens_per_second=found.tokens_per_second,
            prompt_tokens_per_second=found.prompt_tokens_per_second,
            deferred=found.deferred,
            context_used=found.context_used,
            at=found.told_at,
        )

    async def keep_looking(self) -> None:
        """For ever. Every engine has a question of its own under way, so that none waits for another."""
        try:
            while True:
                endpoints, busy = self._endpoints(), frozenset(self._busy())
                self._known = {slot: it for slot, it in self._known.items() if slot in busy}
                for slot in busy:
                    if slot in endpoints and slot not in self._asking:
                        self._asking[slot] = asyncio.create_task(self._ask(slot, endpoints[slot]))
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            for task in self._asking.values():
                task.cancel()

    async def _ask(self, slot: str, endpoint: Endpoint) -> None:
        try:
            metrics, slots = await asyncio.gather(self._read(endpoint, "/metrics"), self._read(endpoint, "/slots"))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return
        finally:
            del self._asking[slot]
        if metrics is not None or slots is not None:
            now, before = asyncio.get_running_loop().time(), self._known.get(slot)
            found = figures(metrics or b"", slots or b"", now, before)
            self._known[slot] = replace(found, told_at=self._clock.now())

    async def _read(self, endpoint: Endpoint, path: str) -> bytes | None:
        """None from an engine that has no such path."""
        headers = {"Authorization": f"Bearer {endpoint.secret}"}
        url = endpoint.base_url + path
        async with (
            asyncio.timeout(_DEADLINE_S),
            self._session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                return None
            data = b""
            while len(data) < _MOST_BYTES and (piece := await response.content.read(_MOST_BYTES)):
                data += piece
            return data


def figures(metrics: bytes, slots: bytes, at: float, before: Figures | None = None) -> Figures:
    """From llama-server's `/metrics` and `/slots`; what they do not say is None. Pure.

    Its own rates are of answers that have ended since they were asked for last: nothing while one is being written. So
    what was written since the look `before` comes first.
    """
    told = {name.removeprefix("llamacpp:"): float(value) for name, _, value in samples(_lines(metrics))}
    said = {name: value for name, value in told.items() if math.isfinite(value)}
    deferred, busy = said.get("requests_deferred"), _busy(slots)
    written = {f"{slot.get('id')} {slot.get('id_task')}": _decoded(slot) for slot in busy or ()}
    rate = _rate(written, at, before)
    return Figures(
        at,
        said.get("predicted_tokens_seconds") if rate is None else rate,
        said.get("prompt_tokens_seconds"),
        None if deferred is None else int(deferred),
        _context_used(busy),
        written,
    )


def _rate(written: Mapping[str, int], at: float, before: Figures | None) -> float | None:
    """Tokens a second since `before`, of the answers that are still under way; None: that was too long ago."""
    if before is None or not written or not 0 < at - before.at <= _SAME_WORK_S:
        return None
    return sum(count - before.written.get(answer, 0) for answer, count in written.items()) / (at - before.at)


def _lines(text: bytes) -> list[str]:
    return text.decode(errors="replace").splitlines()


def _busy(slots: bytes) -> list[Mapping[str, Any]] | None:
    """Those that work; None where nobody says that."""
    try:
        return [slot for slot in jsonio.loads(slots) if slot["is_processing"]]
    except (jsonio.JSONDecodeError, KeyError, TypeError):
        return None


def _context_used(busy: list[Mapping[str, Any]] | None) -> int | None:
    """Tokens of the prompts under way and of what has been written to them."""
    if busy is None:
        return None
    told = [count for slot in busy if (count := _tokens(slot)) is not None]
    return sum(told) if told or not busy else None


def _tokens(slot: Mapping[str, Any]) -> int | None:
    """Some builds count what is written among the prompt's tokens, others beside them: never both."""
    whole, read = _counts(slot, "n_prompt_tokens", "n_past"), _counts(slot, *_READ)
    if not whole and not read:
        return None
    return max([*whole, sum(read) + _decoded(slot)])


def _counts(slot: Mapping[str, Any], *names: str) -> list[int]:
    return [slot[name] for name in names if isinstance(slot.get(name), int)]


def _decoded(slot: Mapping[str, Any]) -> int:
    """Tokens that were written so far."""
    following = slot.get("next_token")
    first = following[0] if isinstance(following, list) and following else following
    written = first.get("n_decoded", 0) if isinstance(first, Mapping) else 0
    return written if isinstance(written, int) else 0
