"""Names and ports for one slot's containers: taken before a launch, given back when the container is gone."""

from hal0.config.slots import SlotConfig
from hal0.slots.happenings import Life
from hal0.slots.plan import Place, container_name
from hal0.slots.ports import PortLeases
from hal0.slots.record import Container
from hal0.slots.state import NEVER, wanted
from hal0.vocab import Role, SlotName


class Berths:
    def __init__(self, slot: SlotName, leases: PortLeases, place: Place) -> None:
        self._slot = slot
        self._leases = leases
        self._place = place
        self._clashed: set[int] = set()  # ports that turned out to be taken during this start

    def hold(self, life: Life) -> None:
        """Take the ports of containers that exist already; where two claim one, it is the current one's."""
        for container in reversed(life.facts.containers):
            if container.port is not None:
                self._leases.adopt(container.port, container.name)

    def reserve(self, life: Life, config: SlotConfig, role: Role = Role.CURRENT) -> Container:
        """The next generation, with a name and a port of its own. Raises slot.port_taken or slot.no_free_port."""
        model = life.desired.model
        assert model is not None, "decide() launches only what has a model"
        generation = life.facts.generation + 1
        name = container_name(self._place.instance, self._slot, generation)
        port = None
        if self._place.network is None:
            port = self._leases.lease(self._slot, name, explicit=config.port or None, avoid=self._clashed)
        return Container(role, name, generation, model, port=port)

    def clashed(self, container: Container | None) -> None:
        """Its port was taken by somebody else between lease and start."""
        if container is not None and container.port is not None:
            self._clashed.add(container.port)

    def forget_clashes(self) -> None:
        self._clashed.clear()

    def give_back(self, before: Life, after: Life) -> None:
        """Release what belonged to containers that are gone now; a slot that goes on keeps the port it had."""
        goes_on, bereft = _goes_on(after), after.facts.current is None and after.facts.next is None
        for name in _names(before) - _names(after):
            if goes_on and bereft and before.facts.current is not None and before.facts.current.name == name:
                self._leases.keep(name, self._slot)
            else:
                self._leases.release(name)
        if not goes_on:
            self._leases.let_go(self._slot)


def _goes_on(life: Life) -> bool:
    """Another container of the slot will come by itself."""
    rests = life.facts.fault is not None and life.facts.retry_at == NEVER
    return wanted(life.desired) and not rests


def _names(life: Life) -> frozenset[str]:
    return frozenset(container.name for container in life.facts.containers)
