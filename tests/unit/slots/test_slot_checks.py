"""What `hal0ctl doctor` says of slots: the reason, and the command that helps."""

import pytest

from hal0.config.slots import FallbackConfig, SlotConfig
from hal0.engine.checks import Check, CheckState
from hal0.slots.checks import checks
from hal0.slots.record import Failure, Fallback
from hal0.slots.shown import Shown
from hal0.slots.state import NEVER
from hal0.slots.view import view_of
from hal0.vocab import FailureClass, Phase
from tests.unit.slots.lives import ENGINE, NOW, life, ready, unloaded
from tests.unit.slots.test_timers_view import shown


def failed(code: str, message: str = "it is so") -> Shown:
    fault = Failure(FailureClass.PERMANENT, code, message, NOW)
    return shown(life(Phase.ERROR, fault=fault, retry_at=NEVER))


FALLEN = shown(
    ready(fallback=Fallback(1, "it was too large", NOW, "one")),
    config=SlotConfig(fallbacks=(FallbackConfig(context_size=512),)),
)
TABLE = {
    "a model that does not load": (failed("slot.load_failed"), "fail", "it is so", "hal0ctl slot show primary"),
    "memory": (failed("slot.memory_budget"), "fail", "it is so", "Unload a slot, or use a smaller model."),
    "no way in circles": (failed("device.permission"), "fail", "it is so", "hal0ctl slot show primary"),
    "a full disk": (shown(ready(), unsaved=True), "fail", "its state cannot be written to disk", "free space on"),
    "stale": (shown(ready(stale="another image")), "warn", "another image", "hal0ctl slot restart primary"),
    "a fallback": (FALLEN, "warn", "started by fallback 1 of 1 (context_size 512): it was too large", ""),
    "another model than the file says": (
        shown(ready("two"), config=SlotConfig(model="one")), "ok", "the configuration's seed is one", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("at", "state", "message", "fix"), TABLE.values(), ids=TABLE)
def test_what_needs_a_look_is_said_with_what_helps(at: Shown, state: str, message: str, fix: str) -> None:
    [check] = checks([view_of(at)], engine_up=True)
    assert (check.name, check.state.value) == ("slot primary", state)
    assert message in check.message
    assert check.fix.startswith(fix)


def test_all_well_is_one_row() -> None:
    views = [view_of(shown(ready())), view_of(shown(life(Phase.OFFLINE, unloaded())))]
    assert checks(views, engine_up=True) == [Check("slots", CheckState.OK, "2 configured, 1 loaded, nothing is wrong")]


def test_while_podman_is_away_that_is_not_said_for_every_slot() -> None:
    waits = view_of(shown(life(Phase.ERROR, fault=ENGINE, retry_at=NEVER)))
    assert [check.name for check in checks([waits], engine_up=False)] == ["slots"]
    assert [check.name for check in checks([waits], engine_up=True)] == ["slot primary"]
