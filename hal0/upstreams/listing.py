"""What an upstream says it has, read with suspicion: the answer of its `/models` becomes ids that hal0 can offer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hal0.config.upstreams import UpstreamConfig, UpstreamKind
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.vocab import Capability

# The largest public lists have some hundred models; a longer one is a mistake or worse.
MOST_MODELS: Final = 5000
_LONGEST_ID: Final = 256
# What servers call the context length, in the order in which it is believed.
_CONTEXT: Final = ("context_length", "max_model_len", "context_window", "max_context_length")
_WORDS: Final = {capability.value: capability for capability in Capability}


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of an upstream. `id` is what hal0 calls it, `theirs` what the upstream does.

    `capabilities` is empty where the upstream does not say.
    """

    id: str
    theirs: str
    created: int = 0
    context_length: int | None = None
    capabilities: frozenset[Capability] = frozenset()


def parse(answer: bytes, config: UpstreamConfig) -> tuple[Listed, ...]:
    """The models of an answer that the configuration lets through. Raises upstream.broken for what is no list.

    Entries that cannot be a model's are left out; one bad entry does not hide the others.
    """
    try:
        document = jsonio.loads(answer)
    except jsonio.JSONDecodeError:
        raise _no_list("its answer is not JSON") from None
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise _no_list("its answer has no list `data`")
    found: dict[str, Listed] = {}
    for entry in entries[:MOST_MODELS]:
        theirs = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(theirs, str) and _usable(theirs) and _allowed(theirs, config):
            found.setdefault(theirs, _listed(theirs, entry, config))
    return tuple(found.values())


def declared(config: UpstreamConfig) -> tuple[Listed, ...]:
    """The models that the configuration names, for an upstream that has no list of its own."""
    return tuple(_listed(theirs, {}, config) for theirs in dict.fromkeys(config.models))


def _listed(theirs: str, entry: Mapping[str, Any], config: UpstreamConfig) -> Listed:
    return Listed(
        id=f"{config.prefix or ''}{theirs}",
        theirs=theirs,
        created=_whole(entry.get("created")) or 0,
        context_length=next((length for name in _CONTEXT if (length := _whole(entry.get(name)))), None),
        capabilities=_capabilities(entry) if config.kind is UpstreamKind.HAL0 else frozenset(),
    )


def _capabilities(entry: Mapping[str, Any]) -> frozenset[Capability]:
    """Another hal0 says them in our own words; a newer one may know more of them."""
    words = entry.get("capabilities")
    if not isinstance(words, list):
        return frozenset()
    return frozenset(_WORDS[word] for word in words if isinstance(word, str) and word in _WORDS)


def _usable(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_ID and name.isprintable() and not any(map(str.isspace, name))


def _allowed(theirs: str, config: UpstreamConfig) -> bool:
    return not config.models or theirs in config.models


def _whole(value: object) -> int | None:
    """Numbers in lists come in every shape; only a sensible one is passed on."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 53 else None


def _no_list(why: str) -> Hal0Error:
    return Hal0Error("upstream.broken", f"cannot read the model list: {why}", hint="Check the upstream's base_url.")
