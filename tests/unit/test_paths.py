"""Where files live, for each kind of user."""

from pathlib import Path

import pytest

from hal0.paths import MAX_SOCKET_PATH_BYTES, Paths, resolve, socket_path


def places(paths: Paths) -> list[str]:
    return [str(p) for p in (paths.config_dir, paths.state_dir, paths.models_dir, paths.run_dir)]


@pytest.mark.parametrize(
    ("env", "uid", "expected"),
    [
        ({}, 0, ["/etc/hal0", "/var/lib/hal0", "/var/lib/hal0/models", "/run/hal0"]),
        ({"HAL0_HOME": "/x", "HOME": "/h"}, 0, ["/x/etc", "/x/var", "/x/var/models", "/x/run"]),
        ({"HAL0_HOME": "/x"}, 1000, ["/x/etc", "/x/var", "/x/var/models", "/x/run"]),
        (
            {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/1000"},
            1000,
            ["/h/.config/hal0", "/h/.local/state/hal0", "/h/.local/share/hal0/models", "/run/user/1000/hal0"],
        ),
        (
            {"HOME": "/h", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s", "XDG_DATA_HOME": "/d"},
            1000,
            ["/c/hal0", "/s/hal0", "/d/hal0/models", "/s/hal0/run"],
        ),
        ({"HAL0_HOME": ""}, 0, ["/etc/hal0", "/var/lib/hal0", "/var/lib/hal0/models", "/run/hal0"]),
    ],
)
def test_places(env: dict[str, str], uid: int, expected: list[str]) -> None:
    assert places(resolve(env, uid=uid)) == expected


def test_a_relative_home_is_fixed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve({"HAL0_HOME": "h"}).state_dir == tmp_path / "h" / "var"


def test_every_file_is_in_its_place() -> None:
    paths = resolve({"HAL0_HOME": "/x"})
    assert str(paths.config_file) == "/x/etc/hal0.toml"
    assert str(paths.slots_config_dir) == "/x/etc/slots.d"
    assert str(paths.lock_file) == "/x/var/lock"
    assert str(paths.instance_file) == "/x/var/instance"
    assert str(paths.jobs_file) == "/x/var/jobs.json"
    assert str(paths.registry_file) == "/x/var/registry.toml"
    assert str(paths.spool_dir) == "/x/var/spool"
    assert str(paths.slot_dir("primary")) == "/x/var/slots/primary"
    assert str(paths.containers_conf) == "/x/run/containers.conf"


@pytest.mark.parametrize("letter", ["r", "ä"])
def test_a_socket_path_that_fits_stays_and_a_longer_one_moves(letter: str) -> None:
    room = MAX_SOCKET_PATH_BYTES - len("/rr/s")
    run = Path("/rr" + letter * (room // len(letter.encode())))
    assert socket_path(run, "s", instance="0badcafe") == run / "s"
    assert socket_path(run, "sss", instance="0badcafe") == Path("/tmp/hal0-0badcafe/sss")
