"""The out-of-memory killer on the real thing: podman 4.3 does not say it, hal0 does."""

import os

from tests.podman.daemon import Daemon
from tests.podman.streams import chat


async def test_a_model_that_does_not_fit_its_limit_says_why(daemon: Daemon) -> None:
    """A key-value cache far beyond the container's limit: the kernel kills the engine while it loads."""
    assert os.geteuid() == 0, "a container's memory limit needs root, as this suite does"
    daemon.config = '[slots.primary]\nmemory_limit = "64MiB"\ncontext_size = 524288\n'
    daemon.prepare()
    await daemon.start()
    async with daemon.operator() as operator:
        job = await operator.verb("primary", "swap", {"model": "tiny-chat"})
        assert job["state"] == "failed"
        failure = await operator.get("/api/slots/primary/failure")
        assert failure["exit_code"] == 137, failure
        assert failure["signal"] == "SIGKILL"
        assert failure["oom"], failure
        assert "memory" in failure["evidence"] or "bytes" in failure["evidence"]
        assert failure["spec_hash"]
        assert (daemon.state / "slots/primary/last-failure.json").exists()
        await operator.verb("primary", "unload")


async def test_under_a_budget_for_one_the_idle_slot_leaves_and_the_one_that_answers_stays(daemon: Daemon) -> None:
    """Each slot is estimated at some 150 MB: 200 MiB together hold one of them."""
    daemon.config = (
        '[engine]\nmemory_limit = "200MiB"\n[slots.primary]\nmodel = "tiny-chat"\ncontext_size = 4096\n'
        '[slots.coder]\nmodel = "tiny-chat"\ncontext_size = 4096\n'
    )
    daemon.prepare()
    await daemon.start()
    async with daemon.operator() as operator:
        assert (await operator.verb("primary", "load"))["state"] == "done"
        assert (await operator.verb("coder", "load"))["state"] == "done"
        gone = await operator.slot("primary")
        assert (gone["state"], gone["desired"]["by"]) == ("offline", "evicted")
        assert len(daemon.containers()) == 1

        stream = await chat(daemon.port, model="coder", max_tokens=3900)
        await stream.first_event()
        job = await operator.verb("primary", "load")
        error = job["error"]
        assert (job["state"], error["code"]) == ("failed", "slot.memory_budget")
        assert "while coder is answering" in error["message"]
        figures = error["details"]
        assert figures["short_bytes"] == figures["need_bytes"] - figures["free_bytes"] > 0
        assert sum(term["bytes"] for term in figures["terms"]) == figures["need_bytes"]
        assert [(holder["slot"], holder["evictable"]) for holder in figures["holders"]] == [("coder", False)]
        assert await stream.chunk()  # it goes on
        await stream.close()

        await operator.reaches("ready", "primary")  # the wish stands: once the other is idle it leaves
        assert (await operator.slot("coder"))["desired"]["by"] == "evicted"
