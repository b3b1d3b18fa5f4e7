"""AI models on disk as the operator sees them (`/v1/models` is in `wire.openai`)."""

from hal0.vocab import Capability
from hal0.wire.base import View


class EntryView(View):
    """A model that can be loaded. `file` is the first of `files`; `slots` are those whose model it is."""

    id: str
    file: str
    files: int
    size_bytes: int
    created: float
    format: str
    architecture: str
    quantisation: str | None
    context_length: int | None
    capabilities: list[Capability]
    license: str | None
    demo: bool
    slots: list[str]


class ModelProblemView(View):
    """A file that looks like a model and cannot be used."""

    file: str
    code: str
    message: str


class EntriesView(View):
    items: list[EntryView]
    problems: list[ModelProblemView]


class DemoView(View):
    """The demonstration model that was written."""

    id: str
