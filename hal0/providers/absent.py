"""Providers whose runtime image this version cannot build: their slots exist, are offline, and say why.

The built-in slots are promised to be there always. A load of one of these ends at its image (`image.missing`), so
nothing below `image_key` is ever reached; it answers truthfully all the same.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.providers.base import Endpoint, Exit, Forward, Health, HealthState, InferRequest, Launch, Trial, Verdict
from hal0.vocab import Capability, Device, FailureClass, ProviderName

if TYPE_CHECKING:
    from aiohttp import ClientSession


@dataclass(slots=True)
class Absent:
    """Implements `Provider` for a name that has no runtime yet."""

    name: ProviderName
    capabilities: frozenset[Capability]
    tags: frozenset[str] = frozenset()
    container_port: int = 8080
    user: int | None = None
    stops_while_streaming: bool = True
    at_once: int | None = None

    def loads(self, form: str, architecture: str) -> bool:
        return False

    def image_key(self, device: Device, architecture: str = "") -> str:
        return str(self.name)

    def build_env(self, launch: Launch) -> dict[str, str]:
        return dict(launch.env)

    def start_cmd(self, launch: Launch) -> list[str]:
        raise self._missing()

    def mounts(self, launch: Launch) -> tuple[Mount, ...]:
        return tuple(Mount(file, f"/models/{file.name}") for file in launch.files)

    async def health(self, endpoint: Endpoint, launch_model: str, session: "ClientSession") -> Health:
        return Health(HealthState.NOT_LISTENING, self._missing().message)

    async def verify(self, endpoint: Endpoint, trial: Trial, session: "ClientSession") -> str | None:
        return self._missing().message

    def infer(self, request: InferRequest) -> Forward:
        raise self._missing()

    def classify(self, ended: Exit) -> Verdict:
        return Verdict(FailureClass.PERMANENT, "image.missing", self._missing().message)

    def progress(self, line: str) -> float | None:
        return None

    def _missing(self) -> Hal0Error:
        return Hal0Error("image.missing", f"cannot run {self.name}: this version of hal0 has no image for it")
