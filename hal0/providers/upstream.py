"""The provider of slots that stand for an upstream: it has no engine, so nothing of it is ever started.

Their requests go to the upstream before a slot is asked for anything; a load ends at its image (`image.missing`). What
is below `image_key` is not reached, and answers truthfully all the same.
"""

from typing import TYPE_CHECKING, Final

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.providers.base import (
    Endpoint,
    Exit,
    Forward,
    Health,
    HealthState,
    InferRequest,
    Launch,
    Provider,
    Trial,
    Verdict,
)
from hal0.vocab import Capability, Device, FailureClass, ProviderName

if TYPE_CHECKING:
    from aiohttp import ClientSession


class Upstream:
    """Somewhere else there may be anything."""

    name = ProviderName.UPSTREAM
    container_port = 8080
    capabilities = frozenset(Capability)
    devices: tuple[Device, ...] = (Device.CPU,)
    tags: frozenset[str] = frozenset()
    user: int | None = None
    stops_while_streaming = True
    at_once: int | None = None
    shares_gpu = True

    def loads(self, form: str, architecture: str) -> bool:
        return False

    def image_key(self, device: Device, architecture: str = "") -> str:
        return self.name.value

    def build_env(self, launch: Launch) -> dict[str, str]:
        return dict(launch.env)

    def start_cmd(self, launch: Launch) -> list[str]:
        raise _no_engine()

    def mounts(self, launch: Launch) -> tuple[Mount, ...]:
        return ()

    async def health(self, endpoint: Endpoint, launch_model: str, session: "ClientSession") -> Health:
        return Health(HealthState.NOT_LISTENING, _no_engine().message)

    async def verify(self, endpoint: Endpoint, trial: Trial, session: "ClientSession") -> str | None:
        return _no_engine().message

    def infer(self, request: InferRequest) -> Forward:
        raise _no_engine()

    def classify(self, ended: Exit) -> Verdict:
        return Verdict(FailureClass.PERMANENT, "image.missing", _no_engine().message)

    def progress(self, line: str) -> float | None:
        return None


def _no_engine() -> Hal0Error:
    return Hal0Error("image.missing", "cannot start anything here: this slot stands for an upstream")


PROVIDER: Final[Provider] = Upstream()
