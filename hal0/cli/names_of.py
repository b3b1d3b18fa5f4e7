"""Argument types whose values a shell can complete: slots, models, jobs, images and upstreams of the hal0 at hand."""

from collections.abc import Callable, Iterable
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from hal0.cli.session import Session
from hal0.client import Client, ClientError

BUDGET_S: Final = 0.3  # a key press that takes longer feels broken

_CARDS: Final = (
    ("embed", "embeddings, reranking"),
    ("voice", "speech to text and back"),
    ("img", "pictures"),
    ("npu", "the NPU's engine"),
)

Lister = Callable[[Client], Iterable[tuple[str, str]]]


class _Listed(click.ParamType[str]):
    """Any text; `items` gives (value, help) pairs for completion."""

    def __init__(self, name: str, items: Lister) -> None:
        self.name = name
        self._items = items

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        session = ctx.find_object(Session) or Session()
        try:
            found = list(self._items(session.client(timeout_s=BUDGET_S)))
        except (ClientError, KeyError, TypeError):
            return []  # a completion that complains is worse than none
        return [CompletionItem(value, help=text) for value, text in found if value.startswith(incomplete)]


def _entries(path: str, member: str, key: str, text: str) -> Lister:
    def listed(client: Client) -> Iterable[tuple[str, str]]:
        answer: dict[str, list[dict[str, Any]]] = client.get(path)
        return [(str(entry[key]), str(entry[text])) for entry in answer[member]]

    return listed


def SlotName() -> _Listed:  # noqa: N802  reads as a type where it is used
    return _Listed("slot", _entries("/api/slots", "items", "name", "state"))


def ModelName() -> _Listed:  # noqa: N802
    return _Listed("model", _models)


def _models(client: Client) -> Iterable[tuple[str, str]]:
    """Slots stand there by name, too, each with the model that it has: no slot can be given those."""
    return [(str(it["id"]), str(it["status"])) for it in client.get("/v1/models")["data"] if it.get("model") is None]


def JobId() -> _Listed:  # noqa: N802
    return _Listed("job", _entries("/api/jobs", "items", "id", "state"))


def ImageKey() -> _Listed:  # noqa: N802
    return _Listed("image", _entries("/api/images", "items", "key", "source"))


def CardName() -> _Listed:  # noqa: N802
    return _Listed("card", lambda _client: _CARDS)


def UpstreamName() -> _Listed:  # noqa: N802
    return _Listed("upstream", _entries("/api/upstreams", "items", "name", "state"))


def ProfileName() -> _Listed:  # noqa: N802
    return _Listed("profile", _entries("/api/profiles", "items", "name", "note"))


def ProviderWord() -> _Listed:  # noqa: N802
    return _Listed("provider", _entries("/api/providers", "items", "name", "name"))


def PresetName() -> _Listed:  # noqa: N802
    return _Listed("preset", _entries("/api/upstreams", "presets", "name", "base_url"))


def PullId() -> _Listed:  # noqa: N802
    return _Listed("pull", _entries("/api/pulls", "items", "id", "model"))


def RequestId() -> _Listed:  # noqa: N802
    return _Listed("request", _entries("/api/decisions", "items", "request_id", "summary"))


def KeyName() -> _Listed:  # noqa: N802
    return _Listed("key", _entries("/api/keys", "items", "label", "id"))
