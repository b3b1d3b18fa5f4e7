"""A slot of one's own on the real thing: made, loaded, spoken to by its name, deleted without a trace."""

import asyncio

import aiohttp

from tests.podman.daemon import Daemon


async def test_made_loaded_asked_and_deleted(daemon: Daemon) -> None:
    await daemon.start()
    made = await asyncio.to_thread(
        daemon.ctl, "slot", "create", "coder", "--model", "tiny-chat", "--ctx", "2048", "--load"
    )
    assert made.returncode == 0, made.stderr
    file = daemon.home / "etc" / "slots.d" / "coder.toml"
    assert file.read_text() == 'model = "tiny-chat"\ncontext_size = 2048\n'
    body = {"model": "coder", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{daemon.url}/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["X-Hal0-Slot"] == "coder"
        assert (await answer.json())["choices"][0]["message"]["content"]
    assert len(daemon.containers()) == 1
    gone = await asyncio.to_thread(daemon.ctl, "slot", "delete", "coder", "-y")
    assert gone.returncode == 0, gone.stderr
    assert daemon.containers() == []
    assert not file.exists()
    assert not (daemon.state / "slots" / "coder").exists()
    async with daemon.operator() as operator:
        assert "coder" not in {slot["name"] for slot in (await operator.get("/api/slots"))["items"]}
    again = await asyncio.to_thread(daemon.ctl, "slot", "delete", "primary", "-y")
    assert (again.returncode, "slot.reserved" in again.stderr) == (6, True)
