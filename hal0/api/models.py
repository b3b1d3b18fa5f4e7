"""`/api/models`: what is installed, and the demonstration model for a machine that has nothing yet."""

import asyncio
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from aiohttp import web

from hal0.api.exchange import answer, body_as
from hal0.api.jobs import started, waiting
from hal0.config.defaults import ModelDefaults
from hal0.errors import Hal0Error
from hal0.models import demo
from hal0.models.binding import Binding
from hal0.models.entry import ModelEntry
from hal0.models.published import digests
from hal0.models.records import ModelRecord
from hal0.models.registry import Registry
from hal0.providers.catalog import PROVIDERS
from hal0.services import SERVICES, Services
from hal0.slots.handle import SlotSnapshot
from hal0.slots.matching import require_arguments
from hal0.vocab import BUILTIN_SLOTS, Phase, Want
from hal0.wire.base import NothingView
from hal0.wire.models import (
    AliasRequest,
    BindingView,
    BindRequest,
    DefaultsRequest,
    DemoView,
    EntriesView,
    EntryView,
    KvView,
    ModelGoneView,
    ModelProblemView,
    PartView,
    RememberedView,
    WholeEntryView,
)


async def list_models(request: web.Request) -> web.Response:
    return answer(_view(request.app[SERVICES]))


async def scan(request: web.Request) -> web.Response:
    await body_as(request, NothingView)
    services = request.app[SERVICES]
    await asyncio.to_thread(services.registry.scan)
    return answer(_view(services))


async def get_model(request: web.Request) -> web.Response:
    return await shown(request.app[SERVICES], request.match_info["id"])


async def shown(services: Services, model: str) -> web.Response:
    """Raises as `Registry.require`."""
    registry, entry = services.registry, services.registry.require(model)
    record = next((it for it in registry.records() if it.id == entry.id), None)
    parts = await asyncio.to_thread(_parts, entry, record, registry.store)
    return answer(WholeEntryView(**dict(_entry(services, entry, _used(services))), parts=parts))


def _parts(entry: ModelEntry, record: ModelRecord | None, store: Path) -> list[PartView]:
    known, parts = digests(entry, record, store), []
    for path in entry.files if entry.mmproj is None else (*entry.files, entry.mmproj):
        size = None
        with suppress(OSError):
            size = path.stat().st_size
        parts.append(PartView(file=str(path), size_bytes=size, sha256=known.get(path)))
    return parts


async def delete(request: web.Request) -> web.Response:
    """Refused while a slot has it loaded, or is about to."""
    services = request.app[SERVICES]
    entry = services.registry.require(request.match_info["id"])
    if busy := [slot.name for slot in services.supervisor.all() if _holds(slot.snapshot(), entry.id)]:
        raise Hal0Error(
            "model.in_use",
            f"cannot delete {entry.id}: it is loaded in {', '.join(busy)}",
            details={"model": entry.id, "slots": busy},
            hint=f"hal0ctl slot unload {' '.join(busy)}",
        )
    freed = await asyncio.to_thread(services.registry.delete, entry.id)
    return answer(ModelGoneView(id=entry.id, freed_bytes=freed))


def _holds(slot: SlotSnapshot, model: str) -> bool:
    return slot.model == model and (slot.want is Want.LOADED or slot.phase not in (Phase.OFFLINE, Phase.ERROR))


async def verify(request: web.Request) -> web.Response:
    await body_as(request, NothingView)
    wait_s = waiting(request)
    return await started(request.app[SERVICES].pulls().verifying.start(request.match_info["id"]), wait_s)


async def alias(request: web.Request) -> web.Response:
    asked, services = await body_as(request, AliasRequest), request.app[SERVICES]
    await asyncio.to_thread(services.registry.alias, asked.alias, asked.model)
    return answer(_view(services))


async def change(request: web.Request) -> web.Response:
    """Started containers keep what they were started with; what requests may leave out counts from now on."""
    asked, services = await body_as(request, DefaultsRequest), request.app[SERVICES]
    model = request.match_info["id"]
    await asyncio.to_thread(services.registry.default, model, asked.defaults, _check)
    return await shown(services, model)


def _check(entry: ModelEntry, defaults: ModelDefaults) -> None:
    for provider in PROVIDERS.values():
        if provider.loads(entry.format, entry.architecture):
            require_arguments(entry.id, provider, defaults.extra_args)


async def bind(request: web.Request) -> web.Response:
    asked, services = await body_as(request, BindRequest), request.app[SERVICES]
    if asked.slot is not None and asked.upstream is not None:
        raise Hal0Error("request.invalid", "cannot bind a model to a slot and an upstream at once", param="upstream")
    if asked.slot is not None:
        services.supervisor.slot(asked.slot)
    if asked.upstream is not None and asked.upstream not in services.config().upstreams:
        raise Hal0Error("upstream.not_found", f"cannot bind to upstream {asked.upstream!r}: there is none")
    bound = Binding(asked.slot, asked.upstream, asked.name) if asked.slot or asked.upstream else None
    await asyncio.to_thread(services.registry.bind, asked.model, bound)
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
    registry, used = services.registry, _used(services)
    entries = registry.entries()
    here = {entry.id for entry in entries}
    return EntriesView(
        items=[_entry(services, entry, used) for entry in entries],
        remembered=[
            RememberedView(id=it.id, size_bytes=it.size_bytes, license=it.license, source=it.source)
            for it in registry.records()
            if it.id not in here
        ],
        bindings=[
            BindingView(id=model, slot=it.slot, upstream=it.upstream, model=it.model)
            for model, it in registry.bindings().items()
        ],
        problems=[ModelProblemView(file=str(it.path), code=it.code, message=it.message) for it in registry.problems()],
    )


def _used(services: Services) -> dict[str, list[str]]:
    """Slots by the model that is theirs, loaded or not."""
    used: dict[str, list[str]] = {}
    for slot in services.supervisor.all():
        used.setdefault(slot.snapshot().model or "", []).append(slot.name)
    return used


def _entry(services: Services, entry: ModelEntry, used: dict[str, list[str]]) -> EntryView:
    return EntryView(
        id=entry.id,
        file=str(entry.files[0]),
        files=len(entry.files),
        size_bytes=entry.size_bytes,
        created=entry.created,
        format=entry.format,
        architecture=entry.architecture,
        quantisation=entry.quantisation,
        context_length=entry.context_length,
        cache_bytes_per_token=entry.cache_bytes_per_token,
        kv=None if entry.kv is None else KvView(**{**asdict(entry.kv), "heads": list(entry.kv.heads)}),
        capabilities=sorted(entry.capabilities),
        directory=None if entry.directory is None else str(entry.directory),
        mmproj=None if entry.mmproj is None else str(entry.mmproj),
        license=entry.license,
        sha256=entry.sha256,
        chat_template=entry.chat_template,
        source=None if entry.source is None else dict(entry.source),
        demo=entry.demo,
        aliases=[name for name, model in services.registry.aliases().items() if model == entry.id],
        slots=used.get(entry.id, []),
        removable=entry.files[0].is_relative_to(services.registry.store),
        defaults={} if entry.defaults is None else entry.defaults.said(),
    )
