"""Fetches the model that a slot was told to load and that is not here: who may have that done, how it is followed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from hal0.errors import Hal0Error
from hal0.lib.aio import settled
from hal0.slots.jobs import Job
from hal0.vocab import By
from hal0.wire.jobs import JobPace, JobState
from hal0.wire.pulls import PullRequest

if TYPE_CHECKING:
    from hal0.pulls.pulls import Pulls

# Also without news: a pull that stands still gives up by itself, and checking a large file says nothing for minutes.
_TELL_S: Final = 1.0

OnProgress = Callable[[str, float | None], None]


class Bringing:
    """`pulls` gives them once it is known what earlier processes left.

    `on_request`: a request may have its slot's model fetched, too.
    """

    def __init__(self, pulls: Callable[[], Awaitable["Pulls"]], on_request: Callable[[], bool]) -> None:
        self._pulls = pulls
        self._on_request = on_request

    async def __call__(self, model: str, by: By, tell: OnProgress) -> bool:
        """Return when the model is here; False at once when `by` may not have it fetched.

        A download that was under way is joined. It is paused when nobody wants its model any more; what has come is
        kept. Raises pull.* and model.*.
        """
        if by is not By.OPERATOR and not (by is By.REQUEST and self._on_request()):
            return False
        pulls = await self._pulls()
        try:
            job = await pulls.start(PullRequest(model=model), by, own=False)
        except Hal0Error as err:
            if err.code == "model.exists":  # it has come meanwhile
                return True
            raise
        try:
            await _followed(job, pulls.view(job.view.id).license if not job.ended else None, tell)
        except asyncio.CancelledError:
            await settled(pulls.leave(job))
            raise
        return True


async def _followed(job: Job, licence: str | None, tell: OnProgress) -> None:
    """`licence`: whoever has it fetched agrees to it, so it is said as long as there is time to give up."""
    under = "" if licence is None else f", under its licence {licence}"
    while not job.ended:
        if (told := job.view.progress) is not None:
            tell(_words(told.message, told.pace) + under, told.fraction)
        with suppress(TimeoutError):
            async with asyncio.timeout(_TELL_S):
                await job.changed.wait()
    if (error := job.error) is not None:
        raise error
    if job.view.state is not JobState.DONE:
        raise Hal0Error(
            "model.not_downloaded",
            f"cannot use the model {job.view.target!r}: its download was {_ENDED[job.view.state]}",
            details={"model": job.view.target},
            hint=f"hal0ctl pull {job.view.target}",
        )


_ENDED: Final = {JobState.INTERRUPTED: "paused", JobState.CANCELLED: "given up"}


def _words(message: str, pace: JobPace | None) -> str:
    """Such as: fetching m.gguf: 1.2 of 2.5 GB, 38 MB/s, 34 s left."""
    if pace is None or pace.total_bytes is None:
        return message
    words = [f"{pace.done_bytes / 1e9:.1f} of {pace.total_bytes / 1e9:.1f} GB"]
    if pace.bytes_per_s:
        words.append(f"{pace.bytes_per_s / 1e6:.0f} MB/s")
    if pace.eta_s is not None:
        words.append(f"{pace.eta_s:.0f} s left")
    return f"{message}: {', '.join(words)}"
