"""The recommended set of a machine: one model of the catalog per slot, for what memory there is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hal0.capabilities.offers import Offer, recommend
from hal0.hardware import runtimes
from hal0.hardware.cards import Vendor
from hal0.hardware.pools import RAM, MemoryPool, pool_for
from hal0.hardware.survey import Survey
from hal0.slots.ledger import offer_bytes
from hal0.vocab import Capability, Device, SlotName

# Slots take turns where they do not fit together, so these bound what each may take, not what all take.
_SMALL_SHARE: Final = 0.08
_SMALL_LEAST: Final = 10**9  # or a third of a machine that has less than three of that
_IMAGE_SHARE: Final = 0.4
# The one that people talk to gets what the others leave, and never less than this.
_CHAT_LEAST: Final = 0.6
_CHAT_OF_REST: Final = 0.9  # its prompts of earlier talks grow

_CHAT: Final = SlotName("primary")
_SMALL: Final = {SlotName("embed"): Capability.EMBED, SlotName("embed-rerank"): Capability.RERANK}
_VOICE: Final = {SlotName("stt"): Capability.STT, SlotName("tts"): Capability.TTS}
_IMAGE: Final = SlotName("img")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What slots may have together, in bytes: of RAM, and of the GPU that models go to by themselves (None: no GPU).

    `shared`: the GPU's memory is RAM as well. `fast`: that GPU computes faster than the processor. `draws`: images can
    be made on it.
    """

    ram_bytes: int
    gpu_bytes: int | None = None
    shared: bool = False
    fast: bool = False
    draws: bool = False

    @property
    def main_bytes(self) -> int:
        return self.ram_bytes if self.gpu_bytes is None else self.gpu_bytes


def room_of(pools: Sequence[MemoryPool], survey: Survey) -> Room:
    """`pools` with the operator's limits (`ledger.offered`). What nobody tells the size of counts nothing, nor does a
    GPU that slots cannot use as this machine is: in a container that was not given it, or without its driver."""
    by_key = {pool.key: pool for pool in pools}
    ram = offer_bytes(by_key[RAM]) or 0
    usable = {index for runtime in runtimes.of(survey).values() if runtime.ready for index in runtime.gpus}
    machine = replace(survey.machine, gpus=tuple(gpu for gpu in survey.machine.gpus if gpu.index in usable))
    key = pool_for(Device.VULKAN, None, machine)
    mine = (offer_bytes(by_key[key]) or 0) if key != RAM else 0
    gpu = next((gpu for gpu in machine.gpus if gpu.index == key.gpu_index), None)
    if gpu is None or not mine:
        return Room(ram_bytes=ram)
    shared = by_key[key].unified
    return Room(
        ram_bytes=ram,
        gpu_bytes=min(mine, ram) if shared else mine,
        shared=shared,
        # Intel's GPUs on the die read the same memory as its processors, no faster.
        fast=not (gpu.vendor is Vendor.INTEL and gpu.apu),
        draws=gpu.vendor in (Vendor.AMD, Vendor.NVIDIA),
    )


def loadout(room: Room) -> dict[SlotName, Offer | None]:
    """A model per slot, None where the catalog has none that fits. Chat comes first: it is what is set up first."""
    small = _small_bytes(room.main_bytes)
    found = {slot: recommend(capability, small, on_gpu=room.fast) for slot, capability in _SMALL.items()}
    spoken = _small_bytes(room.ram_bytes)
    voice = {slot: recommend(capability, spoken, on_gpu=False) for slot, capability in _VOICE.items()}
    image_bytes = int((room.main_bytes if room.draws else room.ram_bytes) * _IMAGE_SHARE)
    image = {_IMAGE: recommend(Capability.IMAGE, image_bytes, on_gpu=room.draws)}
    beside = [*found.values()]
    beside += voice.values() if room.gpu_bytes is None or room.shared else ()
    beside += image.values() if room.draws or room.gpu_bytes is None else ()
    left = room.main_bytes - sum(offer.memory_bytes for offer in beside if offer is not None)
    most = int(max(left * _CHAT_OF_REST, room.main_bytes * _CHAT_LEAST))
    return {_CHAT: recommend(Capability.CHAT, most, on_gpu=room.fast), **found, **voice, **image}


def _small_bytes(room_bytes: int) -> int:
    return int(max(room_bytes * _SMALL_SHARE, min(_SMALL_LEAST, room_bytes / 3)))
