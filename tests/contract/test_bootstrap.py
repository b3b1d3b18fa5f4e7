"""The bootstrap: its system step on machines made of a few stub programs, and the commands that it makes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEM = Path(__file__).parents[2] / "etc" / "system.sh"
TOOLS = ("sh", "cat", "tr", "printf")
ENGINE = ("podman", "runc", "conmon", "netavark", "aardvark-dns", "catatonit", "iptables", "curl")
STUB = "#!/bin/sh\n"


class Machine:
    """A PATH of its own; /usr/sbin is searched too, so a program there is on every machine of this host."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.bin.mkdir()
        self.log = root / "log"
        self.log.touch()
        for tool in TOOLS:
            if (path := Path("/usr/bin") / tool).exists():
                (self.bin / tool).symlink_to(path)
        self.add("python3")
        self.add("id", "echo 0")

    def add(self, name: str, body: str = "exit 0") -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"{STUB}{body}\n")
        path.chmod(0o755)

    def log_calls(self, name: str, body: str = "") -> None:
        self.add(name, f'echo "{name} $*" >> {self.log}\n{body}')

    def run(self, purpose: str = "run") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/bin/sh", SYSTEM, purpose],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_is_done_or_said_when_all_is_there(machine: Machine) -> None:
    for name in ENGINE:
        machine.add(name)
    done = machine.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_apt_transaction_brings_what_is_missing(machine: Machine) -> None:
    machine.log_calls("apt-get")
    machine.add("python3", "exit 1")  # no venv module
    done = machine.run()
    assert done.returncode == 0, done.stderr
    update, install = machine.log.read_text().splitlines()
    assert update == "apt-get -qq update"
    assert "--no-install-recommends podman" in install
    assert install.endswith("python3-venv")


def test_the_tests_ask_for_more_than_a_run(machine: Machine) -> None:
    for name in ENGINE:
        machine.add(name)
    machine.log_calls("apt-get")
    machine.run("test")
    assert {"nodejs", "npm"} <= set(machine.log.read_text().splitlines()[1].split())


def test_without_root_rights_sudo_asks_for_its_own_password(machine: Machine) -> None:
    machine.add("id", "echo 1000")
    machine.log_calls("apt-get")
    machine.log_calls("sudo", 'exec "$@"')
    assert machine.run().returncode == 0
    calls = [line.split()[0] for line in machine.log.read_text().splitlines() if line.startswith(("sudo", "apt"))]
    assert calls == ["sudo", "apt-get", "apt-get"]


def test_without_root_rights_and_sudo_the_line_is_printed(machine: Machine) -> None:
    machine.add("id", "echo 1000")
    machine.log_calls("apt-get")
    done = machine.run()
    assert done.returncode == 1
    assert "apt-get install -y --no-install-recommends podman" in done.stderr
    assert "uidmap" in done.stderr
    assert machine.log.read_text() == ""


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ("dnf", "dnf install -y python3 podman crun netavark aardvark-dns conmon catatonit iptables-nft curl"),
        ("pacman", "pacman -S --needed python podman"),
        ("zypper", "zypper install -y python311 podman"),
        ("apk", "apk add python3 shadow-uidmap podman"),
    ],
)
def test_other_systems_get_their_own_line(machine: Machine, tool: str, line: str) -> None:
    machine.log_calls(tool)
    done = machine.run()
    assert done.returncode == 1
    assert line in done.stderr
    assert machine.log.read_text() == ""


def test_a_failed_apt_is_not_taken_for_a_success(machine: Machine) -> None:
    machine.add("apt-get", "exit 100")
    done = machine.run()
    assert done.returncode == 1
    assert "cannot go on: apt could not install: podman" in done.stderr


@pytest.mark.parametrize("folder", ["plain", "my code, mí"])
def test_the_commands_work_wherever_the_checkout_is(tmp_path: Path, folder: str) -> None:
    root = tmp_path / folder
    (root / "etc").mkdir(parents=True)
    shutil.copy(SYSTEM.with_name("venv.sh"), root / "etc")
    (root / "etc" / "requirements.lock").touch()
    (root / "pyproject.toml").write_text('[project.scripts]\nhal0ctl = "words:main"\n')
    (root / "words.py").write_text("import sys\ndef main():\n    print(sys.argv[1:])\n    return 7\n")
    subprocess.run([root / "etc" / "venv.sh", "requirements.lock"], check=True, capture_output=True, timeout=120)
    done = subprocess.run(
        [root / ".venv" / "bin" / "hal0ctl", "a b", "$HOME"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "['a b', '$HOME']\n", "")


def test_the_scripts_can_be_run() -> None:
    root = SYSTEM.parents[1]
    for name in ("etc/bootstrap.sh", "etc/system.sh", "etc/venv.sh", "etc/lock.sh", "images/rootfs.sh", ".ci/run"):
        assert os.access(root / name, os.X_OK), name
