"""A slot in words for people: what it is doing in one sentence, and what an operator should know of it. Pure."""

from typing import Final

from hal0.lib.clock import iso
from hal0.slots.fallback import words
from hal0.slots.record import SwapStep
from hal0.slots.shown import Shown
from hal0.slots.state import NEVER
from hal0.vocab import By, Phase

_BESIDE: Final = {
    SwapStep.PULLING: "looking for image and model",
    SwapStep.WAITING: "waiting for room beside the present container",
    SwapStep.STARTING: "starting the container",
    SwapStep.WARMING: "loading the model",
    SwapStep.UNDOING: "it failed; removing its container",
}


def message(it: Shown) -> str:
    """One sentence: what the slot is doing, or why it is not."""
    life, facts = it.life, it.life.facts
    if life.phase is Phase.OFFLINE:
        if it.config.upstream is not None:
            return f"its requests go to upstream {it.config.upstream!r}"
        if it.live_model is None:
            return "pick a model"
        if life.desired.by is By.ARBITER:
            return "made way for images; comes back when they are done"
        return it.model.missing or "offline"
    if life.phase is Phase.ERROR and facts.fault is not None:
        if not facts.fault.settled or facts.retry_at == NEVER:
            return facts.fault.message
        return f"{facts.fault.message}; next attempt at {iso(facts.retry_at)}"
    if life.overlaps and facts.swap is not None:
        text = facts.progress.message if facts.progress else _BESIDE[facts.swap.step]
        return f"serving {it.live_model} while {facts.swap.to_model} comes: {text}"
    if facts.progress is not None:
        return facts.progress.message
    if life.phase is Phase.READY:
        return f"serving {it.live_model}"
    return {
        Phase.PULLING: "looking for image and model",
        Phase.STARTING: "starting the container",
        Phase.WARMING: "loading the model",
        Phase.UNLOADING: "unloading",
        Phase.ERROR: "removing the container that ended",
    }[life.phase]


def notes(it: Shown) -> list[str]:
    """What an operator should know and is no error."""
    found = []
    seed, live, fallback = it.config.model, it.live_model, it.fallback
    if seed is not None and live is not None and seed != live:
        found.append(f"the configuration's seed is {seed}, the live model is {live}: `hal0ctl slot swap` changes it")
    if fallback is not None and (told := words(it.config, fallback)) is not None:
        found.append(f"started by {told}: {fallback.why}; `hal0ctl slot restart {it.name}` tries its own configuration")
    if (failed := it.life.facts.next_fault) is not None:
        found.append(f"the last swap failed: {failed.message}")
    return found
