"""A sixth provider, whole: a chat whose every answer is a file of busybox. Copied into a hal0, never imported."""

from typing import TYPE_CHECKING, Final

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers.base import (
    Endpoint,
    Exchange,
    Exit,
    Health,
    InferRequest,
    Launch,
    Provider,
    Serve,
    Trial,
    Verdict,
)
from hal0.providers.environment import environment
from hal0.providers.probing import Probe
from hal0.vocab import Capability, Device, FailureClass, ProviderName

if TYPE_CHECKING:
    from aiohttp import ClientSession

SCRIPT: Final = """
mkdir -p /tmp/w/v1; printf '{"status":"ok"}' > /tmp/w/health
printf '{"data":[{"id":"%s"}]}' "$HAL0_MODEL" > /tmp/w/v1/models
printf 'Polly wants %s.' "$WANTS" > /tmp/w/words
trap 'exit 0' TERM; busybox httpd -f -p 8080 -h /tmp/w & wait
"""


class Parrot:
    """It has one thing to say, and needs no device for it."""

    name = ProviderName("parrot")
    container_port = 8080
    capabilities = frozenset({Capability.CHAT})
    devices: tuple[Device, ...] = (Device.CPU,)
    tags: frozenset[str] = frozenset()
    user: int | None = None
    stops_while_streaming = True
    at_once: int | None = 1
    shares_gpu = True

    def __init__(self) -> None:
        self._probe = Probe("parrot")

    def loads(self, form: str, architecture: str) -> bool:
        return form == "gguf"

    def image_key(self, device: Device, architecture: str = "") -> str:
        return "localhost/hal0-test-shell:latest"

    def build_env(self, launch: Launch) -> dict[str, str]:
        return environment(launch, {"WANTS": "a cracker"})

    def start_cmd(self, launch: Launch) -> list[str]:
        return [SCRIPT]

    def mounts(self, launch: Launch) -> tuple[Mount, ...]:
        return ()

    async def health(self, endpoint: Endpoint, launch_model: str, session: "ClientSession") -> Health:
        return await self._probe.health(endpoint, launch_model, session)

    async def verify(self, endpoint: Endpoint, trial: Trial, session: "ClientSession") -> str | None:
        async with session.get(f"{endpoint.base_url}/words") as response:
            return None if response.status == 200 else f"/words answers {response.status}"

    def infer(self, request: InferRequest) -> Serve:
        if request.capability is not Capability.CHAT:
            raise Hal0Error("dispatch.capability_mismatch", f"cannot answer {request.path}: a parrot only talks")
        return Serve(_talk)

    def classify(self, ended: Exit) -> Verdict:
        return Verdict(FailureClass.TRANSIENT, "slot.exited", f"the parrot ended with {ended.exit_code}")

    def progress(self, line: str) -> float | None:
        return None


async def _talk(exchange: Exchange, endpoint: Endpoint) -> None:
    from aiohttp import ClientSession

    model = jsonio.loads(await exchange.read_body())["model"]
    async with ClientSession() as session, session.get(f"{endpoint.base_url}/words") as response:
        message = {"role": "assistant", "content": await response.text()}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": model, "choices": [choice]}
    await exchange.send(200, {"Content-Type": "application/json"}, jsonio.dumps(body))


PROVIDER: Final[Provider] = Parrot()
