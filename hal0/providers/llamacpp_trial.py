"""The smallest piece of a llama-server's real work: one token, one vector, or one score."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import ClientSession

from hal0.lib import jsonio
from hal0.providers.base import Endpoint, Trial
from hal0.providers.probing import refused
from hal0.vocab import Capability

_RERANK_FLAGS: Final = frozenset({"--rerank", "--reranking"})
_WORD: Final = "Hello"


async def verify(endpoint: Endpoint, trial: Trial, session: ClientSession) -> str | None:
    """What was wrong with it; None when nothing was. Raises ClientError or OSError when the connection breaks."""
    path, body = work_of(trial)
    headers = {"Authorization": f"Bearer {endpoint.secret}"}
    async with session.post(f"{endpoint.base_url}{path}", json=body, headers=headers) as response:
        answer = await response.read()
        if response.status != 200:
            return refused(path, response.status, answer)
    return None if _worked(answer) else f"{path} answers 200, and nothing that it was asked for"


def work_of(trial: Trial) -> tuple[str, Mapping[str, Any]]:
    """Path and body. Pure."""
    scores = Capability.RERANK in trial.capabilities and Capability.EMBED not in trial.capabilities
    if scores or _RERANK_FLAGS & set(trial.extra_args):
        return "/v1/rerank", {"model": trial.model, "query": _WORD, "documents": [_WORD]}
    if Capability.EMBED in trial.capabilities:
        return "/v1/embeddings", {"model": trial.model, "input": _WORD}
    return "/v1/completions", {"model": trial.model, "prompt": _WORD, "max_tokens": 1, "cache_prompt": False}


def _worked(answer: bytes) -> bool:
    """There is a token, a vector of numbers, or a score; what is not a number is null in JSON."""
    try:
        body: Any = jsonio.loads(answer)
        if "choices" in body:
            return bool(body["choices"]) and body["usage"]["completion_tokens"] > 0
        if "results" in body:
            return isinstance(body["results"][0]["relevance_score"], float | int)
        vector = body["data"][0]["embedding"]
        return bool(vector) and all(isinstance(number, float | int) for number in vector)
    except (jsonio.JSONDecodeError, KeyError, IndexError, TypeError):
        return False
