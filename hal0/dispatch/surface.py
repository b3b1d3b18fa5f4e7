"""The `/v1` paths that are dispatched, as one table: what each needs of a slot and how its clients speak."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hal0.vocab import Capability


class Dialect(StrEnum):
    """How a client of the path expects errors, in a body and in an event stream."""

    OPENAI = "openai"  # {"error": ...}; in a stream an unnamed event
    RESPONSES = "responses"  # the same body; in a stream an event named `error`
    ANTHROPIC = "anthropic"  # {"type": "error", "error": ...}; in a stream an event named `error`


@dataclass(frozen=True, slots=True)
class PathRow:
    """One dispatched path. `path` is below `/v1`; `keepalive`: comments may fill the wait of a streamed request."""

    path: str
    capability: Capability
    summary: str
    dialect: Dialect = Dialect.OPENAI
    keepalive: bool = False


SURFACE: Final = (
    PathRow("/chat/completions", Capability.CHAT, "Answer a conversation.", keepalive=True),
    PathRow("/completions", Capability.COMPLETION, "Continue a text."),
    PathRow("/embeddings", Capability.EMBED, "Turn texts into vectors."),
)

# What a model that serves the key can also answer: a chat model continues plain text, and says itself
# whether it reads images.
ANSWERS: Final = {
    Capability.CHAT: frozenset({Capability.CHAT, Capability.COMPLETION, Capability.VISION}),
    Capability.VISION: frozenset({Capability.CHAT, Capability.COMPLETION, Capability.VISION}),
}


def answers(served: Capability, needed: Capability) -> bool:
    """Whether a model that serves one capability can answer a path that needs another."""
    return needed is served or needed in ANSWERS.get(served, ())
