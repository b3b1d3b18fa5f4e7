"""What is counted of requests and of slots' lives, for Prometheus: sums and histograms, bounded whatever is asked."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

from hal0.observe.activity import Activity
from hal0.observe.decisions import DecisionRecord
from hal0.observe.exposition import Family, Histogram

# Seconds; the records' own milliseconds are counted, and become seconds when they are told.
_WAITS: Final = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000)
_QUICK: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 500, 1000, 5000)
_LOADS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 180, 300, 600, 1200)
_MS: Final = 1e-3
# Targets are the configuration's, paths are the surface's; only statuses are somebody else's words.
_MOST_SERIES: Final = 2000
_OTHER: Final = "other"

_HISTOGRAMS: Final = (
    ("duration", _WAITS, "From the request's arrival to its end."),
    ("hold", _WAITS, "The wait at the slot's gate, of those that waited."),
    ("turn", _WAITS, "The part of the wait in which other slots had the memory."),
    ("connect", _QUICK, "Until the connection to the slot was there."),
    (
        "first_byte",
        _WAITS,
        "From sending the request to the first token of a stream, or to the head of another answer.",
    ),
    ("stream", _WAITS, "From the first token of a streamed answer to its end."),
    ("overhead", _QUICK, "hal0's own share until the head of the answer."),
)


_SERIES: Final[Callable[[DecisionRecord], tuple[str | None, str, int]]] = attrgetter("target", "path", "status")


class _Target:
    """Of one slot or upstream."""

    __slots__ = ("bytes_out", "completion_tokens", "histograms", "prompt_tokens")

    def __init__(self) -> None:
        self.histograms = [Histogram(bounds) for _, bounds, _ in _HISTOGRAMS]
        self.bytes_out = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def add(self, group: Sequence[DecisionRecord]) -> None:
        duration, hold, turn, connect, first_byte, stream, overhead = self.histograms
        duration.observe_all(_known(group, "total_ms"))
        connect.observe_all(_known(group, "connect_ms"))
        overhead.observe_all(_known(group, "overhead_ms"))
        first_byte.observe_all(_known(group, "first_byte_ms"))
        waited = [record for record in group if record.queue_position is not None]
        hold.observe_all(record.held_ms for record in waited)
        turn.observe_all(record.turn_ms for record in waited)
        stream.observe_all(_streamed(group))
        self.bytes_out += sum(_known(group, "bytes_out"))
        self.prompt_tokens += sum(_known(group, "prompt_tokens"))
        self.completion_tokens += sum(_known(group, "completion_tokens"))


def _known(group: Iterable[DecisionRecord], member: str) -> list[Any]:
    """The member's values, where it has one; in a loop of the interpreter's own, as it is done for every request."""
    return [value for value in map(attrgetter(member), group) if value is not None]


def _streamed(group: Iterable[DecisionRecord]) -> Iterator[float]:
    """From the first token to the end, in milliseconds, of those that came as a stream."""
    for record in group:
        if record.stream and record.first_byte_ms is not None:
            before = record.held_ms + (record.connect_ms or 0.0) + record.first_byte_ms
            yield max(record.total_ms - before, 0.0)


class RequestMeasures:
    """A sink of the decision log. `paths` are those that get a series of their own."""

    def __init__(self, paths: frozenset[str]) -> None:
        self._paths = paths
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._targets: dict[str, _Target] = {}

    def __call__(self, records: Sequence[DecisionRecord]) -> None:
        self._count(records)
        by_target: dict[str, list[DecisionRecord]] = {}
        for record in records:
            by_target.setdefault(record.target or "", []).append(record)
        for name, group in by_target.items():
            if (target := self._targets.get(name)) is None:
                target = self._targets.setdefault(name, _Target())
            target.add(group)

    def of(self, target: str) -> tuple[dict[str, int], int, int]:
        """Of one slot or upstream: requests by status, tokens of prompts, tokens of answers."""
        statuses: Counter[str] = Counter()
        for (name, _, status), count in self._counts.items():
            if name == target:
                statuses[status] += count
        found = self._targets.get(target)
        return dict(statuses), *((found.prompt_tokens, found.completion_tokens) if found else (0, 0))

    def _count(self, records: Sequence[DecisionRecord]) -> None:
        for (target, path, status), count in Counter(map(_SERIES, records)).items():
            key = (target or "", path if path in self._paths else _OTHER, str(status))
            if key not in self._counts and len(self._counts) >= _MOST_SERIES:
                key = (_OTHER, _OTHER, f"{status // 100}xx")
            self._counts[key] += count

    def families(self) -> Iterator[Family]:
        requests = Family("hal0_requests_total", "counter", "Requests that ended, by their true outcome (499: left).")
        for (name, path, status), count in self._counts.items():
            requests.add(count, target=name, path=path, status=status)
        yield requests
        for number, (word, _, told) in enumerate(_HISTOGRAMS):
            family = Family(f"hal0_request_{word}_seconds", "histogram", told)
            for name, target in self._targets.items():
                family.observed(target.histograms[number], scale=_MS, target=name)
            yield family
        for word, told, value in _SUMS:
            family = Family(f"hal0_{word}_total", "counter", told)
            for name, target in self._targets.items():
                family.add(value(target), target=name)
            yield family


_SUMS: Final[tuple[tuple[str, str, Callable[[_Target], int]], ...]] = (
    ("prompt_tokens", "Tokens of prompts, as the engines counted them.", lambda it: it.prompt_tokens),
    ("completion_tokens", "Tokens of answers, as the engines counted them.", lambda it: it.completion_tokens),
    ("response_bytes", "Bytes of answers sent to clients.", lambda it: it.bytes_out),
)


class SlotMeasures:
    """Reads loads, failures and restarts of slots off the entries of the activity feed."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._failed: set[str] = set()
        self._durations: dict[str, Histogram] = {}
        self._loads: Counter[str] = Counter()
        self._restarts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()

    def __call__(self, entry: Activity) -> None:
        slot = entry.subject
        match entry.kind:
            case "slot.loading":
                self._since[slot] = entry.at
                self._loads[slot] += 1
                self._restarts[slot] += slot in self._failed
            case "slot.ready":
                self._failed.discard(slot)
                if slot in self._since:
                    taken = entry.at - self._since.pop(slot)
                    self._durations.setdefault(slot, Histogram(_LOADS)).observe(taken)
            case "slot.failed":
                self._failures[slot] += 1
                self._failed.add(slot)
                self._since.pop(slot, None)
            case "slot.deleted":
                self._forget(slot)
            case _:
                pass  # no slot's life

    def _forget(self, slot: str) -> None:
        self._failed.discard(slot)
        known: tuple[dict[str, float], dict[str, Histogram], Counter[str], Counter[str], Counter[str]]
        known = (self._since, self._durations, self._loads, self._restarts, self._failures)
        for values in known:
            values.pop(slot, None)

    def families(self) -> Iterator[Family]:
        counted = (
            ("loads", "Loads that began.", self._loads),
            ("restarts", "Of these, loads after a failure.", self._restarts),
            ("failures", "Starts and running engines that failed.", self._failures),
        )
        for word, told, counts in counted:
            family = Family(f"hal0_slot_{word}_total", "counter", told)
            for slot, count in counts.items():
                family.add(count, slot=slot)
            yield family
        durations = Family(
            "hal0_slot_load_duration_seconds", "histogram", "From a load's begin until the slot is ready."
        )
        for slot, histogram in self._durations.items():
            durations.observed(histogram, slot=slot)
        yield durations
