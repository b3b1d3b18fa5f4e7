"""`/api/models`: what is installed, and the demonstration model for a machine that has nothing yet."""

import asyncio

from aiohttp import web

from hal0.api.exchange import answer, body_as
from hal0.errors import Hal0Error
from hal0.models import demo
from hal0.models.registry import Registry
from hal0.services import SERVICES, Services
from hal0.vocab import BUILTIN_SLOTS
from hal0.wire.base import NothingView
from hal0.wire.models import DemoView, EntriesView, EntryView, ModelProblemView


async def list_models(request: web.Request) -> web.Response:
    return answer(_view(request.app[SERVICES]))


async def scan(request: web.Request) -> web.Response:
    await body_as(request, NothingView)
    services = request.app[SERVICES]
    await asyncio.to_thread(services.registry.scan)
    return answer(_view(services))


async def write_demo(request: web.Request) -> web.Response:
    """Only where nothing is installed; then it becomes the model of `primary`."""
    await body_as(request, NothingView)
    services = request.app[SERVICES]
    await asyncio.to_thread(_write_demo, services.registry)
    await services.supervisor.load(BUILTIN_SLOTS[0], demo.DEMO_MODEL_ID)
    return answer(DemoView(id=demo.DEMO_MODEL_ID))


def _write_demo(registry: Registry) -> None:
    registry.scan()
    if entries := registry.entries():
        raise Hal0Error("model.exists", f"cannot write the demonstration model: {entries[0].id} is installed")
    path = registry.store / f"{demo.DEMO_MODEL_ID}.gguf"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        demo.write(path)
    except OSError as err:
        raise Hal0Error("state.write_failed", f"cannot write {path}: {err.strerror or err}") from err
    registry.scan()


def _view(services: Services) -> EntriesView:
    used: dict[str, list[str]] = {}
    for slot in services.supervisor.all():
        used.setdefault(slot.snapshot().model or "", []).append(slot.name)
    items = [
        EntryView(
            id=entry.id,
            file=str(entry.files[0]),
            files=len(entry.files),
            size_bytes=entry.size_bytes,
            created=entry.created,
            format=entry.format,
            architecture=entry.architecture,
            quantisation=entry.quantisation,
            context_length=entry.context_length,
            capabilities=sorted(entry.capabilities),
            license=entry.license,
            demo=entry.demo,
            slots=used.get(entry.id, []),
        )
        for entry in services.registry.entries()
    ]
    problems = [
        ModelProblemView(file=str(problem.path), code=problem.code, message=problem.message)
        for problem in services.registry.problems()
    ]
    return EntriesView(items=items, problems=problems)
