"""One error type, one table: every failure hal0 reports knows its code, status and whether a retry helps.

    Hal0Error            carries a code of TABLE, a message, and the details that belong to it
    ErrorSpec            one row: status, retry, title, hint

Foreign exceptions are translated to Hal0Error once, at the edge of the adapter that met them, and rendered once,
in the HTTP middleware. `retry` becomes `x-should-retry`; `retry_after_s` becomes `Retry-After`, clamped to 1-60 s
(the true figure stays in `details`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    status: int
    retry: bool
    title: str
    hint: str


def _row(status: int, title: str, hint: str, *, retry: bool = False) -> ErrorSpec:
    return ErrorSpec(status=status, retry=retry, title=title, hint=hint)


TABLE: Final[Mapping[str, ErrorSpec]] = MappingProxyType(
    {
        # the request
        "request.invalid_json": _row(400, "The body is not valid JSON", "Send one JSON object."),
        "request.invalid": _row(400, "The request is not valid", "See the message for the field."),
        "request.invalid_form": _row(400, "The form is not valid", "Send multipart/form-data, written by a library."),
        "request.missing_model": _row(400, "No model is named", "Set `model`; GET /v1/models lists what is there."),
        "request.remote_media": _row(400, "Remote media is not fetched", "Send the media as a data: URL."),
        "request.not_found": _row(404, "No such path", "GET / shows the paths that are served."),
        "request.method": _row(405, "Method not allowed here", "The Allow header names the methods."),
        "request.too_large": _row(413, "The body is too large", "Send less, or raise the limit in hal0.toml."),
        "request.encoding": _row(415, "Compressed bodies are not accepted", "Send the body without Content-Encoding."),
        "request.client_gone": _row(499, "The client left", "Nothing to do."),
        # access
        "auth.required": _row(401, "A key is needed", "On the machine that runs hal0: hal0ctl key create NAME"),
        "auth.forbidden": _row(403, "The key may not do this", "Use a key with the scope that the message names."),
        "access.origin_not_allowed": _row(403, "This web page may not call hal0", "Add it to access.cors_origins."),
        "access.host_not_allowed": _row(
            421, "Unknown host name", "Use a key (hal0ctl key create NAME), or add it to access.hosts."
        ),
        "auth.rate_limited": _row(429, "Too often", "Wait; Retry-After says how long.", retry=True),
        # things that are not there
        "slot.not_found": _row(404, "No such slot", "hal0ctl slot list"),
        "model.not_found": _row(
            404,
            "No such model",
            "hal0ctl model list says what is here; hal0ctl pull OWNER/REPOSITORY:QUANT fetches another.",
        ),
        "job.not_found": _row(404, "No such job", "hal0ctl job list"),
        "image.not_found": _row(404, "No such image key", "hal0ctl image list"),
        "upstream.not_found": _row(404, "No such upstream", "hal0ctl upstream list"),
        "capability.not_found": _row(404, "No such capability", "hal0ctl cap list"),
        "profile.not_found": _row(404, "No such profile", "hal0ctl profile list"),
        "provider.not_found": _row(404, "No such provider", "hal0ctl provider list"),
        "pull.not_found": _row(404, "No such pull", "Start it again."),
        "dispatch.no_route": _row(404, "Nothing serves this model", "GET /v1/models lists what is there."),
        # refused by state
        "slot.illegal_transition": _row(409, "Not possible in this state", "hal0ctl slot show NAME"),
        "slot.reserved": _row(409, "This slot name is reserved", "Choose another name."),
        "slot.exists": _row(409, "A slot of this name exists", "Choose another name."),
        "slot.pinned": _row(409, "The slot is pinned", "hal0ctl slot unpin NAME"),
        "slot.no_free_port": _row(409, "No slot port is free", "Unload a slot; ports 8081-8099 hold 19 at once."),
        "slot.port_taken": _row(409, "The slot's port is taken", "Free the port, or set `port = 0` for any."),
        "slot.no_model": _row(
            409,
            "The slot has no model",
            "hal0ctl slot swap NAME MODEL, with one of hal0ctl model list; hal0ctl pull fetches another.",
        ),
        "slot.npu_exclusive": _row(409, "The NPU holds another model", "Unload the other NPU slot first."),
        "dispatch.capability_mismatch": _row(409, "The model cannot do this", "Choose a model that can."),
        "model.in_use": _row(409, "The model is in use", "Unload the slot that the message names."),
        "upstream.exists": _row(409, "An upstream of this name exists", "Choose another name."),
        "upstream.in_use": _row(409, "The upstream is in use", "Change the slots that the message names."),
        "model.read_only": _row(409, "The model is another program's", "Delete it there, or take its folder out."),
        "model.exists": _row(409, "A model of this id exists", "Choose another id."),
        "config.conflict": _row(409, "The configuration changed meanwhile", "Read it again, then save."),
        "profile.in_use": _row(409, "The profile is in use", "Change the slots that the message names."),
        "server.port_taken": _row(409, "The port is taken", "hal0 serve --port PORT"),
        "server.already_running": _row(409, "hal0 is already running here", "hal0ctl status"),
        # content
        "audio.unsupported_format": _row(415, "The audio cannot be decoded", "Send wav, mp3, flac, ogg, m4a or webm."),
        "render.unsupported_picture": _row(415, "The picture cannot be read", "Send a PNG, JPEG or WebP file."),
        "config.invalid": _row(422, "The configuration is not valid", "Mend the keys that the message names."),
        "model.checksum": _row(422, "The model file is damaged", "Pull it again."),
        "model.unsafe_format": _row(422, "This file format can run code", "Use GGUF, safetensors or ONNX."),
        # a slot that cannot take a request now
        "slot.queue_full": _row(429, "Too many requests wait for this slot", "Try again shortly.", retry=True),
        "slot.loading": _row(503, "The slot is still loading", "Wait; Retry-After says how long.", retry=True),
        "slot.crash_looping": _row(503, "The slot keeps failing", "hal0ctl slot show NAME", retry=True),
        "slot.load_cancelled": _row(503, "The load was cancelled", "Load the slot again.", retry=True),
        "slot.draining": _row(503, "The slot is being unloaded", "Try again shortly.", retry=True),
        "slot.offline": _row(503, "The slot is offline", "hal0ctl slot load NAME"),
        "slot.load_failed": _row(502, "The model could not be loaded", "hal0ctl slot show NAME"),
        "slot.port_lost": _row(502, "The slot's port leads nowhere", "Nothing to do: the slot starts again."),
        "slot.exited": _row(502, "The engine stopped", "hal0ctl slot show NAME"),
        "render.failed": _row(502, "The picture could not be made", "See the message; hal0ctl slot logs NAME"),
        "slot.deadline": _row(504, "The slot took too long", "hal0ctl slot logs NAME"),
        "slot.memory_budget": _row(507, "Not enough memory to load", "Unload a slot, or use a smaller model."),
        "gpu.image_mode": _row(503, "The GPU is busy with images", "Try again shortly.", retry=True),
        "model.not_downloaded": _row(503, "The model is not downloaded", "Put its file into the models folder."),
        "setup.incomplete": _row(502, "Not every slot could be set up", "hal0ctl setup goes on where it stopped."),
        # images, engine, devices
        "image.missing": _row(503, "The runtime image is not here", "hal0ctl image build KEY"),
        "image.digest_mismatch": _row(502, "The image is not what was asked for", "hal0ctl image verify"),
        "image.build_failed": _row(502, "The image could not be built", "See the message for the failing step."),
        "engine.unreachable": _row(503, "podman does not answer", "hal0ctl doctor", retry=True),
        "engine.not_podman": _row(503, "The socket is not podman's", "hal0ctl doctor"),
        "engine.failed": _row(502, "podman refused", "See the message for podman's own words."),
        "engine.timeout": _row(504, "podman took too long", "hal0ctl doctor"),
        "image.unfit": _row(409, "The image does not fit this machine", "Choose another device or image."),
        "device.missing": _row(503, "This machine has no such device", "hal0ctl hw backends"),
        "device.permission": _row(503, "No access to the device", "hal0ctl doctor"),
        # upstreams
        "upstream.unreachable": _row(502, "The upstream does not answer", "Check its address.", retry=True),
        "upstream.auth": _row(502, "No key for the upstream", "Set the upstream's key."),
        "upstream.timeout": _row(504, "The upstream took too long", "Raise the timeout, or try again."),
        "upstream.broken": _row(502, "The answer ended too early", "Send the request again."),
        "upstream.loop": _row(
            508, "The request came back to where it was", "Do not make two hal0 each other's upstream."
        ),
        # storage and the rest
        "pull.failed": _row(
            502, "The download failed", "Try again; what had begun goes on with hal0ctl model resume ID.", retry=True
        ),
        "pull.gated": _row(403, "The publisher asks for a licence", "Add a token with access."),
        "pull.address_refused": _row(403, "This address is not fetched from", "Use a public address."),
        "pull.disk_full": _row(
            507,
            "The model store is full",
            "Free space, such as with hal0ctl model delete MODEL, or set [models] store; then hal0ctl model resume ID.",
        ),
        "state.write_failed": _row(
            507, "State could not be written", "Free space on the state directory's disk, or mend it."
        ),
        "history.unreadable": _row(503, "The history cannot be read", "hal0ctl doctor"),
        "state.newer": _row(500, "State was written by a newer hal0", "Upgrade hal0; the message names the file."),
        "server.exhausted": _row(503, "The machine has nothing left", "hal0ctl doctor", retry=True),
        "server.stopping": _row(503, "hal0 is stopping", "Try again shortly.", retry=True),
        "system.internal": _row(500, "hal0 made a mistake", "Please report it with the request id."),
    }
)

_RETRY_AFTER_MIN_S: Final = 1  # below a second clients hammer
_RETRY_AFTER_MAX_S: Final = 60  # above a minute the SDKs ignore the header


class Hal0Error(Exception):
    """A failure in hal0's words.

    `code` is a key of TABLE. `details` is JSON-ready. `retry_after_s` is the true figure in seconds.
    `hint` replaces the table's hint where a better one is known; `param` names the field at fault.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        param: str | None = None,
        hint: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.spec = TABLE[code]
        self.code = code
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.param = param
        self.hint = hint if hint is not None else self.spec.hint
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        return self.spec.status

    def headers(self) -> dict[str, str]:
        """Response headers that tell a client whether and when to try again."""
        headers = {"x-should-retry": "true" if self.spec.retry else "false"}
        if self.retry_after_s is not None:
            seconds = min(max(self.retry_after_s, _RETRY_AFTER_MIN_S), _RETRY_AFTER_MAX_S)
            headers["Retry-After"] = str(math.ceil(seconds))
        return headers

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The error envelope of every path but `/v1/messages`."""
        details = dict(self.details)
        if self.retry_after_s is not None:
            details["retry_after_s"] = round(self.retry_after_s, 3)
        return {
            "error": {
                "message": self.message,
                "type": error_type(self.status),
                "param": self.param,
                "code": self.code,
                "details": details,
                "hint": self.hint,
                "request_id": request_id,
            }
        }


def error_type(status: int) -> str:
    """The `type` member that OpenAI clients expect for an HTTP status."""
    match status:
        case 401:
            return "authentication_error"
        case 403 | 421:
            return "permission_error"
        case 404:
            return "not_found_error"
        case 429:
            return "rate_limit_error"
        case _ if status < 500:
            return "invalid_request_error"
        case _:
            return "server_error"
