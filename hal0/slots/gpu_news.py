"""Who shares a GPU with images, and what has become of those its arbiter waits for, from how slots are now. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from hal0.hardware.pools import RAM, pool_for
from hal0.hardware.snapshot import Machine
from hal0.slots.arbiter import Arbiter, Group, Mode
from hal0.slots.claims import overdue
from hal0.slots.gpu_words import Arrived, Failed, Forgotten, Left, Report
from hal0.slots.happenings import Life
from hal0.slots.shown import Shown
from hal0.vocab import By, Phase, SlotName, Want

_ON_ITS_WAY: Final = (Phase.STARTING, Phase.WARMING, Phase.READY)


@dataclass(frozen=True, slots=True)
class Tenancy:
    """An image slot's GPU: `llm` are the slots whose models go to the same memory, loaded or not.

    `over`: the image slot is configured no more, or not for this GPU.
    """

    group: Group
    llm: frozenset[SlotName]
    over: bool = False


def tenancies(
    slots: Mapping[SlotName, Shown], machine: Machine, idle_restore_s: float, switched: Iterable[SlotName]
) -> dict[SlotName, Tenancy]:
    """By image slot. One that is no more is kept while it is `switched`: its set has to come back."""
    pools = {name: pool_for(it.device, it.config.gpu_index, machine) for name, it in slots.items()}
    images = {name for name, it in slots.items() if not it.provider.shares_gpu and pools[name] != RAM}
    found = {name: Tenancy(Group(name, idle_restore_s), frozenset(), over=True) for name in switched}
    for name in images:
        llm = frozenset(other for other, pool in pools.items() if pool == pools[name] and other not in images)
        found[name] = Tenancy(Group(name, idle_restore_s, slots[name].config.pinned), llm)
    return found


def loaded(life: Life) -> bool:
    """It has the GPU's memory, or was promised it."""
    here = life.facts.current is not None or life.facts.admitted is not None
    return life.phase in _ON_ITS_WAY and here and life.desired.want is Want.LOADED


def leavers(tenancy: Tenancy, slots: Mapping[SlotName, Shown]) -> tuple[SlotName, ...]:
    """Who has to leave for images: what is loaded or loading and not pinned, the most important first."""
    found = [it for name in tenancy.llm if loaded((it := slots[name]).life) and not it.config.pinned and not it.unsaved]
    return tuple(it.name for it in sorted(found, key=lambda it: (-it.config.priority, it.name)))


def news(state: Arbiter, group: Group, slots: Mapping[SlotName, Shown]) -> Iterator[Report]:
    """What the arbiter in this state has to learn; the same again and again until it has."""
    for name in state.saved:
        if _does_not_come_back(slots.get(name)):
            yield Forgotten(name)
    match state.mode:
        case Mode.LLM:
            return
        case Mode.CLEARING:
            yield from (report for name in sorted(state.pending) for report in _leaving(name, slots.get(name)))
            if _unwanted(slots.get(group.images)):
                yield Left(group.images)
        case Mode.STARTING | Mode.IMAGES:
            yield from _images(group.images, slots.get(group.images))
        case Mode.RETURNING:
            it = slots.get(group.images)
            if it is None or state.wanted or it.life.desired.want is Want.UNLOADED or _given_up(it):
                yield from _leaving(group.images, it)
        case Mode.RESTORING:
            yield from (report for name in sorted(state.pending) for report in _coming(name, slots.get(name)))
        case _:
            assert_never(state.mode)


def _leaving(name: SlotName, it: Shown | None) -> Iterator[Report]:
    if it is None or _gone(it.life):
        yield Left(name)
    elif it.life.facts.stuck or _stays(it):
        yield Failed(name)


def _stays(it: Shown) -> bool:
    """It cannot be unloaded: its record cannot be written, or podman does not end it."""
    return it.unsaved if it.life.phase is Phase.READY else it.life.phase is Phase.UNLOADING and overdue(it)


def _coming(name: SlotName, it: Shown | None) -> Iterator[Report]:
    if it is None:
        yield Forgotten(name)
    elif it.endpoint is not None:
        yield Arrived(name)
    elif _given_up(it):
        yield Failed(name)


def _images(name: SlotName, it: Shown | None) -> Iterator[Report]:
    if it is None or _unwanted(it):
        yield Left(name)
    else:
        yield from _coming(name, it)


def _unwanted(it: Shown | None) -> bool:
    """It is unloaded, and nothing of it is left."""
    return it is None or (it.life.desired.want is Want.UNLOADED and _gone(it.life))


def _does_not_come_back(it: Shown | None) -> bool:
    """Somebody else than the arbiter has unloaded it, or taken it away."""
    return it is None or (it.life.desired.want is Want.UNLOADED and it.life.desired.by is not By.ARBITER)


def _gone(life: Life) -> bool:
    """Nothing of it runs or is about to, whatever is wished."""
    facts = life.facts
    promised = life.phase is Phase.STARTING and facts.admitted is not None
    unknown = facts.fault is not None and not facts.fault.settled  # podman has not said yet what runs
    return not facts.containers and not promised and not unknown


def _given_up(it: Shown) -> bool:
    """Its load has failed: it waits for its next try, or for somebody."""
    facts = it.life.facts
    failed = it.life.phase is Phase.ERROR and facts.fault is not None and facts.fault.settled
    return failed and facts.busy is None and facts.current is None and it.now < facts.retry_at
