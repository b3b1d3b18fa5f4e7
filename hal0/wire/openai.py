"""The parts of the OpenAI surface that hal0 itself answers."""

from typing import Any

from hal0.wire.base import View


class ModelView(View):
    """An entry of GET /v1/models, a slot's name or a model's: OpenAI's four members, then hal0's own and the spellings
    of the context length that clients look for."""

    id: str
    object: str = "model"
    created: int
    owned_by: str
    status: str  # loaded, loading, available, offline
    slot: str | None = None
    model: str | None = None  # what it has now, when `id` is a slot's name
    upstream: str | None = None  # where it really is, when it is not here
    capabilities: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    demo: bool = False
    context_length: int | None = None
    context_window: int | None = None
    max_context_length: int | None = None
    max_model_len: int | None = None
    meta: dict[str, Any] | None = None


class ModelsView(View):
    object: str = "list"
    data: list[ModelView]
