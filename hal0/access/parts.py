"""The state of access as one value, opened at boot: keys, sessions, failed tries, and the first start's admin key."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from hal0.access.keyring import Keyring
from hal0.access.limits import FailedTries
from hal0.access.sessions import Sessions
from hal0.access.store import AccessStore
from hal0.lib.aio import cancelled
from hal0.lib.clock import Clock
from hal0.paths import Paths

_log: Final = logging.getLogger("hal0.access")


@dataclass(frozen=True, slots=True)
class AccessParts:
    store: AccessStore
    keyring: Keyring
    sessions: Sessions
    tries: FailedTries


def access_parts(paths: Paths, clock: Clock) -> AccessParts:
    """Nothing is read yet."""
    store = AccessStore(paths.keys_file)
    sessions = Sessions(store, clock, admin_key_file=paths.admin_key_file)
    return AccessParts(store, Keyring(store, clock), sessions, FailedTries())


@asynccontextmanager
async def open_access(paths: Paths, clock: Clock) -> AsyncIterator[AccessParts]:
    """What is on disk; on a first start the admin key is made and told. Raises state.newer, state.write_failed.

    Inside, what changes by the way is written now and then; leaving writes the rest.
    """
    parts = access_parts(paths, clock)
    if not await asyncio.to_thread(parts.store.load):
        await _first_start(parts, paths)
    saving = asyncio.create_task(parts.store.keep_saving())
    try:
        yield parts
    finally:
        await cancelled(saving)
        await parts.store.close()


async def _first_start(parts: AccessParts, paths: Paths) -> None:
    file = paths.admin_key_file
    text = await parts.keyring.first(file)
    if sys.stderr.isatty():  # a person looks; a log file is no place for a key
        sys.stderr.write(f"The admin key of this hal0, shown once:\n\n  {text}\n\n")
    _log.info("the admin key is in %s until somebody signs in; on this machine the socket is enough", file)
