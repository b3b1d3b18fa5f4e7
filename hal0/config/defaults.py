"""What a model is started with, and asked with, where neither its slot nor the slot's profile says anything."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, field_validator

from hal0.config.base import ConfigModel, SomeCount, Words, fault
from hal0.config.faults import Fault, complaints, refused
from hal0.config.slots import ContextSize


class ModelDefaults(ConfigModel):
    """The fields of a profile that are a model's own business. Which arguments are refused, its engine says."""

    context_size: ContextSize | None = Field(None, description="Tokens.")
    parallel: SomeCount | None = Field(None, le=256, description="Requests at the same time inside the engine.")
    extra_args: Words = Field((), description="Engine arguments, before the profile's and the slot's.")
    request_defaults: dict[str, Any] = Field(default_factory=dict, description="Members that a request may leave out.")

    @field_validator("request_defaults")
    @classmethod
    def _in_toml(cls, members: dict[str, Any]) -> dict[str, Any]:
        if _has_null(members):
            raise fault("a file of TOML cannot keep a null", allowed="leave the member out")
        return members

    def said(self) -> dict[str, Any]:
        """Only what they say, as JSON has it."""
        return self.model_dump(mode="json", exclude_defaults=True)


def changed(model: str, before: ModelDefaults | None, changes: Mapping[str, Any]) -> ModelDefaults:
    """With these fields set; None takes one away. Raises config.invalid, with all faults in the request's words."""
    fields = {**({} if before is None else before.said()), **changes}
    try:
        return ModelDefaults.model_validate({key: value for key, value in fields.items() if value is not None})
    except ValidationError as error:
        found = [Fault("", None, it.key, it.message, it.allowed) for it in complaints(error, ModelDefaults)]
        raise refused(f"set the defaults of {model}", found) from error


def _has_null(value: object) -> bool:
    match value:
        case dict():
            return any(map(_has_null, value.values()))
        case list():
            return any(map(_has_null, value))
        case _:
            return value is None
