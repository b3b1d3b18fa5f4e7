"""A podman on a real socket with containers in memory behind it, that can be told to misbehave while it works."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hal0.engine.base import ContainerInfo, ContainerSpec, EngineEvent, EventKind, Publish
from hal0.engine.errors import ContainerMissing, NameTaken, PortTaken
from hal0.errors import Hal0Error
from hal0.lib.jsonio import loads
from tests.fakes.engine import AmnesiacEngine
from tests.fakes.podman_api import (
    API,
    PING,
    End,
    Reply,
    Request,
    ScriptedPodman,
    event,
    json_reply,
    refused,
    scripted,
    send,
    send_begin,
)

_ACTIONS = {EventKind.STARTED: "start", EventKind.DIED: "died", EventKind.REMOVED: "remove", EventKind.OOM: "oom"}


class LivePodman(ScriptedPodman):
    """`wild` is how often (0-1) an answer is late, a 500, cut or half, and an event is doubled, lost or broken off."""

    def __init__(self, socket: Path) -> None:
        super().__init__(socket)
        self.engine = AmnesiacEngine()
        self.dice = random.Random(1)
        self.wild = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()

    def stall(self) -> None:
        """From now on nothing is answered, and nothing is told."""
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        if request.path == "/_ping":
            reply = PING
        elif request.path == f"{API}/events":
            await self._tell(request, writer)
            return
        else:
            reply = await self._carry_out(request)
        await send(writer, self._spoiled(reply))

    def _spoiled(self, reply: Reply) -> Reply:
        """What was carried out is carried out: only the answer suffers."""
        if self.dice.random() >= self.wild:
            return reply
        return self.dice.choice(
            [
                replace(reply, delay_s=0.3),
                refused(500, "chaos"),
                replace(reply, end=End.CUT),
                replace(reply, parts=tuple(part[: len(part) // 2] for part in reply.parts)),
            ]
        )

    async def _carry_out(self, request: Request) -> Reply:
        name, _, verb = request.path.removeprefix(f"{API}/containers/").partition("/")
        try:
            return await self._do(request, name, verb)
        except NameTaken:
            return refused(500, f'creating container storage: the container name "{name}" is already in use')
        except PortTaken as taken:
            return refused(500, f"cannot listen: 127.0.0.1:{taken.port}: bind: address already in use")
        except ContainerMissing:
            return refused(404, "no such container", "no such container")
        except Hal0Error as error:
            return refused(500, error.message)

    async def _do(self, request: Request, name: str, verb: str) -> Reply:
        engine = self.engine
        match request.method, name, verb:
            case "POST", "create", "":
                return json_reply({"Id": await engine.create(_spec(request.json())), "Warnings": []}, status=201)
            case "GET", "json", "":
                wanted = _labels(loads(request.query["filters"][0]))
                return json_reply([{"Id": info.id} for info in await engine.containers(wanted)])
            case "GET", "stats", "":
                return json_reply({"Error": None, "Stats": []})
            case "GET", _, "json":
                info = await engine.inspect(name)
                return refused(404, "no such container", "no such container") if info is None else _document(info)
            case "GET", _, "logs":
                engine._need(name)
                return Reply()
            case "POST", _, "start":
                await engine.start(name)
            case "POST", _, "stop":
                engine._need(name)
                await engine.stop(name, timeout_s=float(request.query["timeout"][0]))
            case "DELETE", _, "":
                engine._need(name)
                await engine.remove(name)
            case _:
                return refused(404, f"no such path {request.path}")
        return Reply()  # podman says 204; a chunked nothing is what this server can say

    async def _tell(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """The event stream, until the client leaves or chaos ends it in the middle of a line."""
        filters = loads(request.query["filters"][0])
        await send_begin(writer, Reply())
        async for news in self.engine.events(_labels(filters)):
            await self._flowing.wait()
            line = _line(news)
            if line is None or news.container_id not in filters.get("container", [news.container_id]):
                continue
            wild = self.dice.random() < self.wild
            fate = self.dice.choice(("lost", "twice", "broken")) if wild else "told"
            if fate == "lost":
                continue
            parts = [line, line] if fate == "twice" else [line[: len(line) // 2] if fate == "broken" else line]
            for part in parts:
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            await writer.drain()
            if fate == "broken":
                return


def _labels(filters: dict[str, list[str]]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in filters.get("label", []))


def _line(news: EngineEvent) -> bytes | None:
    action = _ACTIONS.get(news.kind)
    if action is None:
        return None
    more = {} if news.exit_code is None else {"containerExitCode": str(news.exit_code)}
    return event(action, news.container_id, int(news.at * 10**9), **dict(news.labels), **more)


def _spec(body: Any) -> ContainerSpec:
    ports = body.get("portmappings") or []
    publish = Publish(ports[0]["host_port"], ports[0]["container_port"]) if ports else None
    return ContainerSpec(
        name=body["name"], image=body["image"], argv=tuple(body["command"]), labels=body["labels"], publish=publish
    )


def _document(info: ContainerInfo) -> Reply:
    state = {"Status": info.status, "Pid": info.pid, "ConmonPid": info.conmon_pid, "ExitCode": info.exit_code or 0}
    ports = {"8080/tcp": [{"HostPort": str(info.host_port)}]} if info.host_port else {}
    return json_reply(
        {
            "Id": info.id,
            "Name": info.name,
            "Image": info.image_id,
            "State": state,
            "Config": {"Labels": dict(info.labels)},
            "HostConfig": {"PortBindings": ports},
        }
    )


@asynccontextmanager
async def live_podman() -> AsyncIterator[LivePodman]:
    """One that listens, in a directory short enough for a socket."""
    async with scripted(LivePodman) as podman:
        yield podman
