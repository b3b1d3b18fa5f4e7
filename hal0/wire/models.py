"""AI models on disk as the operator sees them (`/v1/models` is in `wire.openai`)."""

from typing import Any

from hal0.vocab import Capability
from hal0.wire.base import View


class KvView(View):
    """The key-value cache of one token: `heads` in each block, each with a key and a value of so many elements."""

    heads: list[int]
    key_length: int
    value_length: int


class EntryView(View):
    """A model that can be loaded. `file` is the first of `files`; `slots` are those whose model it is.

    `sha256` is what that file was when it came; null where hal0 did not fetch it.

    `directory` is the folder that the model is, if it is one. `mmproj` is the projector that is loaded with it.
    `removable`: it is in hal0's own store. `defaults` is what an operator said that it is started and asked with where
    neither its slot nor the slot's profile says anything.
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
    kv: KvView | None
    capabilities: list[Capability]
    directory: str | None
    mmproj: str | None
    license: str | None
    sha256: str | None
    chat_template: bool | None  # whether its file brings one; null: its format has none
    source: dict[str, str] | None
    demo: bool
    aliases: list[str]
    slots: list[str]
    removable: bool
    defaults: dict[str, Any]


class PartView(View):
    """A file of a model; `sha256` is what it has to be, null where nobody has said."""

    file: str
    size_bytes: int | None
    sha256: str | None


class WholeEntryView(EntryView):
    """One model with all of its files; its size is null for one that has gone meanwhile."""

    parts: list[PartView]


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


class DefaultsRequest(View):
    """`defaults`: context_size, parallel, extra_args, request_defaults, as in a profile; null takes one away."""

    defaults: dict[str, Any]


class BindRequest(View):
    """Neither a slot nor an upstream: the rules decide again. `name` is what the upstream calls the model."""

    model: str
    slot: str | None = None
    upstream: str | None = None
    name: str | None = None


class ModelGoneView(View):
    id: str
    freed_bytes: int


class UsedView(View):
    """A model and the room that it takes. `last_used` is when a slot had it last, null: never, as far as is known.

    `came_at` is when it came into hal0's store; of another program's, when its file was last changed. `kept_by` are the
    words for what would miss it.
    """

    id: str
    size_bytes: int
    removable: bool
    came_at: float
    last_used: float | None
    kept_by: list[str]


class UsageView(View):
    """The largest first. `unknown_before`: slots have forgotten which models they had until then; null: nothing.

    `pulls_bytes` is what has come of downloads that have not ended.
    """

    items: list[UsedView]
    unknown_before: float | None
    store: str
    pulls_bytes: int
    free_bytes: int | None
    total_bytes: int | None


class FoundView(View):
    """`name` is what `hal0ctl pull` takes. What is `curated` was weighed; of the rest `memory_bytes` and `fits` are
    estimates from its parameters at Q4_K_M, null where nobody says how many it has.
    """

    name: str
    curated: bool
    installed: bool
    purpose: str
    license: str | None
    gated: bool
    downloads: int | None
    context_length: int | None
    memory_bytes: int | None
    fits: bool | None


class SearchView(View):
    """The catalog's first. `problem` says why the hub at `hub` told nothing, null when it was asked."""

    items: list[FoundView]
    hub: str | None
    problem: str | None


class DemoView(View):
    """The demonstration model that was written."""

    id: str
