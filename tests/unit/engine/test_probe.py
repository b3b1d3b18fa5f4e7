"""What a restricted host refuses, found one by one; an ordinary host costs one container."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hal0.engine.checks import CheckState, checks
from hal0.engine.payload import Feature
from hal0.engine.probe import HostProbe, ProbeResult
from hal0.engine.transport import Transport
from hal0.errors import Hal0Error
from tests.factories import INSTANCE
from tests.unit.engine.test_host import facts

NOT_FOUND = 'runc: exec: "/.hal0-probe": OCI runtime attempted to invoke a command that was not found'
Refuses = Callable[[dict[str, Any]], str | None]


class RestrictedPodman(Transport):
    """A transport whose podman refuses what `refuses` says of a create body, at start."""

    def __init__(self, refuses: Refuses) -> None:
        super().__init__(Path("/scripted.sock"))
        self.refuses = refuses
        self.created: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self.left_behind = False

    async def ping(self) -> str:
        return "4.3.1"

    async def json(self, path: str, *_: Any, **__: Any) -> Any:
        if path == "/images/json":
            return [{"Id": "other", "Names": []}, {"Id": "ours", "Names": ["localhost/hal0-toolbox-cpu:latest"]}]
        if path == "/containers/json":
            return [{"Id": "left-behind"}] if self.left_behind else []
        return {"host": {"cgroupVersion": "v1"}, "store": {"graphDriverName": "vfs"}}

    async def call(self, method: str, path: str, *_: Any, json: Any = None, **__: Any) -> Any:
        if path == "/containers/create":
            self.created.append(json)
        elif path.endswith("/start"):
            reason = self.refuses(self.created[-1])
            raise Hal0Error("engine.failed", reason or NOT_FOUND)
        elif method == "DELETE":
            self.removed.append(path.rpartition("/")[2])


def ulimits(body: dict[str, Any]) -> str | None:
    return None if "r_limits" in body else "setting rlimit type 7: operation not permitted"


def no_init(body: dict[str, Any]) -> str | None:
    return "container-init binary not found" if body.get("init") else None


def no_memory_and_bridge(body: dict[str, Any]) -> str | None:
    if "memory" in body["resource_limits"]:
        return "memory controller is not there"
    return "netavark: iptables missing" if body["netns"]["nsmode"] == "bridge" else None


@pytest.mark.parametrize(
    ("refuses", "left_out"),
    [
        (lambda _: None, set()),
        (no_init, {Feature.INIT}),
        (no_memory_and_bridge, {Feature.MEMORY_LIMIT, Feature.BRIDGE}),
    ],
    ids=["ordinary", "no-init", "no-memory-no-bridge"],
)
async def test_each_refused_feature_is_found_with_its_reason(
    tmp_path: Path, refuses: Refuses, left_out: set[Feature]
) -> None:
    podman = RestrictedPodman(refuses)
    profile = await HostProbe(facts(), tmp_path / "host.json", instance=INSTANCE).profile(podman, "i")
    assert set(profile.left_out) == left_out
    assert all(profile.left_out.values())
    assert podman.removed == [body["name"] for body in podman.created]
    if not left_out:
        assert len(podman.created) == 1


async def test_what_an_earlier_probe_left_behind_is_removed_first(tmp_path: Path) -> None:
    podman = RestrictedPodman(lambda _: None)
    podman.left_behind = True
    await HostProbe(facts(), tmp_path / "host.json", instance=INSTANCE).profile(podman, "i")
    assert podman.removed == ["left-behind", podman.created[0]["name"]]
    assert podman.created[0]["labels"] == {"dev.hal0.probe": INSTANCE}


async def test_explicit_ulimits_only_where_the_service_refuses_its_own(tmp_path: Path) -> None:
    restricted = facts(sys_resource=False, nofile_hard=20000)
    plain = await HostProbe(restricted, tmp_path / "a.json", instance=INSTANCE).profile(
        RestrictedPodman(lambda _: None), "i"
    )
    needed = await HostProbe(restricted, tmp_path / "b.json", instance=INSTANCE).profile(RestrictedPodman(ulimits), "i")
    assert (plain.nofile, plain.nproc) == (None, None)
    assert (needed.nofile, needed.nproc, dict(needed.left_out)) == (20000, 32768, {})


async def test_a_host_where_nothing_starts_is_a_problem_and_is_tried_again(tmp_path: Path) -> None:
    podman = RestrictedPodman(lambda _: "no space left on device")
    probe = HostProbe(facts(), tmp_path / "host.json", instance=INSTANCE)
    profile = await probe.profile(podman, "i")
    assert dict(profile.left_out) == {}  # never unconfined because of an unrelated fault
    assert probe.result is not None
    assert probe.result.problem is not None
    assert "no space" in probe.result.problem
    assert not (tmp_path / "host.json").exists()
    podman.refuses = lambda _: None
    await probe.profile(podman, "i")
    assert probe.result.problem is None


async def test_a_reboot_or_another_podman_makes_the_cache_stale(tmp_path: Path) -> None:
    cache = tmp_path / "host.json"
    await HostProbe(facts(), cache, instance=INSTANCE).profile(RestrictedPodman(no_init), "i")
    same, rebooted = RestrictedPodman(no_init), RestrictedPodman(lambda _: None)
    kept = await HostProbe(facts(), cache, instance=INSTANCE).profile(same, "i")
    fresh = await HostProbe(facts(boot_id="later"), cache, instance=INSTANCE).profile(rebooted, "i")
    assert (set(kept.left_out), same.created) == ({Feature.INIT}, [])
    assert (set(fresh.left_out), len(rebooted.created)) == (set(), 1)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"schema": 1, "key": 5}', '{"schema": 2}'])
async def test_a_damaged_cache_is_found_out_again(tmp_path: Path, text: str) -> None:
    cache = tmp_path / "host.json"
    cache.write_text(text)
    podman = RestrictedPodman(lambda _: None)
    await HostProbe(facts(), cache, instance=INSTANCE).profile(podman, "i")
    assert len(podman.created) == 1


async def test_probing_ahead_takes_our_own_image_and_asks_podman_about_itself(tmp_path: Path) -> None:
    podman = RestrictedPodman(lambda _: None)
    probe = HostProbe(facts(selinux_enforcing=True), tmp_path / "host.json", instance=INSTANCE)
    await probe.warm(podman)
    assert [body["image"] for body in podman.created] == ["ours"]
    assert podman.created[0]["selinux_opts"] == ["disable"]
    assert probe.result is not None
    assert probe.result.engine["storage"] == "vfs"
    found = {
        check.name: check for check in checks(facts(), version="4.3.1", source="own", problem=None, probed=probe.result)
    }
    assert found["storage"].state is CheckState.WARN
    assert found["selinux"].state is CheckState.WARN
    assert found["podman"].state is CheckState.OK


def states(probed: ProbeResult | None, problem: Hal0Error | None = None) -> dict[str, CheckState]:
    version = None if problem else "4.3.1"
    return {
        check.name: check.state
        for check in checks(facts(), version=version, source="own", problem=problem, probed=probed)
    }


async def test_checks_never_take_the_unknown_for_ok(tmp_path: Path) -> None:
    assert states(None)["container"] is CheckState.SKIPPED
    absent = Hal0Error("engine.unreachable", "cannot start podman's service", hint="apt-get install podman")
    assert states(None, absent)["podman"] is CheckState.FAIL
    probe = HostProbe(facts(), tmp_path / "host.json", instance=INSTANCE)
    await probe.profile(RestrictedPodman(lambda _: "broken"), "i")
    assert states(probe.result)["container"] is CheckState.FAIL
    await probe.profile(RestrictedPodman(no_init), "i")
    found = states(probe.result)
    assert (found["container"], found["init"], found["storage"]) == (CheckState.OK, CheckState.WARN, CheckState.SKIPPED)


def test_every_check_that_is_not_ok_names_a_cure() -> None:
    left_out = dict.fromkeys(Feature, "refused")
    from hal0.engine.payload import HostProfile

    probed = ProbeResult("k", HostProfile(left_out), {"storage": "vfs"})
    restricted = facts(sys_resource=False, nofile_hard=20000)
    for check in checks(restricted, version=None, source="own", problem=None, probed=probed):
        assert check.state is CheckState.OK or check.fix, check
