"""What all views share: frozen, closed, and rendered by pydantic's own serialiser."""

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """A JSON value as seen over HTTP. Times are seconds since the epoch (float), sizes are bytes, durations seconds.

    Built at its first use: a start that built all of them would take a twelfth longer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def json_bytes(self) -> bytes:
        return self.model_dump_json().encode()


class NothingView(View):
    """Body of a verb that takes no members."""


class ListView(View):
    """Lists are objects, so that they can grow members: {"items": [...]}."""
