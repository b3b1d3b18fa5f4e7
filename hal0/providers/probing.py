"""What an engine says when it is probed: `/health`, then `/v1/models` with the secret, as llama-server answers them."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import ClientConnectorError, ClientError, ClientSession

from hal0.lib import jsonio
from hal0.providers.base import Endpoint, Health, HealthState

PROBE_S: Final = 2.0
_MAX_DETAIL: Final = 200


@dataclass(frozen=True, slots=True)
class Probe:
    """`server` is what people call the engine; `probe_s` is the longest that one probe may take."""

    server: str
    probe_s: float = PROBE_S

    async def health(self, endpoint: Endpoint, launch_model: str, session: ClientSession) -> Health:
        """Never raises: what went wrong is in the answer."""
        return await heard(self._ask(endpoint, launch_model, session), endpoint, self.probe_s)

    async def _ask(self, endpoint: Endpoint, launch_model: str, session: ClientSession) -> Health:
        async with session.get(f"{endpoint.base_url}/health") as response:
            if response.status == 503:
                return Health(HealthState.LOADING, "/health answers 503, loading the model")
            if response.status != 200:
                return Health(HealthState.BROKEN, f"/health answers {response.status}: this is no {self.server}")
        bearer = {"Authorization": f"Bearer {endpoint.secret}"}
        async with session.get(f"{endpoint.base_url}/v1/models", headers=bearer) as response:
            body = await response.read()
            match response.status:
                case 200:
                    return _listed(body, launch_model)
                case 503:
                    return Health(HealthState.LOADING, "/v1/models answers 503, loading the model")
                case 401:
                    said = "/v1/models refuses the slot's secret: another server has this port"
                    return Health(HealthState.BROKEN, said)
                case status:
                    return Health(HealthState.BROKEN, f"/v1/models answers {status}")


async def heard(asking: Awaitable[Health], endpoint: Endpoint, probe_s: float) -> Health:
    """What an engine answers, or that it does not."""
    try:
        async with asyncio.timeout(probe_s):
            return await asking
    except TimeoutError:
        return Health(HealthState.SILENT, f"no answer within {probe_s:g} s")
    except (ClientError, OSError) as error:
        refused = isinstance(error, ClientConnectorError | OSError)
        state = HealthState.NOT_LISTENING if refused else HealthState.SILENT
        return Health(state, f"nothing answers at {endpoint.host}:{endpoint.port} ({type(error).__name__})")


def refused(path: str, status: int, answer: bytes) -> str:
    """How an engine answered a piece of work that it did not do, in one line for people. Pure."""
    text = " ".join(answer.decode(errors="replace").split())[:_MAX_DETAIL]
    return f"{path} answers {status}" + (f": {text}" if text else "")


def _listed(body: bytes, launch_model: str) -> Health:
    """READY only if the server lists the model: one started without a model may answer /health with 200 as well."""
    try:
        ids = _model_ids(jsonio.loads(body))
    except (jsonio.JSONDecodeError, KeyError, TypeError, AttributeError):
        return Health(HealthState.BROKEN, "/v1/models answers 200 without a list of models")
    if launch_model in ids:
        return Health(HealthState.READY, f"/v1/models lists {launch_model}")
    return Health(HealthState.BROKEN, f"/v1/models lists {', '.join(ids) or 'no model'}, not {launch_model}")


def _model_ids(answer: Any) -> list[str]:
    return [model["id"] for model in answer["data"]]
