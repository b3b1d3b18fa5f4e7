"""What routing may know of an upstream: values only, replaced whole when something changes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hal0.config.upstreams import UpstreamKind
from hal0.upstreams.listing import Listed
from hal0.vocab import Capability


class Hop(NamedTuple):
    """A place where a request may go: an upstream, and the model's name there.

    `able` is what the upstream says of the model; empty: nothing.
    """

    upstream: str
    model: str
    priority: int = 50
    weight: int = 1
    able: frozenset[Capability] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class UpstreamSnapshot:
    """An upstream that is switched on; the same object until something changes.

    `models` is None while nobody has asked it for them and nothing failed. `up`: no reason is known why a request
    should fail there. `prefix` and `only` are the configuration's: how the names of its models begin here, and which of
    them are let through by their names there; none: all.
    """

    name: str
    kind: UpstreamKind
    priority: int
    weight: int
    models: tuple[Listed, ...] | None
    up: bool = True
    prefix: str = ""
    only: frozenset[str] = frozenset()

    def may_list(self, model: str) -> bool:
        """Whether a list of it, whatever stands in it, could have a model that clients call so."""
        return model.startswith(self.prefix) and (not self.only or model.removeprefix(self.prefix) in self.only)

    def hop(self, model: Listed) -> Hop:
        return Hop(self.name, model.theirs, self.priority, self.weight, model.capabilities)


class KnownUpstreams(Protocol):
    """All upstreams, as the routing table sees them."""

    @property
    def version(self) -> int:
        """Increases whenever something a routing decision rests on has changed."""
        ...

    def snapshots(self) -> Collection[UpstreamSnapshot]: ...

    def fronts(self) -> Mapping[str, Hop]:
        """The slots that stand for a model of an upstream, by name."""
        ...
