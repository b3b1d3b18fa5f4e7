"""The event stream of `/api/events`: whole values, never patches."""

from typing import Any

from hal0.wire.base import View


class EventView(View):
    """`data:` of one server-sent event. `value` is the entity's whole view, None when it is gone.

    Topics: hello, reset, slot, job, health, image, upstream, activity, and, for who names it, decision. The last two
    are happenings: nothing of them is in a snapshot, and a reset takes none of them back. The SSE id is `<boot>-<seq>`.
    """

    topic: str
    id: str
    value: dict[str, Any] | None
