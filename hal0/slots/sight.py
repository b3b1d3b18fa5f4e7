"""All watching of one slot's containers, the current one and a next one beside it; what is seen comes as mail."""

from collections.abc import Callable, Sequence

from hal0.engine.base import ContainerInfo, ContainerStatus
from hal0.slots.adopt import Found
from hal0.slots.eyes import Eyes
from hal0.slots.happenings import Beside, Happening, Life, Strayed
from hal0.slots.mailbox import Mailbox, Message
from hal0.slots.record import Container
from hal0.slots.serving import NO_TRAFFIC, InFlight
from hal0.slots.watchers import Watched, Watchers
from hal0.vocab import Phase, Role, SlotName


class Sight:
    def __init__(self, slot: SlotName, watchers: Watchers, mailbox: Mailbox, requests: InFlight) -> None:
        self._mailbox = mailbox
        self.current = Eyes(slot, watchers, self._seen, requests.traffic)
        self._next = Eyes(slot, watchers, self._seen_beside, lambda: NO_TRAFFIC)

    def watch(self, life: Life, watched: Callable[[Container], Watched]) -> None:
        """Look at what there is to look at in this moment of the slot's life."""
        facts = life.facts
        runs = life.phase in (Phase.WARMING, Phase.READY) and facts.launched
        self.current.look_at(watched(facts.current) if runs and facts.current is not None else None, life.phase)
        comes = facts.next_launched and facts.next_fault is None
        self._next.look_at(watched(facts.next) if comes and facts.next is not None else None, Phase.WARMING)

    def compare(self, infos: Sequence[ContainerInfo], life: Life) -> None:
        """All containers of this slot, as podman lists them: are ours still running, is one there that is not ours?"""
        facts = life.facts
        running = [info.name for info in infos if info.status is ContainerStatus.RUNNING]
        if facts.current is not None and facts.launched and facts.current.name not in running:
            self.current.confirm(facts.current)
        if facts.next is not None and facts.next_launched and facts.next.name not in running:
            self._next.confirm(facts.next)
        known = {container.name: container.id for container in facts.containers}
        for info in infos:
            if info.name not in known or known[info.name] not in (None, info.id):
                self._mailbox.put(Message(Strayed(Found(info, answers=False).container(Role.LEAVING, {}))))

    async def close(self) -> None:
        await self.current.close()
        await self._next.close()

    def _seen(self, container: Container, phase: Phase | None, happening: Happening) -> None:
        self._mailbox.put(Message(happening, container=container.name, phase=phase))

    def _seen_beside(self, container: Container, _phase: Phase | None, happening: Happening) -> None:
        self._mailbox.put(Message(Beside(happening), container=container.name))
