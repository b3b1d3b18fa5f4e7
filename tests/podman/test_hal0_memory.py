"""The out-of-memory killer on the real thing: podman 4.3 does not say it, hal0 does."""

import os

from tests.podman.daemon import Daemon


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
