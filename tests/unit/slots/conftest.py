"""A world on a disk in memory with a rough engine, for stories of faults; and lives that go on beside all tests."""

from pathlib import Path
from typing import Final

import pytest

from tests.conftest import SOAK
from tests.fakes.world import Disk, World
from tests.unit.slots.all_lives import Lives
from tests.unit.slots.rough import RoughEngine

_LIVES: Final = pytest.StashKey[Lives]()


@pytest.fixture
def engine() -> RoughEngine:
    return RoughEngine()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def world(tmp_path: Path, port_block: range, engine: RoughEngine, disk: Disk) -> World:
    return World(tmp_path, port_block, engine, disk=disk)


@pytest.fixture
def lives(request: pytest.FixtureRequest) -> Lives:
    """Begun when the tests were chosen; `told` waits for their end."""
    return request.config.stash[_LIVES]


@pytest.hookimpl(trylast=True)  # who waits for the lives comes behind whatever order there is
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_waits_for_lives)


def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.option.collectonly and any(map(_waits_for_lives, session.items)):
        session.config.stash[_LIVES] = Lives(50_000 if SOAK else 2_000)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (lives := session.config.stash.get(_LIVES, None)) is not None:
        lives.end()


def _waits_for_lives(item: pytest.Item) -> bool:
    return "lives" in getattr(item, "fixturenames", ())
