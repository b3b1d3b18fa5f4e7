"""Boot: read every slot's record, ask podman what runs, and place each slot by the boot table.

While podman does not answer, a slot whose engine still answers with its secret keeps serving on the record's word
alone; nothing is started or stopped before podman has said what is there.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from hal0.config.slots import SlotConfig
from hal0.engine.base import ContainerInfo, ContainerStatus
from hal0.providers.base import Provider
from hal0.slots.adopt import LABEL_SLOT, Configured, Found
from hal0.slots.effects import located
from hal0.slots.happenings import Life
from hal0.slots.plan import Place
from hal0.slots.record import Container, Desired, Failure, SlotRecord
from hal0.slots.routing import address_of
from hal0.slots.state import NEVER, Facts
from hal0.slots.store import Remembered
from hal0.slots.watchers import Watchers
from hal0.vocab import By, FailureClass, Phase, Role, Want

# Settled once podman answers; until then nobody knows better.
_WAITING: Final = "podman does not answer: what runs is not known"


def configured(config: SlotConfig, override: str | None) -> Configured:
    """What the configuration says; the model of `override.env` comes before the seed."""
    # One that stands for an upstream has no engine that could be loaded.
    autoload, seed = config.autoload and config.upstream is None, override or config.model
    return Configured(autoload=autoload, seed_model=seed, verify=config.verify_on_load)


def by_slot(infos: Sequence[ContainerInfo]) -> dict[str, list[ContainerInfo]]:
    """Containers of this instance by the slot they belong to."""
    slots: dict[str, list[ContainerInfo]] = {}
    for info in infos:
        slots.setdefault(info.labels.get(LABEL_SLOT, ""), []).append(info)
    return slots


async def ask_engines(
    infos: Sequence[ContainerInfo], provider: Provider, past: Remembered, watchers: Watchers, place: Place
) -> list[Found]:
    """Every container of one slot with whether its engine answers; all are asked at once."""
    known = {container.name: container for container in past.record.containers} if past.record else {}

    async def ask(info: ContainerInfo) -> Found:
        silent = Found(info, answers=False)
        if not silent.runs:
            return silent
        began, remembered = await watchers.began(info), known.get(info.name)
        if info.status is ContainerStatus.RUNNING:
            box = located(silent.container(Role.CURRENT, {}), info, provider, place)
            endpoint = address_of(box, provider, past.secrets)
            if await watchers.answers(provider, endpoint, box.model):
                return Found(info, answers=True, began=began)
        lost = remembered is not None and remembered.is_lost(info.pid, began)
        return Found(info, answers=False, began=began, lost=lost)

    return list(await asyncio.gather(*(ask(info) for info in infos)))


async def still_answers(
    record: SlotRecord | None, provider: Provider, secrets: Mapping[int, str], watchers: Watchers
) -> bool:
    """The container that the record names answers with our secret and lists its model."""
    current = _recorded(record)
    if current is None or current.port is None:
        return False
    return await watchers.answers(provider, address_of(current, provider, secrets), current.model)


def on_the_records_word(record: SlotRecord | None, config: Configured, *, serves: bool, now: float) -> Life:
    """A slot's place before podman has spoken: ready when its engine answers, else waiting in error."""
    current = _recorded(record)
    if record is not None and serves:
        swap = (
            record.swap if record.swap is not None and record.swap.overlaps else None
        )  # else nothing would be routable
        facts = Facts(
            generation=record.generation,
            current=current,
            fallback=record.fallback,
            launched=True,
            ready=True,
            fetched=True,
            swap=swap,
            deadline=NEVER,
        )
        return Life(desired=record.desired, phase=Phase.READY, facts=facts)
    desired = record.desired if record else Desired(Want.UNLOADED, config.seed_model, By.CONFIG, now)
    fault = Failure(FailureClass.TRANSIENT, "engine.unreachable", _WAITING, now, settled=False)
    return Life(desired=desired, phase=Phase.ERROR, facts=Facts(fault=fault, retry_at=NEVER, deadline=NEVER))


def _recorded(record: SlotRecord | None) -> Container | None:
    return next((c for c in record.containers if c.role is Role.CURRENT), None) if record else None
