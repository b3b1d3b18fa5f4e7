"""From a name to what would be fetched by it: a model that was here before, the catalog's, a place on the hub, ..."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from pydantic import ValidationError

from hal0.config.models import ModelsConfig
from hal0.errors import Hal0Error
from hal0.models import catalog
from hal0.models.absent import Absent
from hal0.models.registry import Registry
from hal0.outbound.client import Outside
from hal0.pulls.asking import Asker, Hub
from hal0.pulls.choosing import Variant, variants
from hal0.pulls.hub import listing
from hal0.pulls.planning import Draft, drafted
from hal0.pulls.searching import Repository, search
from hal0.pulls.sources import CatalogSource, HubSource, JoinedSource, Source, UrlSource, source_of
from hal0.wire.pulls import PullRequest

_WEIGHED_AT_ONCE: Final = 4  # each holds the head of a file


class Looking:
    """`settings` are asked anew every time."""

    def __init__(
        self,
        registry: Registry,
        settings: Callable[[], ModelsConfig],
        environ: Mapping[str, str],
        outside: Callable[[], Outside],
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._environ = environ
        self._outside = outside
        self._weighing = asyncio.Semaphore(_WEIGHED_AT_ONCE)

    async def drafted(self, asked: PullRequest) -> Draft:
        """Within half a minute for each place that is named.

        Raises request.invalid, model.not_found, model.unsafe_format, pull.*.
        """
        async with self._asker() as asker:
            sources = tuple(self._source(name, asker.hub) for name in (asked.model, *asked.more))
            if asked.id is None and source_of(asked.model, asker.hub.endpoint) is None:
                # What is asked for by its id comes under that id, whatever its files are called.
                asked = asked.model_copy(update={"id": self._registry.fold(asked.model)})
            return await drafted(sources[0] if len(sources) == 1 else JoinedSource(sources), asked, asker)

    async def weighed(self, model: str) -> Absent:
        """What is known of a model of the catalog or the hub. Raises as `drafted`.

        Who may only look has no other address called, and no path of this machine looked at.
        """
        from hal0.pulls.weighing import weighed  # for who asks before the download

        async with self._weighing, self._asker() as asker:
            source = self._source(model, asker.hub)
            if not isinstance(source, HubSource | CatalogSource):
                message = f"cannot weigh {model[:200]!r}: it is neither in the catalog nor a place on the hub"
                raise Hal0Error("request.invalid", message, param="model")
            return await weighed(await drafted(source, PullRequest(model=model), asker), asker)

    async def variants(self, model: str) -> tuple[HubSource, list[Variant]]:
        """The quantisations that are where this model comes from. Raises as `drafted`."""
        async with self._weighing, self._asker() as asker:
            source = self._source(model, asker.hub)
            if isinstance(source, JoinedSource):
                source = source.parts[0]
            if isinstance(source, CatalogSource) and source.entry.repo is not None:
                source = HubSource(source.entry.repo, source.entry.revision)
            if not isinstance(source, HubSource):
                message = f"cannot tell what else there is of {model[:200]!r}: it does not come from the hub"
                raise Hal0Error("request.invalid", message, param="model")
            found = await listing(asker, source.repo, source.revision)
            return source, variants(source.repo, found.files)

    async def search(self, text: str) -> list[Repository]:
        """What the hub has by these words. Raises pull.*, config.invalid."""
        async with self._weighing, self._asker() as asker:
            return await search(asker, text)

    def hub(self) -> Hub:
        """Raises config.invalid for an address in the environment that the configuration would refuse, too."""
        config = self._settings()
        token = config.hf_token.get_secret_value() if config.hf_token is not None else self._environ.get("HF_TOKEN")
        try:
            endpoint = ModelsConfig(hf_endpoint=self._environ.get("HF_ENDPOINT") or config.hf_endpoint).hf_endpoint
        except ValidationError as e:  # its text is not repeated: it may hold a password
            form = "http(s)://host[:port][/path] without user, query or fragment"
            message = f"cannot ask the hub: HF_ENDPOINT in hal0's environment is no base address, which is {form}"
            raise Hal0Error("config.invalid", message, hint="Mend HF_ENDPOINT, and start hal0 again.") from e
        return Hub(endpoint, token or None)

    @asynccontextmanager
    async def _asker(self) -> AsyncIterator[Asker]:
        async with self._outside() as outside:
            yield Asker(outside, self.hub())

    def _source(self, name: str, hub: Hub) -> Source:
        source = source_of(name, hub.endpoint) or self._remembered(name, hub) or self._catalogued(name)
        if source is None:
            raise Hal0Error(
                "model.not_found",
                f"cannot pull {name[:200]!r}: it is not in the catalog, and nobody has said where it is",
                param="model",
                hint="Name one of hal0ctl model list --catalog, OWNER/REPOSITORY[:QUANTISATION] of the hub, an address "
                "or a path.",
            )
        return source

    def _remembered(self, name: str, hub: Hub) -> Source | None:
        """Where a model came from that has been here before."""
        model = self._registry.fold(name)
        for record in self._registry.records():
            if record.id == model and record.source is not None:
                first = self._told(record.source)
                more = record.source.get("more", "").splitlines()
                others = [source_of(it, hub.endpoint) or self._catalogued(it) for it in more]
                if first is None or not others:
                    return first
                return JoinedSource((first, *(part for part in others if part is not None)))
        return None

    def _told(self, told: Mapping[str, str]) -> Source | None:
        if (source := self._catalogued(told.get("catalog", ""))) is not None:
            return source
        if "repo" in told:
            return HubSource(told["repo"], told.get("revision") or "main", told.get("file"))
        return UrlSource(told["url"], told.get("sha256")) if "url" in told else None

    def _catalogued(self, name: str) -> Source | None:
        entry = catalog.find(self._registry.fold(name))
        return None if entry is None else CatalogSource(entry)
