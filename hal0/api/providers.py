"""`/api/providers`: the engines that there are, what they run on, and whether their images are here."""

from collections.abc import Iterator, Mapping

from aiohttp import web

from hal0.api.exchange import answer
from hal0.engine.images import ImageState
from hal0.errors import Hal0Error
from hal0.providers.base import Provider
from hal0.providers.catalog import PROVIDERS
from hal0.services import SERVICES, Services
from hal0.vocab import Device, ProviderName
from hal0.wire.profiles import ProviderDeviceView, ProvidersView, ProviderView


async def list_providers(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    images = await _images(services)
    return answer(ProvidersView(items=[_view(provider, services, images) for provider in PROVIDERS.values()]))


async def get_provider(request: web.Request) -> web.Response:
    name, services = request.match_info["name"], request.app[SERVICES]
    if name not in PROVIDERS:
        raise Hal0Error("provider.not_found", f"cannot find a provider {name!r}; there are {', '.join(PROVIDERS)}")
    return answer(_view(PROVIDERS[ProviderName(name)], services, await _images(services)))


async def _images(services: Services) -> Mapping[str, ImageState]:
    return {state.entry.key: state for state in await services.images.list()}


def _view(provider: Provider, services: Services, images: Mapping[str, ImageState]) -> ProviderView:
    root = services.config()
    return ProviderView(
        name=provider.name,
        capabilities=sorted(provider.capabilities),
        devices=list(_devices(provider, images)),
        slots=[name for name in root.slots if root.effective(name).provider is provider.name],
        at_once=provider.at_once,
        tags=sorted(provider.tags),
    )


def _devices(provider: Provider, images: Mapping[str, ImageState]) -> Iterator[ProviderDeviceView]:
    """Those whose image says that it can use them."""
    for device in Device:
        try:
            state = images.get(provider.image_key(device))
        except Hal0Error:
            continue
        if state is not None and device in state.entry.devices:
            key = state.entry.key
            yield ProviderDeviceView(device=device, image=key, here=state.choice.image is not None)
