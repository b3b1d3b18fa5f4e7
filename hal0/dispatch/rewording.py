"""What engines and upstreams say went wrong: their words alone, and the same in Anthropic's shape. Pure.

Hardly anybody but Anthropic words errors as its clients expect them: llama-server answers `/v1/messages` itself, but
fails there in OpenAI's shape, and what stands before a server fails in plain text.
"""

from http import HTTPStatus
from typing import Any, Final

from hal0.dispatch.frames import anthropic_type
from hal0.lib import jsonio

# Enough for what a person reads; a page of HTML, or a traceback, is nothing for a message.
_MOST_LETTERS: Final = 2000
# No error is larger; a parser at work on what is would hold the loop.
_MOST_BYTES: Final = 256 * 1024
# Where servers put their words, those of the frameworks that they are made with included.
_WORDS: Final = ("message", "error", "detail", "msg")


def for_anthropic(status: int, answer: bytes, request_id: str) -> bytes | None:
    """The error for Anthropic's clients; None: `answer` has their shape already."""
    said = parsed(answer)
    if _is_anthropics(said):
        return None
    message = words_of(answer) or f"the server answered {told(status, answer)}"
    error: dict[str, Any] = {"type": anthropic_type(status), "message": message}
    if said is not None:
        error["details"] = {"answer": said}
    return jsonio.dumps({"type": "error", "error": error, "request_id": request_id})


def words_of(answer: bytes) -> str:
    """The sentence in an error's body; "" where there is none for people."""
    said = parsed(answer)
    if said is None:
        if len(answer) > _MOST_BYTES:
            return ""
        text = answer.decode("utf-8", "replace").strip()
        return "" if text.startswith("<") or "\ufffd" in text else text[:_MOST_LETTERS]
    return _sentence(said)[:_MOST_LETTERS]


def told(status: int, answer: bytes) -> str:
    """An answer that was of no use: its status, and why as far as it says."""
    words = words_of(answer) if status >= HTTPStatus.BAD_REQUEST else ""
    return f"{status}: {words}" if words else f"{status} {phrase(status)}".rstrip()


def parsed(answer: bytes) -> Any:
    """The body as JSON; None where it is none, too large to be looked at, or too deep to be written on."""
    if len(answer) > _MOST_BYTES:
        return None
    try:
        said = jsonio.loads(answer)
        jsonio.dumps({"error": {"details": {"answer": said}}})  # where it will stand
    except (jsonio.JSONDecodeError, jsonio.JSONEncodeError):
        return None
    return said


def phrase(status: int) -> str:
    """What a status is called; "" for those that nobody has named."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _sentence(said: Any) -> str:
    """Found by the usual names, a few levels deep."""
    for _ in range(len(_WORDS)):
        if isinstance(said, list) and said:
            said = said[0]
        elif isinstance(said, dict):
            said = next((said[name] for name in _WORDS if said.get(name)), None)
    return said.strip() if isinstance(said, str) else ""


def _is_anthropics(said: Any) -> bool:
    if not isinstance(said, dict) or said.get("type") != "error" or not isinstance(error := said.get("error"), dict):
        return False
    return isinstance(error.get("type"), str) and isinstance(error.get("message"), str)
