"""The faults of the drill as a table: what is done to the staging slot, and what hal0 promises then."""

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from hal0.cli import drill_processes as processes
from hal0.cli.drill_processes import Skip
from hal0.cli.drill_scratch import full_disk
from hal0.cli.drill_stage import Result, Stage, how
from hal0.cli.drill_watch import Talk, until, watch
from hal0.cli.slots import ROUTABLE
from hal0.client import ApiError, Json

# What hal0 promises, in seconds; see `drill_stage` for the rest.
SERVICE_S: Final = 5.0
# Three failed probes of a quiet slot: each 5 s after the one before, and each may hang for as long as a probe may.
STALL_S: Final = 45.0
STOP_S: Final = 20.0  # what does not end by itself is killed after this


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    about: str
    run: Callable[[Stage, Result], None]


def _generation(slot: Json) -> int:
    return max((c["generation"] for c in slot["containers"] if c["role"] == "current"), default=0)


def _lost(slot: Json) -> bool:
    return slot["state"] not in ROUTABLE


def _again(before: Json) -> Callable[[Json], bool]:
    """The slot answers, in a container that is not the one from before."""
    return lambda slot: not _lost(slot) and _generation(slot) > _generation(before)


def _engine(stage: Stage, result: Result) -> None:
    before = stage.view()
    victim = processes.behind(before).engine
    with Talk(stage.client, stage.slot) as talk:
        times = watch(
            stage.client,
            stage.slot,
            lambda: processes.send(victim, signal.SIGKILL),
            noticed=lambda slot: _lost(slot) or _generation(slot) > _generation(before),
            recovered=_again(before),
            within_s=stage.back_s + 30,
        )
        talk.ended()
    result.noticed_s, result.recovered_s = times.noticed_s, times.recovered_s
    result.client = talk.in_words()
    result.within("the death is noticed", times.noticed_s, stage.death_s)
    result.within("another one answers", times.recovered_s, stage.back_s)
    result.promise(talk.told, "the client gets a typed error event and an answer that does not look complete")


def _conmon(stage: Stage, result: Result) -> None:
    before = stage.view()
    victim = processes.behind(before).conmon
    with Talk(stage.client, stage.slot) as talk:
        processes.send(victim, signal.SIGKILL)
        talk.settled()
        uncut = not talk.cut
        result.client = talk.in_words()
    after = stage.view()
    result.promise(uncut, "no stream is cut")
    result.promise(not _lost(after) and _generation(after) == _generation(before), "the slot stays as it is")
    job = stage.verb("restart")
    result.promise(job["state"] == "done", f"a restart works afterwards, it {how(job)}")
    result.recovered_s = job["ended_at"] - job["started_at"] if job["ended_at"] else None
    # podman cannot see the end of a container without its conmon: it waits for as long as a stop may take.
    result.within("the restart is done", result.recovered_s, stage.back_s + STOP_S * stage.slack)


def _stall(stage: Stage, result: Result) -> None:
    before = stage.view()
    frozen = processes.tree(processes.behind(before).first)
    notice_s = STALL_S * stage.slack
    back_s = notice_s + STOP_S * stage.slack + stage.back_s
    try:
        times = watch(
            stage.client,
            stage.slot,
            lambda: processes.send_all(frozen, signal.SIGSTOP),
            noticed=_lost,
            recovered=_again(before),
            within_s=back_s + 30,
        )
    finally:
        processes.send_all(frozen, signal.SIGCONT)  # what hal0 did not replace must not stay frozen
    result.noticed_s, result.recovered_s = times.noticed_s, times.recovered_s
    result.within("the stall is noticed", times.noticed_s, notice_s)
    result.within("another one answers", times.recovered_s, back_s)
    result.client = stage.ask()
    result.promise(result.client == "answered", "a request is answered afterwards")


def _socket(stage: Stage, result: Result) -> None:
    engine = stage.health["engine"]
    if not engine["own_service"]:
        raise Skip("podman's service is not hal0's own child here: whoever started it looks after it")
    old = processes.service(engine["socket"])
    if old is None:
        raise Skip("podman's service cannot be seen from here")
    before = stage.view()
    with Talk(stage.client, stage.slot) as talk:
        processes.send(old, signal.SIGKILL)
        result.noticed_s = until(lambda: processes.service(engine["socket"]) not in (None, old), SERVICE_S * 4)
        waited = until(lambda: _podman_answers(stage), SERVICE_S * 4)
        if result.noticed_s is not None and waited is not None:
            result.recovered_s = result.noticed_s + waited
        talk.settled()
        uncut = not talk.cut
        result.client = talk.in_words()
    after = stage.view()
    result.within("podman answers again", result.recovered_s, SERVICE_S * stage.slack)
    result.promise(uncut, "no stream is cut")
    result.promise(not _lost(after) and _generation(after) == _generation(before), "the slot stays as it is")


def _podman_answers(stage: Stage) -> bool:
    """Only podman knows a container's log, so that an answer is proof."""
    try:
        stage.client.get(f"/api/slots/{stage.slot}/logs?tail=1")
    except ApiError:
        return False
    return True


def _port(stage: Stage, result: Result) -> None:
    port = stage.view()["port"]
    if port is None:
        raise Skip("slots have no port on this host: hal0 reaches them through a network of its own")
    stage.verb("unload")
    with _taken(port):
        job = stage.verb("load")
        after = stage.view()
        result.promise(job["state"] == "done", f"the load passes the taken port over, it {how(job)}")
        result.promise(after["port"] not in (None, port), f"another port than {port} is used")
        result.recovered_s = job["ended_at"] - job["started_at"] if job["ended_at"] else None
        result.within("the slot answers", result.recovered_s, stage.back_s)
        result.client = f"{stage.ask()} on port {after['port']} instead of {port}"
        result.promise(result.client.startswith("answered"), "a request is answered")


@contextlib.contextmanager
def _taken(port: int) -> Iterator[None]:
    """A stranger listens there."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the slot's own connections may linger
        try:
            stranger.bind(("127.0.0.1", port))
        except OSError as e:
            raise Skip(f"port {port} cannot be taken: {e.strerror}") from e
        stranger.listen()
        yield


FAULTS: Final = (
    Fault("engine", "kill the engine under a stream", _engine),
    Fault("conmon", "kill podman's conmon under a stream, then restart the slot", _conmon),
    Fault("stall", "freeze every process of the container", _stall),
    Fault("socket", "kill podman's service under a stream", _socket),
    Fault("port", "take the slot's port before a load", _port),
    Fault("disk", "fill the state directory of a scratch hal0", full_disk),
)
