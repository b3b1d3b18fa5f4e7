"""hal0ctl starts quickly: what it imports, and what that costs beside an empty interpreter."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal0.cli.names import MODULES
from hal0.vocab import SlotState
from tests.fakes.api_server import ApiServer, serving
from tests.fakes.api_views import slot_view

REPOSITORY = Path(__file__).parents[2]
FOREIGN = ("aiohttp", "pydantic", "orjson", "tomlkit", "podman", "rich", "asyncio", "uvloop", "requests", "urllib3")
SERVER = (
    "hal0.app",
    "hal0.api",
    "hal0.wire",
    "hal0.slots",
    "hal0.engine",
    "hal0.config",
    "hal0.dispatch",
    "hal0.events",
)

# An interpreter takes ~12 ms here and `hal0ctl ps` ~90 ms: aiohttp alone would add another ten interpreters.
MOST_INTERPRETERS = 14
MOST_S = 0.150
RUNS = 20  # the first is mostly good enough


@pytest.fixture
def api(home: Path) -> Iterator[ApiServer]:
    (home / "run").mkdir(parents=True)
    with serving(
        ApiServer(slots={"primary": slot_view("primary", SlotState.READY)}), home / "run" / "hal0.sock"
    ) as api:
        yield api


def _python(*args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, *args], env=env, capture_output=True, text=True, timeout=120, check=False)


def _loaded_by(code: str) -> list[str]:
    ran = _python("-c", f"import json, sys\n{code}\nsys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))")
    names: list[str] = json.loads(ran.stderr.splitlines()[-1])
    return names


@pytest.mark.parametrize(
    "code",
    [
        "from hal0.cli.main import main\nassert main(['ps']) == 0",
        "from hal0.cli.main import main\nassert main(['slot', 'load', 'primary', '--timeout', '5']) == 0",
        *(f"import hal0.cli.{where.partition(':')[0]}" for where in sorted(set(MODULES.values()))),
    ],
)
def test_nothing_of_the_server_is_imported(api: ApiServer, code: str) -> None:
    loaded = _loaded_by(code)
    heavy = [name for name in loaded if name.split(".")[0] in FOREIGN or name.startswith(SERVER)]
    assert not heavy


def test_the_names_alone_cost_nothing() -> None:
    loaded = _loaded_by("import hal0.cli.names")
    assert not {"click", "http.client", "json.tool"} & set(loaded)


def test_ps_is_quick(api: ApiServer) -> None:
    """The best of several runs, as a ratio to an empty interpreter in the same moment, or in absolute time."""

    def once(*args: str) -> float:
        started = time.perf_counter()
        ran = _python(*args)
        assert ran.returncode == 0, ran.stderr
        return time.perf_counter() - started

    empty = ps = float("inf")
    for _ in range(RUNS):
        empty = min(empty, once("-c", "pass"))
        ps = min(ps, once("-c", "import sys; from hal0.cli.main import main; sys.exit(main(['ps']))"))
        if ps <= max(MOST_S, MOST_INTERPRETERS * empty):
            return
    raise AssertionError(f"ps {ps * 1000:.0f} ms, empty {empty * 1000:.0f} ms")
