"""Upstreams without a network: their lists are set by the test."""

from collections.abc import Mapping

from hal0.config.upstreams import UpstreamKind
from hal0.upstreams.listing import Listed
from hal0.upstreams.snapshot import Hop, UpstreamSnapshot
from hal0.vocab import Capability


def upstream(
    name: str,
    *models: str,
    kind: UpstreamKind = UpstreamKind.OPENAI,
    prefix: str = "",
    cold: bool = False,
    able: frozenset[Capability] = frozenset(),
    only: frozenset[str] = frozenset(),
) -> UpstreamSnapshot:
    """One that lists these models; `cold`: nobody has asked it yet."""
    listed = tuple(Listed(f"{prefix}{model}", model, capabilities=able) for model in models)
    return UpstreamSnapshot(
        name, kind, priority=50, weight=1, models=None if cold else listed, prefix=prefix, only=only
    )


class FakeUpstreams:
    """`snapshot.KnownUpstreams`."""

    def __init__(self, *snapshots: UpstreamSnapshot, fronts: Mapping[str, Hop] | None = None) -> None:
        self.version = 0
        self._snapshots = snapshots
        self._fronts = fronts or {}

    def become(self, *snapshots: UpstreamSnapshot) -> None:
        self._snapshots = snapshots
        self.version += 1

    def snapshots(self) -> tuple[UpstreamSnapshot, ...]:
        return self._snapshots

    def fronts(self) -> Mapping[str, Hop]:
        return self._fronts
