"""How long work is shown: one line redrawn on a terminal, a few plain lines elsewhere; always on stderr."""

import shutil
import sys
import time
from dataclasses import dataclass
from typing import Final, Protocol, TextIO

from hal0.cli import units
from hal0.cli.session import Session
from hal0.client import Json

BAR_CELLS: Final = 28
FEWEST_BAR_CELLS: Final = 8  # a shorter bar shows less than the percentage beside it
GAP: Final = "   "
LABEL_CELLS: Final = 6  # "Unload"
PLAIN_EVERY_S: Final = 15.0
PLAIN_PARTS: Final = 10  # a line for each tenth
CLEAR_LINE: Final = "\r\x1b[K"

_LABELS: Final = {"pulling": "Pull", "starting": "Start", "warming": "Warm", "unloading": "Unload"}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the work. `since` is seconds since the epoch, `expected_s` this slot's own history."""

    label: str
    since: float
    fraction: float | None = None
    message: str = ""
    expected_s: float | None = None
    held: int = 0


def step_of_slot(slot: Json) -> Step | None:
    """The step that a slot is in; None while it rests."""
    label = _LABELS.get(slot["state"])
    if label is None:
        return None
    shown = slot["progress"] or {"fraction": None, "message": ""}
    expected = slot["expected_load_s"] if label == "Warm" else None
    return Step(label, slot["since"], shown["fraction"], shown["message"], expected, slot["queued"])


def step_of_job(job: Json) -> Step:
    """The one step of work that is not a slot's: images, downloads, cards."""
    shown = job["progress"] or {"fraction": None, "message": job["state"]}
    label = job["kind"].rpartition(".")[2].capitalize()
    pace = shown.get("pace")
    words = GAP.join(filter(None, (shown["message"], pace_words(pace) if pace else "")))
    return Step(label, job["started_at"], shown["fraction"], words)


def pace_words(pace: Json) -> str:
    """`7.6 of 18.6 GB   38.4 MB/s   4 min 46 s left`: as much of it as is known."""
    total, rate, left_s = pace["total_bytes"], pace["bytes_per_s"], pace["eta_s"]
    parts = [units.size(pace["done_bytes"]) + (f" of {units.size(total)}" if total is not None else "")]
    parts += [f"{units.size(rate)}/s"] if rate else []
    parts += [f"{units.duration(left_s)} left"] if left_s is not None else []
    return GAP.join(parts)


def live_line(step: Step, now: float, width: int) -> str:
    """`Warm   57%   [#####.....]  37/65 layers   18 s of ~31 s   3 requests held`: the bar gives way to the words."""
    took = units.duration(now - step.since)
    timing = f"{took} of ~{units.duration(step.expected_s)}" if step.expected_s else took
    held = f"{step.held} request{'s' * (step.held != 1)} held" if step.held else ""
    percent = "..." if step.fraction is None else f"{step.fraction:.0%}"
    words = GAP.join(part for part in (units.plain(step.message).replace("\n", " "), timing, held) if part)
    head = f"{step.label:<{LABEL_CELLS}} {percent:<5}"
    cells = min(BAR_CELLS, width - 1 - len(head) - len(words) - len(GAP) - len(" []"))
    if step.fraction is not None and cells >= FEWEST_BAR_CELLS:
        full = round(min(step.fraction, 1.0) * cells)
        words = f"[{'#' * full}{'.' * (cells - full)}]{GAP}{words}"
    return f"{head} {words}"[: width - 1]


def result_line(label: str, result: str, text: str) -> str:
    return f"{label:<{LABEL_CELLS}} {result:<5} {text}".rstrip()


class Display(Protocol):
    def show(self, step: Step) -> None:
        """The step as it is now; also called when only time has passed."""

    def finish(self, label: str, result: str, text: str) -> None:
        """A step is over: `result` is ok or fail."""

    def clear(self) -> None:
        """Leave the terminal as somebody else's line finds it."""


class Live:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, step: Step) -> None:
        width = shutil.get_terminal_size().columns
        self._write(CLEAR_LINE + live_line(step, time.time(), width))

    def finish(self, label: str, result: str, text: str) -> None:
        self._write(CLEAR_LINE + result_line(label, result, text) + "\n")

    def clear(self) -> None:
        self._write(CLEAR_LINE)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Plain:
    """A line when a step begins, at each tenth or 15 s of it, and at its end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._label = ""
        self._part = 0
        self._at = 0.0

    def show(self, step: Step) -> None:
        part = int((step.fraction or 0.0) * PLAIN_PARTS + 1e-9)  # 0.3 * 10 may fall short of 3
        due = time.monotonic() - self._at >= PLAIN_EVERY_S or part > self._part
        if step.label == self._label and not due:
            return
        self._label, self._part, self._at = step.label, part, time.monotonic()
        percent = f"{step.fraction:.0%}" if step.fraction is not None else "..."
        self._line(result_line(step.label, percent, units.plain(step.message).replace("\n", " ")))

    def finish(self, label: str, result: str, text: str) -> None:
        self._label = ""
        self._line(result_line(label, result, text))

    def clear(self) -> None:
        """Whole lines leave nothing to clear."""

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class Silent:
    def show(self, step: Step) -> None:
        """Nothing is wanted."""

    def finish(self, label: str, result: str, text: str) -> None:
        """Nothing is wanted."""

    def clear(self) -> None:
        """Nothing was written."""


def display_for(session: Session) -> Display:
    if session.quiet or session.progress == "none":
        return Silent()
    return Live(sys.stderr) if session.live else Plain(sys.stderr)


class Steps:
    """Tells the display when one step gave way to the next; the times are hal0's own."""

    def __init__(self, display: Display, *, fresh_load: bool = False) -> None:
        self._display = display
        self._current: Step | None = None
        self._fresh = fresh_load
        self._failed = False

    def see(self, step: Step | None, *, at: float) -> None:
        """`at`: when the new step (or rest) began, seconds since the epoch."""
        if self._current is not None and (step is None or step.label != self._current.label):
            # A load that turns to unloading has failed in the step before, and is being cleared away.
            gave_up = step is not None and step.label == "Unload"
            self._finish("fail" if gave_up else "ok", at)
            self._failed = self._failed or gave_up
        if step is None:
            return
        if self._fresh and step.label == "Start":
            self._display.finish("Pull", "ok", "cached")
        self._fresh = self._fresh and step.label == "Unload"
        self._current = step
        self._display.show(step)

    def tick(self) -> None:
        if self._current is not None:
            self._display.show(self._current)

    def fail(self, at: float) -> None:
        """The work ended badly: what was going on is marked so, unless it was only clearing away."""
        self._finish("ok" if self._failed else "fail", at)

    def leave(self) -> None:
        self._display.clear()

    def _finish(self, result: str, at: float) -> None:
        if self._current is not None:
            self._display.finish(self._current.label, result, units.duration(at - self._current.since))
            self._current = None
