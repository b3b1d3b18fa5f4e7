"""The dispatched paths as one table: what each needs of a slot, what it takes, and how its clients speak."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from hal0.vocab import Capability


class Dialect(StrEnum):
    """How a client of the path expects errors, in a body and in an event stream."""

    OPENAI = "openai"  # {"error": ...}; in a stream an unnamed event
    RESPONSES = "responses"  # the same body; in a stream an event named `error`
    ANTHROPIC = "anthropic"  # {"type": "error", "error": ...}; in a stream an event named `error`


class BodyKind(StrEnum):
    """What a request brings along."""

    JSON = "json"  # one object, whatever its Content-Type says
    FORM = "form"  # multipart/form-data, or one JSON object that says so
    NONE = "none"  # nothing
    RAW = "raw"  # anything; hal0 looks at none of it


_BOTH: Final = ("/v1", "")  # llama-server's clients leave `/v1` out
_BARE: Final = ("",)


@dataclass(frozen=True, slots=True)
class PathRow:
    """One dispatched path. `path` is what providers know it by, `prefixes` what clients may put before it.

    `capability` None: any model will do. `keepalive`: comments may fill the wait of a streamed request. A GET is
    answered by what is loaded, and loads nothing itself. `abroad` is how upstreams spell the path, where hal0 has a
    spelling of its own.
    """

    path: str
    capability: Capability | None
    summary: str
    dialect: Dialect = Dialect.OPENAI
    keepalive: bool = False
    body: BodyKind = BodyKind.JSON
    prefixes: tuple[str, ...] = _BOTH
    method: str = "POST"
    abroad: str | None = None

    @property
    def only_here(self) -> bool:
        """It is about an engine, so upstreams are not asked."""
        return self.body in (BodyKind.NONE, BodyKind.RAW)

    @property
    def spellings(self) -> tuple[str, ...]:
        return tuple(prefix + self.path for prefix in self.prefixes)


def _get(path: str, capability: Capability | None, summary: str, prefix: str) -> PathRow:
    return PathRow(path, capability, summary, body=BodyKind.NONE, prefixes=(prefix,), method="GET")


def _raw(method: str) -> PathRow:
    """A slot's engine as it is, for the programs that were written for it."""
    summary = "Ask one slot's engine, byte for byte."
    return PathRow("/slot/{name}/{path:.*}", None, summary, body=BodyKind.RAW, prefixes=_BARE, method=method)


def _rerank(path: str, *prefixes: str) -> PathRow:
    """Cohere's, Jina's and hal0's own spellings of one thing."""
    summary = "Order documents by how well they answer a query."
    return PathRow(path, Capability.RERANK, summary, prefixes=prefixes, abroad="/rerank")


_CHAT, _TEXT = Capability.CHAT, Capability.COMPLETION
_FORM: Final = BodyKind.FORM
_CLAUDE: Final = Dialect.ANTHROPIC

SURFACE: Final = (
    PathRow("/chat/completions", _CHAT, "Answer a conversation.", keepalive=True),
    PathRow("/completions", _TEXT, "Continue a text.", keepalive=True),
    PathRow("/responses", _CHAT, "Answer a conversation.", Dialect.RESPONSES, keepalive=True),
    PathRow("/messages", _CHAT, "Answer a conversation.", _CLAUDE, keepalive=True),
    PathRow("/messages/count_tokens", _CHAT, "Count a conversation's tokens.", _CLAUDE),
    PathRow("/embeddings", Capability.EMBED, "Turn texts into vectors."),
    _rerank("/rerank", *_BOTH, "/v2"),
    _rerank("/reranking", *_BOTH),
    _rerank("/rerankings", *_BOTH),
    PathRow("/audio/transcriptions", Capability.STT, "Write down what is said.", body=_FORM),
    PathRow("/audio/translations", Capability.STT, "Write down in English what is said.", body=_FORM),
    PathRow("/audio/speech", Capability.TTS, "Say a text."),
    _get("/audio/voices", Capability.TTS, "List the voices.", "/v1"),
    PathRow("/images/generations", Capability.IMAGE, "Make an image."),
    PathRow("/images/edits", Capability.IMAGE, "Change an image.", body=_FORM),
    PathRow("/images/variations", Capability.IMAGE, "Vary an image.", body=_FORM),
    PathRow("/tokenize", None, "Turn a text into tokens."),
    PathRow("/detokenize", None, "Turn tokens into a text."),
    # llama-server's own, in its own shapes
    PathRow("/completion", _TEXT, "Continue a text, in llama-server's own form.", prefixes=_BARE),
    PathRow("/infill", _TEXT, "Fill a gap in a text.", prefixes=_BARE),
    PathRow("/apply-template", _CHAT, "Write a conversation out as a prompt.", prefixes=_BARE),
    _get("/props", None, "Show what an engine says of itself.", ""),
    _raw("GET"),
    _raw("POST"),
)

# What a model that serves the key can also answer: a chat model continues plain text, and says itself
# whether it reads images.
ANSWERS: Final = {
    Capability.CHAT: frozenset({Capability.CHAT, Capability.COMPLETION, Capability.VISION}),
    Capability.VISION: frozenset({Capability.CHAT, Capability.COMPLETION, Capability.VISION}),
}

# As clients write them; what is addressed to a slot's engine has no spelling of its own.
SPELLINGS: Final = frozenset(spelling for row in SURFACE for spelling in row.spellings if "{" not in spelling)

_TO_ENGINES: Final = "/slot/"
_CLAUDES: Final = "/v1/messages/"  # also what there is nothing of, such as batches
_DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {spelling: row.dialect for row in SURFACE for spelling in row.spellings}
)


def answers(served: Capability, needed: Capability | None) -> bool:
    """Whether a model that serves one capability can answer a path that needs another."""
    return needed is None or needed is served or needed in ANSWERS.get(served, ())


def dialect_of(path: str) -> Dialect:
    """How clients of a path, as they spell it, expect errors; OpenAI's way wherever nothing else is known.

    What is addressed to a slot's engine has the manners of the path there.
    """
    if path.startswith(_TO_ENGINES):
        path = "/" + path.removeprefix(_TO_ENGINES).partition("/")[2]
    known = _DIALECTS.get(path)
    return known or (Dialect.ANTHROPIC if path.startswith(_CLAUDES) else Dialect.OPENAI)


def id_headers(dialect: Dialect, request_id: str) -> dict[str, str]:
    """The request's id where clients look for it."""
    own = {"request-id": request_id} if dialect is Dialect.ANTHROPIC else {}
    return {"X-Request-ID": request_id, **own}
