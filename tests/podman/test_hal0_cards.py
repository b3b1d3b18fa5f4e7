"""The cards on the real engine: made by a first enable, undone when the load fails, tried, drifting, turned off."""

import asyncio
from dataclasses import dataclass

from tests.podman.daemon import Daemon
from tests.tiny import gguf_models

RERANKER = "bge-reranker-v2-m3-q4_k_m"
REFUSED = '[slots.embed]\nextra_args = ["--no-such-flag"]\n'


@dataclass
class Cards:
    daemon: Daemon

    async def __call__(self, *words: str, code: int = 0) -> str:
        """What `hal0ctl cap` prints, notes and errors included."""
        ran = await asyncio.to_thread(self.daemon.ctl, "cap", *words)
        said = ran.stdout + ran.stderr
        assert ran.returncode == code, said
        return said


async def test_a_card_is_turned_on_tried_and_turned_off(daemon: Daemon) -> None:
    """One world for all of it: each start of a daemon costs more than its steps."""
    daemon.config = f"{daemon.config}{REFUSED}"
    daemon.prepare()
    gguf_models.write_embed(daemon.models / "other-embed.gguf", seed=2)
    gguf_models.write_rerank(daemon.models / f"{RERANKER}.gguf")
    await daemon.start()
    cap = Cards(daemon)
    await the_first_enable_writes_the_rerankers_slot(daemon, cap)
    await a_load_that_fails_is_undone(daemon, cap)
    await both_rows_are_tried(daemon, cap)
    await what_an_operator_swapped_in_is_shown(daemon, cap)
    await off_is_off(daemon, cap)


async def the_first_enable_writes_the_rerankers_slot(daemon: Daemon, cap: Cards) -> None:
    assert "on port 8086 if that is free" in await cap("plan", "embed", "rerank")
    assert "embed/rerank is on" in await cap("enable", "embed", "rerank")
    file = daemon.home / "etc" / "slots.d" / "embed-rerank.toml"
    assert file.read_text() == f'provider = "llama.cpp"\nextra_args = ["--reranking"]\nmodel = "{RERANKER}"\n'


async def a_load_that_fails_is_undone(daemon: Daemon, cap: Cards) -> None:
    """The engine itself refuses: the table is as it was written, and nothing runs or is wanted."""
    file = daemon.home / "etc" / "hal0.toml"
    said = await cap("enable", "embed", "embed", "--model", "tiny-embed", "--device", "cpu", code=1)
    assert "does not know the argument --no-such-flag" in said
    assert file.read_text() == daemon.config
    async with daemon.operator() as operator:
        slot = await operator.slot("embed")
        assert (slot["model"], slot["desired"]["want"], slot["containers"]) == (None, "unloaded", [])
        await asyncio.to_thread(file.write_text, daemon.config.replace(REFUSED, "[slots.embed]\n"))
        await operator.post("/api/models/scan")
    assert "embed/embed is on" in await cap("enable", "embed", "embed", "--model", "tiny-embed")


async def both_rows_are_tried(daemon: Daemon, cap: Cards) -> None:
    tried = await cap("test", "embed")
    assert "embed/embed: 64 numbers in " in tried
    assert "embed/rerank: 2 scores, the best " in tried
    assert len(daemon.containers()) == 2


async def what_an_operator_swapped_in_is_shown(daemon: Daemon, cap: Cards) -> None:
    async with daemon.operator() as operator:
        assert (await operator.verb("embed", "swap", {"model": "other-embed"}))["state"] == "done"
    assert "model: tiny-embed is configured, other-embed is there" in await cap("list")
    assert "use the card's: hal0ctl cap set embed embed --model tiny-embed" in await cap("show", "embed")
    await cap("set", "embed", "embed", "--model", "other-embed")  # the slot's, as it says besides
    assert "differs" not in await cap("show", "embed")


async def off_is_off(daemon: Daemon, cap: Cards) -> None:
    await cap("disable", "embed")
    assert "slot.offline" in await cap("test", "embed", "rerank", code=1)
    assert daemon.containers() == []
