"""The transition table as a Mermaid state diagram, for design.md."""

from hal0.slots.state import TRANSITIONS
from hal0.vocab import Phase


def state_diagram() -> str:
    """One line per transition, in the order of the phases."""
    arrows = [f"    {phase} --> {after}" for phase in Phase for after in Phase if after in TRANSITIONS[phase]]
    return "\n".join(["stateDiagram-v2", "    [*] --> offline", *arrows])
