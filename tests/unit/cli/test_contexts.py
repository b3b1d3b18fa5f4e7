"""Which hal0 a command speaks to, and what it says of that."""

from pathlib import Path

import pytest

from hal0.cli.exits import Exit
from tests.fakes.api_server import ApiServer
from tests.unit.cli.conftest import Run


def test_contexts(api: ApiServer, hal0ctl: Run, home: Path) -> None:
    assert hal0ctl("context", "add", "box", "--url", "http://127.0.0.1:9").code == 0
    assert hal0ctl("context", "use", "box").code == 0
    assert "127.0.0.1:9 (context box)" in hal0ctl("ps").err
    assert hal0ctl("context", "list", "-o", "name").out == "box\n"
    assert hal0ctl("ps", "--url", f"unix://{home}/run/hal0.sock").code == 0
    assert hal0ctl("context", "use", "--none").code == 0
    assert hal0ctl("ps").code == 0
    assert hal0ctl("context", "delete", "box").code == 0
    assert hal0ctl("context", "delete", "box").code == Exit.NOT_FOUND
    assert hal0ctl("context", "use", "box").code == Exit.NOT_FOUND


def test_verbose_traces_requests_without_the_key(api: ApiServer, hal0ctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAL0_API_KEY", "sekrit")
    ran = hal0ctl("-v", "slot", "list", "-o", "json")
    assert "http: GET" in ran.err
    assert "sekrit" not in ran.err + ran.out
