"""What a program of an image prints: run once, in a throw-away container that nobody can reach."""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Final

from hal0.engine.base import LABEL_PREFIX, ContainerSpec, ContainerStatus, Engine
from hal0.errors import Hal0Error

_LABEL: Final = f"{LABEL_PREFIX}errand"  # not the instance label: no slot's container is an errand
_ERRAND_S: Final = 30.0
_POLL_S: Final = 0.05


async def printed(
    engine: Engine, image: str, argv: Sequence[str], *, instance: str, timeout_s: float = _ERRAND_S
) -> str:
    """Its standard output. Raises engine.failed when it ends with an error, engine.timeout, and as the engine does."""
    what = f"{' '.join(argv)} of image {image[:12]}"
    labels = {_LABEL: instance}
    for left in await engine.containers(labels):  # of a hal0 that was killed meanwhile
        await engine.remove(left.id)
    name = f"hal0-{instance}-errand-{secrets.token_hex(4)}"
    spec = ContainerSpec(name=name, image=image, argv=tuple(argv), labels=labels, network="none")
    try:
        async with asyncio.timeout(timeout_s):
            await engine.create(spec)
            await engine.start(name)
            exit_code = await _ended(engine, name)
            lines = [line async for line in engine.logs(name)]
    except TimeoutError:
        raise Hal0Error("engine.timeout", f"cannot run {what}: it took longer than {timeout_s:g} s") from None
    finally:
        with contextlib.suppress(Hal0Error):
            await engine.remove(name)
    if exit_code != 0:
        last = lines[-1].text if lines else "it said nothing"
        raise Hal0Error("engine.failed", f"cannot run {what}: it ended with exit code {exit_code}: {last}")
    return "\n".join(line.text for line in lines if line.stream == "stdout")


async def _ended(engine: Engine, name: str) -> int | None:
    """Its exit code, once podman has noticed the end."""
    while (info := await engine.inspect(name)) is not None:
        if info.status is ContainerStatus.EXITED:
            return info.exit_code
        await asyncio.sleep(_POLL_S)
    return None
