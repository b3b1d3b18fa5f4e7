"""`/api/disk`: how much room models take, when each was used last, and what would miss it."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from hal0.api.exchange import answer
from hal0.errors import Hal0Error
from hal0.models.entry import ModelEntry
from hal0.services import SERVICES, Services
from hal0.slots.logbook import Logbook
from hal0.slots.record import HISTORY
from hal0.wire.models import UsageView, UsedView


async def show(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    asked: dict[str, float] = {}
    with suppress(Hal0Error):  # without the history the slots still know
        asked = await services.past.reader.last_asked()
    entries, store = services.registry.entries(), services.registry.store
    room = (await services.prober.look()).disks.get("models")
    came = await asyncio.to_thread(_came, entries, store) if room else {}  # else the disk does not even tell its size
    kept = _kept(services)
    used, unknown_before = last_uses((it.shown().book for it in services.supervisor.all()), asked)
    items = [
        UsedView(
            id=entry.id,
            size_bytes=entry.size_bytes + entry.mmproj_bytes,
            removable=entry.id in came,
            came_at=came.get(entry.id, entry.created),
            last_used=used.get(entry.id),
            kept_by=kept.get(entry.id, []),
        )
        for entry in entries
    ]
    return answer(
        UsageView(
            items=sorted(items, key=lambda it: -it.size_bytes),
            unknown_before=unknown_before,
            store=str(store),
            pulls_bytes=sum(pull.pace.done_bytes for pull in services.pulls().views()),
            free_bytes=room.free_bytes if room else None,
            total_bytes=room.total_bytes if room else None,
        )
    )


def _came(entries: Iterable[ModelEntry], store: Path) -> dict[str, float]:
    """When each model of the store came there: what is moved or linked keeps its content's age. Blocking."""
    came: dict[str, float] = {}
    for entry in entries:
        if entry.files[0].is_relative_to(store):
            came[entry.id] = float(entry.created)
            with suppress(OSError):  # it has gone meanwhile
                came[entry.id] = entry.files[0].lstat().st_ctime
    return came


def last_uses(books: Iterable[Logbook], asked: Mapping[str, float]) -> tuple[dict[str, float], float | None]:
    """(until when each model may have been used, when what came before is forgotten).

    What is known of requests may be little; a slot knows which model it had until when. Pure.
    """
    used, forgotten = dict(asked), None
    for book in books:
        ends = [*(load.at for load in book.history[1:]), book.last_used or 0.0]
        for load, end in zip(book.history, ends, strict=False):
            used[load.model] = max(used.get(load.model, 0.0), load.at, end)
        if len(book.history) >= HISTORY:
            forgotten = max(forgotten or 0.0, book.history[0].at)
    return used, forgotten


def _kept(services: Services) -> dict[str, list[str]]:
    """By model: the slots that have it, are configured with it, or are bound to answer for it."""
    registry, config = services.registry, services.config()
    kept: dict[str, list[str]] = defaultdict(list)

    def keep(model: str | None, by: str) -> None:
        if model and by not in kept[name := registry.fold(model)]:
            kept[name].append(by)

    for slot in services.supervisor.all():
        keep(slot.snapshot().model, f"slot {slot.name}")
    for name, table in config.slots.items():
        keep(table.model, f"slot {name}")
    for model, binding in registry.bindings().items():
        if binding.slot is not None:  # an upstream answers with its own
            keep(model, f"bound to {binding.slot}")
    return kept
