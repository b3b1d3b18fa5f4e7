"""A scripted hal0 on a real socket where `hal0ctl` looks for it by default, and a way to run it in process."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hal0.cli.main import main
from hal0.vocab import SlotState
from tests.fakes.api_server import ApiServer, serving
from tests.fakes.api_views import slot_view


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _plain_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HAL0_URL", "HAL0_API_KEY", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    (home / "run").mkdir(parents=True)


@pytest.fixture
def api(home: Path) -> Iterator[ApiServer]:
    known = [slot_view("primary", SlotState.READY), slot_view("embed"), slot_view("img")]
    with serving(ApiServer(slots={s.name: s for s in known}), home / "run" / "hal0.sock") as server:
        yield server


@pytest.fixture
def hal0ctl(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*args: str) -> Ran:
        code = main(args)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run
