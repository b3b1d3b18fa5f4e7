"""The setup of a machine as seen over HTTP: what is proposed for each slot, and what was chosen."""

from hal0.vocab import Capability, Device
from hal0.wire.base import View


class SuggestionView(View):
    """One slot's proposal. `model` is None where nothing is proposed, and `why` says why not.

    `size_bytes` is what is downloaded unless it is `installed`, `memory_bytes` what it takes once it is loaded.
    `license` as its publisher names it. `done`: the slot has this model, and nothing is left to do.
    """

    slot: str
    capability: Capability
    model: str | None
    purpose: str
    license: str
    size_bytes: int
    memory_bytes: int
    device: Device | None
    installed: bool
    done: bool
    why: str


class SetupView(View):
    """The whole proposal. `memory_bytes` is what models may take on this machine together, of its GPU
    where it is `on_gpu`, else of RAM.

    `download_bytes` is what is not there yet, beside what the models' disk has left.
    """

    machine: str
    memory_bytes: int
    on_gpu: bool
    needed_bytes: int
    download_bytes: int
    disk_free_bytes: int | None
    items: list[SuggestionView]


class SetupRequest(View):
    """What to set up: a model per slot. Left out: whatever is proposed and not done. An empty one: nothing."""

    slots: dict[str, str] | None = None
