"""What FLM answers, put right: failures that come as 200, vectors and transcripts in the form asked for. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from hal0.errors import Hal0Error, error_type
from hal0.lib import jsonio
from hal0.providers.base import Answer
from hal0.providers.vectors import in_asked_format

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
# Words of FLM's for what the client should have sent otherwise: the second is its JSON library's, of a member's type.
_CLIENTS_FAULT: Final = ("max length reached", "json.exception")
_FAILED: Final = 500
# Formats that need times, and the words they are known by; FLM tells none.
_TIMED: Final = frozenset({"srt", "vtt", "verbose_json", "diarized_json"})


def text(_request: Mapping[str, Any], answer: bytes) -> bytes | Answer:
    """A chat completion or a completion."""
    body = _parsed(answer)
    return failure_in(body) or answer


def vectors(request: Mapping[str, Any], answer: bytes) -> bytes | Answer:
    """Embeddings; FLM knows numbers only."""
    return failure_in(_parsed(answer)) or in_asked_format(request, answer)


def no_times(fields: Mapping[str, Any]) -> None:
    """Raises request.invalid for a transcription in a format that FLM could not fill."""
    if (wanted := fields.get("response_format")) in _TIMED:
        said = f"cannot answer in {wanted}: FLM tells no times; ask for json or text"
        raise Hal0Error("request.invalid", said, param="response_format")


def transcript(fields: Mapping[str, Any], answer: bytes) -> bytes | Answer:
    """A transcription; FLM answers `{"model", "text"}`, whatever was asked for."""
    body = _parsed(answer)
    if (failed := failure_in(body)) is not None:
        return failed
    assert body is not None
    if fields.get("response_format") == "text":
        return Answer(200, _TEXT, str(body.get("text", "")).strip().encode() + b"\n")
    return jsonio.dumps({"text": str(body.get("text", "")).strip()})


def failure_in(body: Mapping[str, Any] | None) -> Answer | None:
    """The error that an answer is, although its status says otherwise. None: it is what it should be.

    FLM writes errors as a text or as an object with a code, and `null` where a model was not loaded.
    """
    if body is None:
        return _error(503, "cannot answer: FLM has no model for this loaded")
    error = body.get("error")
    if error is None:
        return None
    told = error if isinstance(error, Mapping) else {"message": error}
    message = str(told.get("message") or "FLM tells no reason")
    code = told.get("code")
    if any(words in message.lower() for words in _CLIENTS_FAULT):
        code = 400
    return _error(code if isinstance(code, int) and 400 <= code < 600 else _FAILED, message)


def _error(status: int, message: str) -> Answer:
    error = {"message": message, "type": error_type(status), "param": None, "code": None}
    return Answer(status, _JSON, jsonio.dumps({"error": error}))


def _parsed(answer: bytes) -> Mapping[str, Any] | None:
    """The JSON object; None for everything else."""
    try:
        body = jsonio.loads(answer)
    except jsonio.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None
