"""Finding podman's socket: order, Docker's doubles, absence and its cure."""

from pathlib import Path

import pytest

from hal0.engine.podman import PodmanEngine
from hal0.engine.service import PodmanService, Source, candidates
from hal0.errors import Hal0Error
from hal0.paths import Paths
from tests.fakes.podman_api import DOCKER_PING, ScriptedPodman
from tests.unit.engine.test_host import facts


@pytest.mark.parametrize(
    ("configured", "environ", "expected"),
    [
        ("/a.sock", {"CONTAINER_HOST": "unix:///b.sock"}, [(Source.CONFIG, "/a.sock")]),
        ("unix:///a.sock", {}, [(Source.CONFIG, "/a.sock")]),
        (None, {}, [(Source.ROOTFUL, "/run/podman/podman.sock")]),
        (
            None,
            {"CONTAINER_HOST": "unix:///b.sock", "XDG_RUNTIME_DIR": "/run/user/7"},
            [
                (Source.ENVIRONMENT, "/b.sock"),
                (Source.ROOTFUL, "/run/podman/podman.sock"),
                (Source.ROOTLESS, "/run/user/7/podman/podman.sock"),
            ],
        ),
    ],
)
def test_sockets_are_tried_in_this_order(
    configured: str | None, environ: dict[str, str], expected: list[tuple[Source, str]]
) -> None:
    assert candidates(configured, environ) == [(source, Path(path)) for source, path in expected]


@pytest.mark.parametrize("address", ["tcp://host:1", "ssh://root@host/run/podman/podman.sock"])
def test_a_podman_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(Hal0Error, match="on this machine"):
        candidates(None, {"CONTAINER_HOST": address})


def service(paths: Paths, *sockets: tuple[Source, Path]) -> PodmanService:
    """On a host without podman."""
    return PodmanService(
        facts(),
        {"PATH": "/nonexistent"},
        run_dir=paths.run_dir,
        own_socket=paths.run_dir / "engine.sock",
        sockets=sockets,
    )


async def test_the_first_socket_that_answers_as_podman_is_used(api: ScriptedPodman, paths: Paths) -> None:
    absent = (Source.ENVIRONMENT, paths.run_dir / "none.sock")
    async with service(paths, absent, (Source.ROOTFUL, api.socket)) as found:
        assert (found.socket, found.status.source, found.status.version) == (api.socket, Source.ROOTFUL, "4.3.1")
        assert found.status.problem is None


async def test_a_configured_docker_socket_is_the_problem_and_nothing_else_is_tried(
    api: ScriptedPodman, paths: Paths
) -> None:
    api.on("GET", "/_ping", DOCKER_PING)
    async with service(paths, (Source.CONFIG, api.socket)) as found:
        problem = found.status.problem
        assert problem is not None
        assert problem.code == "engine.not_podman"
        assert found.socket == api.socket
        assert found.hint() == problem.hint


async def test_without_podman_hal0_stands_and_names_the_install_line(api: ScriptedPodman, paths: Paths) -> None:
    api.on("GET", "/_ping", DOCKER_PING)  # found on the way, and passed over
    async with service(paths, (Source.ROOTFUL, api.socket)) as found:
        problem = found.status.problem
        assert problem is not None
        assert (problem.code, found.status.source) == ("engine.unreachable", Source.OWN)
        assert problem.hint.startswith("apt-get install -y --no-install-recommends podman ")
        engine = PodmanEngine(found.socket, hint=found.hint)
        with pytest.raises(Hal0Error) as caught:
            await engine.ping()
        assert (caught.value.code, caught.value.hint) == ("engine.unreachable", problem.hint)
        await engine.aclose()


async def test_a_run_directory_is_private(paths: Paths) -> None:
    async with service(paths):
        assert paths.run_dir.stat().st_mode & 0o777 == 0o700
