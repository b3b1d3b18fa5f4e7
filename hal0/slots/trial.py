"""The gate between healthy and ready: one smallest piece of real work, once, with a deadline."""

import asyncio
import logging
from typing import Final

from aiohttp import ClientError, ClientSession

from hal0.providers.base import Endpoint, Provider, Trial
from hal0.slots import failure as failures
from hal0.slots.record import Failure

log = logging.getLogger(__name__)

# A first run may compile its shaders, and on a slow machine a token of a large model takes seconds.
TRIAL_S: Final = 60.0


async def tried(
    provider: Provider, endpoint: Endpoint, trial: Trial, session: ClientSession, now: float
) -> Failure | None:
    """Why the engine, healthy as it says it is, cannot work; None when it can."""
    try:
        async with asyncio.timeout(TRIAL_S):
            wrong = await provider.verify(endpoint, trial, session)
    except TimeoutError:
        return failures.unable(f"no answer within {TRIAL_S:g} s", now)
    except (ClientError, OSError) as error:
        return failures.unable(f"it broke off ({type(error).__name__})", now)
    except Exception as error:  # an answer that nobody has thought of: what is tried once is not tried again for it
        log.exception("the trial of %s failed by a mistake of hal0's", trial.model)
        return failures.unable(f"hal0 cannot make anything of its answer ({type(error).__name__})", now)
    return None if wrong is None else failures.unable(wrong, now)
