"""The documented lifecycle is the one in the code: the diagram, the table, the effects, the failure codes."""

import re
from pathlib import Path

from hal0.slots.diagram import state_diagram
from hal0.slots.happenings import Happening
from hal0.slots.state import TRANSITIONS, Effect
from hal0.vocab import Phase

DESIGN = Path(__file__).parents[2] / "hal0" / "slots" / "design.md"

# What users may rely on. Changing it is a change of behaviour, never of code alone.
PROMISED = {
    "offline": {"pulling", "starting"},
    "pulling": {"starting", "offline", "error"},
    "starting": {"warming", "unloading", "error"},
    "warming": {"ready", "unloading", "error"},
    "ready": {"unloading", "error"},
    "unloading": {"offline", "starting", "pulling", "error"},
    "error": {"pulling", "starting", "unloading", "offline"},
}


def test_the_table_is_the_promised_one() -> None:
    assert {str(phase): {str(after) for after in afters} for phase, afters in TRANSITIONS.items()} == PROMISED


def test_the_diagram_in_the_design_notes_is_the_tables() -> None:
    drawn = re.findall(r"```mermaid\n(.*?)\n```", DESIGN.read_text(), flags=re.DOTALL)
    assert drawn == [state_diagram()], "replace the diagram in design.md by the output of state_diagram()"


def test_the_diagram_draws_every_transition_once() -> None:
    arrows = re.findall(r"^    (\w+) --> (\w+)$", state_diagram(), flags=re.MULTILINE)
    assert len(arrows) == len(set(arrows)) == sum(len(afters) for afters in TRANSITIONS.values())
    assert {Phase(before) for before, _ in arrows} == set(Phase)


def test_every_effect_and_happening_is_explained() -> None:
    text = DESIGN.read_text()
    names = [f"`{effect}`" for effect in Effect] + [f"`{kind.__name__}`" for kind in Happening.__args__]
    assert [name for name in names if name not in text] == []
