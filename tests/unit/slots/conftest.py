"""A world on a disk in memory with a rough engine, for stories of faults."""

from pathlib import Path

import pytest

from tests.fakes.world import Disk, World
from tests.unit.slots.rough import RoughEngine


@pytest.fixture
def engine() -> RoughEngine:
    return RoughEngine()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def world(tmp_path: Path, port_block: range, engine: RoughEngine, disk: Disk) -> World:
    return World(tmp_path, port_block, engine, disk=disk)
