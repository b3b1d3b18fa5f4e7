"""Progress as lines of text: what is drawn at which width, and how plain lines are thinned out."""

import io

import pytest

from hal0.cli.progress import Live, Plain, Step, Steps, live_line, step_of_slot
from hal0.vocab import SlotState
from tests.fakes.api_views import slot_view

WARM = Step("Warm", since=0.0, fraction=0.57, message="37/65 layers", expected_s=31.0, held=3)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (120, "Warm   57%   [################............]   37/65 layers   18 s of ~31 s   3 requests held"),
        (80, "Warm   57%   [#########......]   37/65 layers   18 s of ~31 s   3 requests held"),
        (60, "Warm   57%   37/65 layers   18 s of ~31 s   3 requests held"),
        (20, "Warm   57%   37/65 "),
    ],
)
def test_the_bar_gives_way_to_the_words(width: int, line: str) -> None:
    assert live_line(WARM, 18.0, width) == line
    assert len(line) < width


def test_what_nobody_knows_is_not_drawn() -> None:
    assert live_line(Step("Start", since=0.0), 3.1, 80) == "Start  ...   3.1 s"


def test_plain_lines_come_at_each_tenth() -> None:
    out = io.StringIO()
    plain = Plain(out)
    for percent in range(0, 101, 2):
        plain.show(Step("Pull", 0.0, percent / 100))
    assert [line.split()[1] for line in out.getvalue().splitlines()] == [f"{p}%" for p in range(0, 101, 10)]


@pytest.mark.parametrize(
    ("states", "finished"),
    [
        ([SlotState.STARTING, SlotState.WARMING, SlotState.READY], ["Pull cached", "Start 2.0 s", "Warm 2.0 s"]),
        ([SlotState.PULLING, SlotState.STARTING, SlotState.READY], ["Pull 2.0 s", "Start 2.0 s"]),
        ([SlotState.UNLOADING, SlotState.STARTING, SlotState.READY], ["Unload 2.0 s", "Pull cached", "Start 2.0 s"]),
        ([SlotState.READY], []),
    ],
)
def test_steps_end_with_the_time_they_took(states: list[SlotState], finished: list[str]) -> None:
    out = io.StringIO()
    steps = Steps(Live(out), fresh_load=True)
    for i, state in enumerate(states):
        slot = slot_view("primary", state, since=2.0 * i).model_dump(mode="json")
        steps.see(step_of_slot(slot), at=slot["since"])
    lines = [line.rpartition("\x1b[K")[2] for line in out.getvalue().split("\n")[:-1]]
    lines = [line for line in lines if " ok " in line]
    assert [" ".join(line.replace("ok", "").split()) for line in lines] == finished


def test_a_failed_step_is_marked() -> None:
    out = io.StringIO()
    steps = Steps(Plain(out))
    steps.see(Step("Warm", 0.0, 0.1), at=0.0)
    steps.fail(6.0)
    assert out.getvalue().splitlines()[-1] == "Warm   fail  6.0 s"


def test_a_load_that_is_cleared_away_failed_in_the_step_before() -> None:
    out = io.StringIO()
    steps = Steps(Plain(out))
    steps.see(Step("Start", 0.0), at=0.0)
    steps.see(Step("Unload", 2.0), at=2.0)
    steps.fail(3.0)
    ends = [line for line in out.getvalue().splitlines() if "..." not in line]
    assert ends == ["Start  fail  2.0 s", "Unload ok    1.0 s"]
