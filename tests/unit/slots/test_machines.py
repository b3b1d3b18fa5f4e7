"""From recorded machines to the decision: which pool a model goes to, whether it may load, and why not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hal0.hardware import nvidia
from hal0.hardware.pools import RAM, PoolKey, PoolKind, pool_for, pools
from hal0.hardware.snapshot import read
from hal0.slots.budget import Fits, Refuse, admit
from hal0.slots.ledger import Ledger, offered
from hal0.slots.need import Need, Weights, estimate
from hal0.vocab import Device, SlotName
from tests.unit.hardware import trees
from tests.unit.hardware.trees import GIB, MIB

NAME: Final = SlotName("primary")
GTT0, VRAM0 = PoolKey(PoolKind.GTT, 0), PoolKey(PoolKind.VRAM, 0)


class Case(NamedTuple):
    """`short`: the pool that is too small, what is free in it for slots and what there is, in GiB; None: it fits."""

    tree: Callable[[Path], Path]
    device: Device
    weights_gib: float
    pool: PoolKey
    short: tuple[PoolKey, float, float] | None = None
    limit_gib: int | None = None
    told: str = ""  # by NVIDIA's own program


RTX_3090: Final = "00000000:01:00.0, 24576, 23552, 35, 52, 112.50"

TABLE: Final = {
    # 100 GiB of 125 are available, and one stays for the system; GTT could borrow 110 of them.
    "unified: fits": Case(trees.strix_halo, Device.VULKAN, 96, GTT0),
    "unified: what GTT would hold RAM does not": Case(trees.strix_halo, Device.VULKAN, 97.5, GTT0, (RAM, 99, 125)),
    "unified: on its processor": Case(trees.strix_halo, Device.CPU, 96, RAM),
    "card: fits": Case(trees.radeon_24, Device.VULKAN, 20, VRAM0),
    "card: too large, whatever RAM there is": Case(trees.radeon_24, Device.VULKAN, 22, VRAM0, (VRAM0, 22, 24)),
    "card: on the processor beside it": Case(trees.radeon_24, Device.CPU, 40, RAM),
    "card that tells nothing: nothing is refused": Case(trees.nvidia, Device.CUDA, 60, VRAM0),
    "card whose own program tells: fits": Case(trees.nvidia, Device.CUDA, 22, VRAM0, told=RTX_3090),
    "card whose own program tells: too large": Case(
        trees.nvidia, Device.CUDA, 23, VRAM0, (VRAM0, 23, 24), told=RTX_3090
    ),
    "the same card by Vulkan": Case(trees.nvidia, Device.VULKAN, 23, VRAM0, (VRAM0, 23, 24), told=RTX_3090),
    "card whose program does not say what is free": Case(
        trees.nvidia, Device.CUDA, 25, VRAM0, (VRAM0, 24, 24), told="00000000:01:00.0, 24576, [N/A], 0, 52, 112.50"
    ),
    "notebook: three quarters": Case(trees.intel_igpu, Device.VULKAN, 10, GTT0),
    "processor only: fits": Case(trees.cpu_only_vm, Device.CPU, 4, RAM),
    "processor only: too large": Case(trees.cpu_only_vm, Device.CPU, 6, RAM, (RAM, 5.5, 8)),
    "processor only: vulkan has no GPU to go to": Case(trees.cpu_only_vm, Device.VULKAN, 6, RAM, (RAM, 5.5, 8)),
    # The container's limit is 16 GiB, of which 4 are taken; the GPU's memory is the host's.
    "container: fits": Case(trees.lxc_limited, Device.CPU, 10, RAM),
    "container: over its limit": Case(trees.lxc_limited, Device.CPU, 12, RAM, (RAM, 11, 16)),
    "container: the GPU is not limited with it": Case(trees.lxc_limited, Device.VULKAN, 60, GTT0),
    "operator's limit": Case(trees.strix_halo, Device.CPU, 24, RAM, (RAM, 24, 24), limit_gib=24),
}


def asked(case: Case, root: Path) -> tuple[Need, Ledger]:
    machine = read(case.tree(root))
    told = nvidia.parse_cards(case.told.splitlines())
    machine = replace(machine, gpus=tuple(nvidia.with_memory(gpu, told) for gpu in machine.gpus))
    weights = Weights(size_bytes=int(case.weights_gib * GIB), cache_bytes_per_token=None)
    need = estimate(weights, pool=pool_for(case.device, None, machine), context=4096)
    limit = None if case.limit_gib is None else case.limit_gib * GIB
    return need, Ledger(offered(pools(machine), limit))


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE)
def test_from_the_tree_to_the_decision(case: Case, tmp_path: Path) -> None:
    need, ledger = asked(case, tmp_path)
    assert need.pool == case.pool
    verdict = admit(NAME, need, ledger, 0.0)
    if case.short is None:
        assert verdict == Fits()
        return
    assert isinstance(verdict, Refuse)
    pool, free, total = case.short
    figures = verdict.error.details
    assert (verdict.error.code, verdict.error.status) == ("slot.memory_budget", 507)
    assert (figures["pool"], figures["free_bytes"], figures["total_bytes"]) == (str(pool), free * GIB, total * GIB)
    # weights and 2 %, one batch's buffers, the mask of 512 x 4096 tokens; the engine itself is in RAM.
    needed = int(case.weights_gib * GIB * 1.02) + 384 * MIB + 12 * MIB + (128 * MIB if pool == RAM else 0)
    assert (figures["need_bytes"], figures["short_bytes"]) == (needed, needed - free * GIB)
    assert f"{needed / 1e9:.1f} GB of {pool}, {free * GIB / 1e9:.1f} GB is free" in verdict.error.message
