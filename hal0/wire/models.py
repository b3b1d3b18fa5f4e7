"""AI models on disk as the operator sees them (`/v1/models` is in `wire.openai`)."""

from hal0.vocab import Capability
from hal0.wire.base import View


class EntryView(View):
    """A model that can be loaded. `file` is the first of `files`; `slots` are those whose model it is.

    `directory` is the folder that the model is, if it is one. `mmproj` is the projector that is loaded with it.
    `removable`: it is in hal0's own store.
    """

    id: str
    file: str
    files: int
    size_bytes: int
    created: float
    format: str
    architecture: str
    quantisation: str | None
    context_length: int | None
    cache_bytes_per_token: int | None
    capabilities: list[Capability]
    directory: str | None
    mmproj: str | None
    license: str | None
    chat_template: bool | None  # whether its file brings one; null: its format has none
    source: dict[str, str] | None
    demo: bool
    aliases: list[str]
    slots: list[str]
    removable: bool


class RememberedView(View):
    """A model that was here and can be pulled again."""

    id: str
    size_bytes: int | None
    license: str | None
    source: dict[str, str] | None


class ModelProblemView(View):
    """A file that looks like a model and cannot be used."""

    file: str
    code: str
    message: str


class BindingView(View):
    """Who answers for a model, whatever the rules of dispatch would find: a slot or an upstream."""

    id: str
    slot: str | None
    upstream: str | None
    model: str | None


class EntriesView(View):
    """`remembered` are not on disk."""

    items: list[EntryView]
    remembered: list[RememberedView]
    bindings: list[BindingView]
    problems: list[ModelProblemView]


class AliasRequest(View):
    """`model` null takes the name away."""

    alias: str
    model: str | None


class BindRequest(View):
    """Neither a slot nor an upstream: the rules decide again. `name` is what the upstream calls the model."""

    model: str
    slot: str | None = None
    upstream: str | None = None
    name: str | None = None


class ModelGoneView(View):
    id: str
    freed_bytes: int


class DemoView(View):
    """The demonstration model that was written."""

    id: str
