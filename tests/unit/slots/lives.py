"""Builders of slots' lives at one moment, for tables."""

from typing import Any

from hal0.slots.happenings import Life
from hal0.slots.record import SCHEMA, Attempts, Container, Desired, Failure, SlotRecord
from hal0.slots.state import Facts
from hal0.vocab import By, Device, FailureClass, Phase, ProviderName, Role, SlotName, SlotState, Want

NOW = 1_000_000.0
TRANSIENT = Failure(FailureClass.TRANSIENT, "slot.exited", "it ended", NOW)
PERMANENT = Failure(FailureClass.PERMANENT, "slot.load_failed", "corrupt", NOW)
ENGINE = Failure(FailureClass.TRANSIENT, "engine.unreachable", "nobody answers", NOW)


def loaded(model: str | None = "one", by: By = By.OPERATOR) -> Desired:
    return Desired(Want.LOADED, model, by, NOW)


def unloaded(model: str | None = "one", by: By = By.OPERATOR) -> Desired:
    return Desired(Want.UNLOADED, model, by, NOW)


def container(generation: int = 1, model: str = "one", role: Role = Role.CURRENT, **more: Any) -> Container:
    return Container(role, f"hal0-0badcafe-primary-{generation}", generation, model, **more)


def life(phase: Phase, desired: Desired | None = None, **facts: Any) -> Life:
    return Life(desired=desired or loaded(), phase=phase, facts=Facts(**facts))


def ready(model: str = "one", **facts: Any) -> Life:
    fields = {"current": container(model=model), "generation": 1, "launched": True, "ready": True, "fetched": True}
    return life(Phase.READY, loaded(model), **(fields | facts))


def record(phase: Phase, desired: Desired | None = None, **more: Any) -> SlotRecord:
    fields: dict[str, Any] = {
        "schema": SCHEMA,
        "name": SlotName("primary"),
        "state": SlotState(phase),
        "phase": phase,
        "since": NOW - 100,
        "desired": desired or loaded(),
        "model": "one",
        "provider": ProviderName.LLAMACPP,
        "device": Device.CPU,
        "generation": 1,
        "containers": (),
        "swap": None,
        "progress": None,
        "failure": None,
        "attempts": Attempts(),
        "load_history": (),
        "last_used": None,
        "updated_at": NOW,
    }
    return SlotRecord(**(fields | more))
