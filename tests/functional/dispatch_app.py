"""The `/v1` edge alone, over real sockets: hal0's own runner, fake slots, a fake engine."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
from aiohttp import web

from hal0.access.principal import LOCAL, Principal
from hal0.api.arrival import Visit
from hal0.api.cors import CORS, Cors
from hal0.api.entrance import CHECK
from hal0.api.middleware import Check, edge
from hal0.api.openai import DISPATCHER, MODEL_LIST, ROUTES
from hal0.api.route import register
from hal0.api.runner import serving
from hal0.config.access import AccessConfig
from hal0.config.dispatch import DispatchConfig
from hal0.config.root import RootConfig
from hal0.dispatch.catalog import ModelList
from hal0.dispatch.dispatcher import Dispatcher
from hal0.dispatch.inlining import Fetch, fetched
from hal0.events.bus import Bus
from hal0.lib.clock import SteadyClock
from hal0.observe.decisions import Decisions, Sink
from hal0.providers.base import Endpoint
from hal0.slots.handle import Serves
from hal0.upstreams.link import Link
from hal0.upstreams.session import new_session
from hal0.upstreams.upstreams import Upstreams
from hal0.vocab import Access, Capability
from tests.fakes.backend import SECRET, Backend
from tests.fakes.backend import running as backend_running
from tests.fakes.slots import READY, FakeEntry, FakeRegistry, FakeSlots, snapshot


@dataclass
class World:
    """Everything a test of the edge may look at."""

    backend: Backend
    slots: FakeSlots
    decisions: Decisions
    dispatcher: Dispatcher
    upstreams: Upstreams
    port: int
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.backend.host, self.backend.port, SECRET)

    def chat(self, model: str = "fake-chat", **members: Any) -> dict[str, Any]:
        return {"model": model, "messages": [{"role": "user", "content": "hello"}], **members}


class Everyone:
    """The access check of a house without doors."""

    async def __call__(self, _visit: Visit, _access: Access, /) -> Principal:
        return LOCAL

    def stamp(self) -> object:
        return None

    def used(self, principal: Principal) -> None:
        pass


def build_app(dispatcher: Dispatcher, check: Check | None = None) -> web.Application:
    cors = Cors(AccessConfig)
    check = check or Everyone()
    app = web.Application(middlewares=[edge(check, cors, lambda *_: None)])
    app[CHECK] = check
    app[CORS] = cors
    app[DISPATCHER] = dispatcher
    app[MODEL_LIST] = ModelList()
    register(app, ROUTES)
    return app


@asynccontextmanager
async def world(
    tmp_path: Path,
    *,
    loaded: bool = True,
    root: Mapping[str, Any] = MappingProxyType({}),
    environ: Mapping[str, str] = MappingProxyType({}),
    instance: str = "here",
    sinks: Sequence[Sink] = (),
    endpoint: Endpoint | None = None,
    fetch: Fetch = fetched,
    **config: Any,
) -> AsyncIterator[World]:
    """A `primary` chat slot and an `embed` slot, both served by one fake engine; upstreams as `root` has them.

    `sinks` get the decisions; `endpoint` is where the slots are instead of the fake engine; `fetch` gets remote media.
    """
    async with backend_running() as backend, new_session() as session:
        endpoint = endpoint or Endpoint(backend.host, backend.port, SECRET)
        state = {**READY, "endpoint": endpoint} if loaded else {}
        slots = FakeSlots(
            snapshot("primary", **state),
            snapshot("embed", **state, model="fake-embed", serves=(Serves("fake-embed", Capability.EMBED),)),
        )
        decisions, clock = Decisions(*sinks), SteadyClock(asyncio.get_running_loop())
        upstreams = Upstreams(
            RootConfig.model_validate(root),
            lambda name, table: Link(name, table, session, environ, instance=instance),
            clock,
            Bus(list),
        )
        dispatcher = Dispatcher(
            slots,
            FakeRegistry(FakeEntry("on-disk")),
            upstreams,
            decisions,
            clock,
            DispatchConfig(**config),
            tmp_path / "spool",
            fetch,
        )
        async with (
            serving(build_app(dispatcher), tcp=[("127.0.0.1", 0)], grace_s=1) as (port,),
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        ):
            try:
                yield World(backend, slots, decisions, dispatcher, upstreams, port, http)
            finally:
                await dispatcher.close()
                await upstreams.close()
