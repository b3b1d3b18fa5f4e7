"""`hal0ctl hw` against a scripted hal0: what people read of a machine, and what a report leaves out."""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from hal0.capabilities.picture import picture
from hal0.cli import watch
from hal0.wire.hardware import HardwareView
from tests.fakes.api_server import ApiServer
from tests.unit.capabilities.test_prober import prober
from tests.unit.cli.conftest import Run
from tests.unit.hardware import trees


@pytest.fixture
async def view(api: ApiServer, tmp_path: Path) -> HardwareView:
    """An LXC container on a Strix Halo that was given no device."""
    found = picture(await prober(trees.lxc_limited(tmp_path / "machine")).look(), None)
    api.replies["GET", "/api/hardware"] = (200, found.model_dump(mode="json"))
    api.replies["POST", "/api/hardware/probe"] = (200, {"hardware": found.model_dump(mode="json"), "changes": []})
    return found


@pytest.mark.usefixtures("view")
def test_show_names_the_machine_and_the_lines_that_help(hal0ctl: Run) -> None:
    ran = hal0ctl("hw", "show")
    assert ran.code == 0
    assert "machine  Strix Halo, LXC container" in ran.out
    assert "gfx1151" in ran.out
    assert "GTT 118.1 GB" in ran.out
    assert "runs on  rocm: unprepared, there is no /dev/kfd" in ran.out
    assert "    dev0: /dev/dri/renderD128,gid=992,mode=0660\n" in ran.out
    assert "cuda" not in ran.out


@pytest.mark.usefixtures("view")
def test_backends_say_what_can_be_used_and_why_not(hal0ctl: Run) -> None:
    rows = {line.split()[0]: line for line in hal0ctl("hw", "backends").out.splitlines()}
    assert list(rows) == ["DEVICE", "vulkan", "rocm", "cuda", "npu", "cpu"]
    assert rows["cpu"].split()[1] == "ready"
    assert "there is no NVIDIA GPU" in rows["cuda"]


@pytest.mark.usefixtures("view")
def test_a_look_in_motion(hal0ctl: Run) -> None:
    ran = hal0ctl("hw", "watch", "--once")
    assert "gpu 0    37% busy, VRAM 314.6 MB, GTT 6.4 GB, 61 °C, 54 W, 2900 MHz" in ran.out
    assert "npu 0    asleep" in ran.out
    live = json.loads(hal0ctl("hw", "watch", "-o", "json").out)
    assert live["gpus"][0]["busy"] == 0.37


class Silence:
    """Events that never come: waiting for them is all that takes time."""

    now = 0.0

    def next(self, timeout_s: float) -> None:
        self.now += timeout_s


@pytest.mark.usefixtures("view")
def test_a_pipe_gets_a_document_a_line_until_the_timeout(hal0ctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Silence()
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(watch, "Feed", lambda _client: contextlib.nullcontext(clock))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)  # the terminal is not where the data goes
    ran = hal0ctl("hw", "watch", "--interval", "0.5", "--timeout", "0.9")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert len(lines) == 2
    assert {json.loads(line)["gpus"][0]["busy"] for line in lines} == {0.37}
    assert hal0ctl("hw", "watch", "-o", "yaml").out.startswith("cpu:")


def test_a_report_can_go_without_names(hal0ctl: Run, view: HardwareView) -> None:
    whole = json.loads(hal0ctl("hw", "report", "-o", "json").out)
    assert whole["host"]["hostname"] == view.host.hostname == "box"
    redacted = hal0ctl("hw", "report", "--redact").out
    assert "box" not in redacted
    assert "Framework" not in redacted
    assert view.disks[0].path not in redacted
    assert "gfx1151" in redacted


def test_a_probe_names_changes(api: ApiServer, hal0ctl: Run, view: HardwareView) -> None:
    assert hal0ctl("hw", "probe").out == "nothing has changed\n"
    change = {"key": "runtimes.npu.readiness", "old": "absent", "new": "ready"}
    api.replies["POST", "/api/hardware/probe"] = (
        200,
        {"hardware": view.model_dump(mode="json"), "changes": [change]},
    )
    assert hal0ctl("hw", "probe").out == "runtimes.npu.readiness: absent -> ready\n"
