"""The lock files: exact, hashed, without an address, and covering what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

import pytest

ETC = Path(__file__).parents[2] / "etc"
LOCKS = ("requirements.lock", "requirements-dev.lock")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_locks_pin_hashes_and_name_no_address(name: str) -> None:
    lines = (ETC / name).read_text().splitlines()
    assert not [line for line in lines if "://" in line or line.startswith("-")]
    pins = [line for line in lines if not line.startswith(" ")]
    assert all(re.match(r"[a-z0-9._-]+==[^ ]+( ; [^\\]+)? \\$", pin) for pin in pins)
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines if line.startswith(" "))


def test_the_larger_lock_has_the_smaller_ones_versions() -> None:
    small, large = (
        {line.removesuffix(" \\") for line in (ETC / name).read_text().splitlines() if "==" in line}
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    names = [{re.split("==", pin)[0] for pin in pins} for pins in (small, large)]
    assert names[0] < names[1]
    assert {pin.split()[0] for pin in small} <= {pin.split()[0] for pin in large}


def test_everything_that_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((ETC.parent / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    run = project["project"]["dependencies"]
    for name, wanted in zip(LOCKS, (run, [*run, *groups["test"], *groups["check"]]), strict=True):
        locked = set(re.findall(r"^([a-z0-9._-]+)==", (ETC / name).read_text(), re.MULTILINE))
        assert {re.split(r"[<>=!; \[]", requirement)[0].lower() for requirement in wanted} <= locked
