"""`/api/catalog/search`: models by words, of the catalog and of the hub, and whether they would fit."""

from typing import TYPE_CHECKING, Final

from aiohttp import web

from hal0.api.exchange import answer
from hal0.capabilities import leaflet
from hal0.errors import Hal0Error
from hal0.services import SERVICES
from hal0.wire.catalog import CatalogEntryView
from hal0.wire.models import FoundView, SearchView

if TYPE_CHECKING:
    from hal0.pulls.searching import Repository

_MOST_LETTERS: Final = 200
_BYTES_PER_PARAMETER: Final = 0.62  # of Q4_K_M, the usual choice, with the buffers of a short context


async def show(request: web.Request) -> web.Response:
    """What the catalog has is told also where the hub cannot be asked."""
    services, text = request.app[SERVICES], request.query.get("q", "").strip()
    if not text or len(text) > _MOST_LETTERS:
        message = f"cannot search without words, or with more than {_MOST_LETTERS} characters of them"
        raise Hal0Error("request.invalid", message, param="q")
    found, limit = await services.prober.look(), services.config().engine.memory_limit
    catalog = leaflet.of(found, limit, services.registry, services.pulls().looking)
    items = [_of_catalog(it) for it in catalog.items if _meant(it, text.lower().split())]
    problem = None
    try:
        items += [_of_hub(it, catalog.memory_bytes) for it in await services.pulls().looking.search(text)]
    except Hal0Error as err:
        problem = err.message
    return answer(SearchView(items=items, hub=catalog.hub, problem=problem))


def _meant(it: CatalogEntryView, words: list[str]) -> bool:
    said = " ".join((it.id, it.name, it.purpose, it.repo or "", *it.capabilities)).lower()
    return all(word in said for word in words)


def _of_catalog(it: CatalogEntryView) -> FoundView:
    return FoundView(
        name=it.id,
        curated=True,
        installed=it.installed,
        purpose=it.purpose,
        license=it.license,
        gated=False,
        downloads=None,
        context_length=it.context_length,
        memory_bytes=it.memory_bytes,
        fits=it.fits,
    )


def _of_hub(it: "Repository", room_bytes: int) -> FoundView:
    needed = None if it.parameters is None else int(it.parameters * _BYTES_PER_PARAMETER)
    return FoundView(
        name=it.repo,
        curated=False,
        installed=False,
        purpose=it.architecture or "",
        license=it.license,
        gated=it.gated,
        downloads=it.downloads,
        context_length=it.context_length,
        memory_bytes=needed,
        fits=None if needed is None else needed <= room_bytes,
    )
