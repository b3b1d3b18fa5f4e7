"""Which model each slot of this machine is to have: its own where it has one, else what is recommended. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from hal0.capabilities.cards import Child, Choice, find
from hal0.vocab import BUILTIN_SLOTS, Capability, Device, SlotName
from hal0.wire.capabilities import SelectRequest

_CHAT: Final = Child(
    card="chat", name="chat", slot=BUILTIN_SLOTS[0], capability=Capability.CHAT, path="/v1/chat/completions"
)
# In the order of setting up: chat first, so that people can talk while the rest is fetched.
ROWS: Final[Mapping[SlotName, Child]] = {
    child.slot: child
    for child in (
        _CHAT,
        find("embed", "embed"),
        find("embed", "rerank"),
        find("voice", "stt"),
        find("voice", "tts"),
        find("img", "img"),
    )
}


class Offer(Protocol):
    """A model, on this disk or not. Sizes in bytes, of its files and once it is loaded.

    `context_size` is what its slot has to be configured with, in tokens; None: it stays as it is.
    """

    @property
    def id(self) -> str: ...
    @property
    def purpose(self) -> str: ...
    @property
    def license(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def context_size(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """A row's slot as it is. `model` is the one that it has or is to have, more than a demonstration; None: none yet.

    `why` is why nothing is to be proposed. `done`: the model is loaded, or was and has left by somebody's wish.
    """

    model: Offer | None = None
    why: str = ""
    done: bool = False


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`offer` is None where nothing is proposed, and `why` says why not. `device` is what it would run on."""

    child: Child
    offer: Offer | None
    device: Device | None = None
    done: bool = False
    why: str = ""


def propose(
    recommended: Mapping[SlotName, Offer | None],
    offered: Mapping[SlotName, Sequence[Choice]],
    standings: Mapping[SlotName, Standing],
) -> list[Suggestion]:
    """One suggestion per row; `offered` is what each may run on."""
    return [_suggest(child, recommended[slot], offered[slot], standings[slot]) for slot, child in ROWS.items()]


def chosen(
    items: Sequence[Suggestion], asked: Mapping[str, str] | None, known: Callable[[str], Offer | None]
) -> dict[SlotName, SelectRequest]:
    """What is to be done, in its order: the models `asked` for by slot, else what is proposed and not done yet.

    `known` is what the catalog has of a model.
    """
    found = {}
    for it in items:
        slot, offer = it.child.slot, it.offer
        model = asked.get(slot) if asked is not None else offer.id if offer is not None and not it.done else None
        if model is not None:
            same = offer if offer is not None and offer.id == model else known(model)
            found[slot] = SelectRequest(model=model, context_size=same.context_size if same is not None else None)
    return found


def _suggest(child: Child, recommended: Offer | None, offered: Sequence[Choice], standing: Standing) -> Suggestion:
    ready = next((choice for choice in offered if choice.fault is None), None)
    device = ready.device if ready is not None else None
    if standing.done:
        return Suggestion(child, standing.model, device, done=True)
    if standing.why:
        return Suggestion(child, None, why=standing.why)
    if ready is None:
        faults = [choice.fault.message for choice in offered if choice.fault is not None]
        return Suggestion(child, None, why=faults[0] if faults else "this hal0 has no image that can")
    same = standing.model is not None and recommended is not None and standing.model.id == recommended.id
    offer = recommended if same or standing.model is None else standing.model  # the first knows the context it needs
    if offer is None:
        return Suggestion(child, None, why="no model of the catalog fits into this machine's memory")
    return Suggestion(child, offer, device)
