"""`hal0ctl chat`: one question, a piped one, or a conversation, streamed from hal0's own /v1."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from hal0.cli import units
from hal0.cli.names_of import ModelName
from hal0.cli.options import command
from hal0.cli.session import Session
from hal0.client import ApiError, Client, ClientError, Json

ANSWER_TIMEOUT_S: Final = 600.0  # a large model may read a long prompt for minutes before its first word
MEASURABLE_S: Final = 0.2  # a shorter answer says more about buffers than about speed
DEFAULT_TARGET: Final = "primary"
LEAVE: Final = frozenset({"/exit", "/quit", "/bye"})


@dataclass(slots=True)
class Conversation:
    """The messages so far, and how they are sent."""

    client: Client
    model: str
    options: Json
    messages: list[Json] = field(default_factory=list)
    first_token_s: float | None = None
    took_s: float = 0.0
    usage: Json = field(default_factory=dict)

    def ask(self, content: Any) -> Iterator[str]:
        """Sends one more message and yields the answer's pieces; a broken answer leaves the conversation as it was."""
        asked = {"role": "user", "content": content}
        body = {"model": self.model, "messages": [*self.messages, asked], "stream": True, **self.options}
        body["stream_options"] = {"include_usage": True}
        started, pieces = time.monotonic(), []
        self.first_token_s, self.usage = None, {}
        stream = self.client.stream("POST", "/v1/chat/completions", body, timeout_s=ANSWER_TIMEOUT_S)
        try:
            for event in stream:
                if piece := self._piece(event.data):
                    if self.first_token_s is None:
                        self.first_token_s = time.monotonic() - started
                    pieces.append(piece)
                    yield piece
        finally:
            stream.close()
        self.took_s = time.monotonic() - started
        self.messages += [asked, {"role": "assistant", "content": "".join(pieces)}]

    def whole(self, content: Any) -> Json:
        """The same without streaming: the server's completion object."""
        body = {"model": self.model, "messages": [*self.messages, {"role": "user", "content": content}]}
        return self.client.request("POST", "/v1/chat/completions", {**body, **self.options}, timeout_s=ANSWER_TIMEOUT_S)

    def _piece(self, data: Any) -> str:
        if not isinstance(data, dict):
            return ""  # [DONE]
        self.usage = data.get("usage") or self.usage
        choices = data.get("choices") or [{}]
        return str(choices[0].get("delta", {}).get("content") or "")

    def stats(self) -> str:
        count = self.usage.get("completion_tokens")
        first = self.first_token_s if self.first_token_s is not None else self.took_s
        parts = [f"first token after {units.duration(first)}", f"{units.duration(self.took_s)} in all"]
        if count is not None:
            parts.append(f"{self.usage.get('prompt_tokens', 0)} tokens read, {count} written")
            if self.took_s - first >= MEASURABLE_S:
                parts.append(f"{(count - 1) / (self.took_s - first):.1f} tok/s")
        return ", ".join(parts)


@command('hal0ctl chat "Why is the sky blue?" --stats')
@click.argument("words", metavar="[TARGET] [PROMPT]...", nargs=-1)
@click.option("-m", "--model", type=ModelName(), help="Slot or model to ask (default: primary).")
@click.option("--system", metavar="TEXT", help="The system prompt.")
@click.option("--image", type=click.Path(exists=True, dir_okay=False), help="A picture to ask about.")
@click.option("--json-schema", type=click.Path(exists=True, dir_okay=False), help="Answer as JSON of this schema.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer.")
@click.option("--temperature", type=click.FloatRange(min=0), help="0 is the most predictable.")
@click.option("--seed", type=int, help="Same seed, same answer.")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is complete.")
@click.option("--stats", is_flag=True, help="Times and token counts, on stderr.")
def chat(session: Session, *, words: tuple[str, ...], model: str | None, **flags: Any) -> None:
    """Ask once (arguments or stdin), or talk (on a terminal)."""
    client = session.client()
    target, prompt = (model, list(words)) if model else _split(client, list(words))
    conversation = Conversation(client, target or DEFAULT_TARGET, _options(flags))
    if flags["system"]:
        conversation.messages.append({"role": "system", "content": flags["system"]})
    if not sys.stdin.isatty():
        prompt += [sys.stdin.read().strip()]
    text = " ".join(part for part in prompt if part)
    if not text and sys.stdin.isatty():
        _talk(session, conversation, stats=flags["stats"])
        return
    if not text:
        raise click.UsageError("there is nothing to ask: give a prompt as argument or on stdin")
    _once(session, conversation, _content(text, flags["image"]), flags)


def _once(session: Session, conversation: Conversation, content: Any, flags: Json) -> None:
    if session.machine or flags["no_stream"]:
        answer = conversation.whole(content)
        message = answer["choices"][0]["message"]
        session.value(answer, units.plain(str(message.get("content") or "")))
        return
    _speak(conversation, content)
    if flags["stats"]:
        session.note(conversation.stats())


def _speak(conversation: Conversation, content: Any) -> None:
    for piece in conversation.ask(content):
        sys.stdout.write(units.plain(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _talk(session: Session, conversation: Conversation, *, stats: bool) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  its import gives input() a history and editing
    session.note(f"Talking to {conversation.model}. /exit or Ctrl-D leaves, /reset forgets, Ctrl-C stops an answer.")
    system = [m for m in conversation.messages if m["role"] == "system"]
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            session.note("")
            return
        if line in LEAVE:
            return
        if line == "/reset":
            conversation.messages = list(system)
        elif line:
            _turn(session, conversation, line, stats=stats)


def _turn(session: Session, conversation: Conversation, line: str, *, stats: bool) -> None:
    try:
        _speak(conversation, line)
    except KeyboardInterrupt:
        session.note("\n(stopped)")
    except ClientError as e:
        session.note(f"error: {e.message}   [{e.code}]")
    else:
        if stats:
            session.note(conversation.stats())


def _split(client: Client, words: list[str]) -> tuple[str | None, list[str]]:
    """The first word is the target when hal0 knows it by that name; otherwise it belongs to the prompt."""
    if not words or " " in words[0]:
        return None, words
    known = {str(m["id"]) for m in client.get("/v1/models")["data"]}
    with contextlib.suppress(ApiError):  # a key for inference sees no slots
        for slot in client.get("/api/slots")["items"]:
            known |= {slot["name"], f"hal0/{slot['name']}", *slot["aliases"]}
    return (words[0], words[1:]) if words[0] in known else (None, words)


def _options(flags: Json) -> Json:
    options = {key: flags[key] for key in ("max_tokens", "temperature", "seed") if flags[key] is not None}
    if flags["json_schema"]:
        try:
            schema = json.loads(Path(flags["json_schema"]).read_bytes())
        except ValueError as e:
            raise click.UsageError(f"--json-schema is not JSON: {e}") from e
        options["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return options


def _content(text: str, image: str | None) -> Any:
    if not image:
        return text
    import base64
    import mimetypes

    kind = mimetypes.guess_type(image)[0] or "application/octet-stream"
    data = base64.b64encode(Path(image).read_bytes()).decode()
    picture = {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
    return [{"type": "text", "text": text}, picture]
