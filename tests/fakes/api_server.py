"""hal0's API over a real Unix socket, scripted: what the command line sees, without a supervisor behind it.

Views are built with hal0.wire, so that the script cannot drift from the contract. A verb starts `script(server, job)`
in a thread; it moves slots and jobs along with `set_slot` and `set_job`, and every listener of /api/events hears it.
"""

import json
import queue
import re
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

from hal0.vocab import By, SlotState
from hal0.wire.base import View
from hal0.wire.history import ActivityView, DecisionView
from hal0.wire.jobs import JobKind, JobState, JobView
from hal0.wire.slots import LogLineView, SlotView
from hal0.wire.system import CheckState, CheckView, EngineView, HealthView, ImageView, PrunedView, StatusView
from tests.fakes.api_views import MODEL, activity_view, decision_view, explain_view, slot_view

Json = dict[str, Any]


def page(items: Sequence[View]) -> Json:
    return {"items": [it.model_dump(mode="json") for it in items], "next": None, "problem": None}


@dataclass
class ApiServer:
    """One scripted hal0. `requests` are (method, path, body) as they came; `replies` override routes by that pair."""

    slots: dict[str, SlotView] = field(default_factory=dict)
    decisions: list[DecisionView] = field(default_factory=lambda: [decision_view()])
    activity: list[ActivityView] = field(default_factory=lambda: [activity_view()])
    jobs: dict[str, JobView] = field(default_factory=dict)
    images: dict[str, ImageView] = field(default_factory=dict)
    pruned: PrunedView = field(default_factory=lambda: PrunedView(removed=[], kept=[]))
    checks: list[CheckView] = field(default_factory=list)
    logs: dict[str, list[LogLineView]] = field(default_factory=dict)
    replies: dict[tuple[str, str], tuple[int, Json]] = field(default_factory=dict)
    requests: list[tuple[str, str, Json]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    pieces: list[str] = field(default_factory=lambda: ["Hel", "lo ", "there"])
    chat_error: Json | None = None
    log_error: Json | None = None  # ends a followed log
    script: "Callable[[ApiServer, JobView], None] | None" = None
    stopping: threading.Event = field(default_factory=threading.Event)
    silent_events: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._seq = 0
        self._listeners: list[queue.SimpleQueue[tuple[int, Json]]] = []
        self._heard = threading.Event()
        self._scripts: list[threading.Thread] = []
        self.started_at = time.time()

    def listened_to(self) -> None:
        """Wait until somebody follows the events."""
        assert self._heard.wait(20), "nobody listens"

    def set_slot(self, view: SlotView) -> None:
        with self._lock:
            self.slots[view.name] = view
            self._publish("slot", view.name, view.model_dump(mode="json"))

    def tell(self, entry: ActivityView) -> None:
        with self._lock:
            self._publish("activity", str(entry.id), entry.model_dump(mode="json"))

    def set_job(self, job_id: str, **changes: Any) -> None:
        with self._lock:
            self.jobs[job_id] = self.jobs[job_id].model_copy(update=changes)
            self._publish("job", job_id, self.jobs[job_id].model_dump(mode="json"))

    def end_job(self, job_id: str, state: JobState = JobState.DONE, **changes: Any) -> None:
        self.set_job(job_id, state=state, ended_at=time.time(), **changes)

    def _publish(self, topic: str, entity: str, value: Json) -> None:
        self._seq += 1
        for listener in self._listeners if not self.silent_events else []:
            listener.put((self._seq, {"topic": topic, "id": entity, "value": value}))

    def listen(self) -> Iterator[tuple[int, Json]]:
        """hello, snapshots, deltas, until the server stops."""
        mine: queue.SimpleQueue[tuple[int, Json]] = queue.SimpleQueue()
        with self._lock:
            first = [("slot", s.name, s.model_dump(mode="json")) for s in self.slots.values()]
            first += [("job", j.id, j.model_dump(mode="json")) for j in self.jobs.values()]
            seq = self._seq
            self._listeners.append(mine)
        self._heard.set()
        yield seq, {"topic": "hello", "id": "a1b2c3d4", "value": None}
        for topic, entity, value in first if not self.silent_events else []:
            yield seq, {"topic": topic, "id": entity, "value": value}
        while not self.stopping.is_set():
            try:
                yield mine.get(timeout=0.05)
            except queue.Empty:
                continue

    def start_job(self, kind: JobKind, target: str) -> JobView:
        job = JobView(
            id=f"job_{len(self.jobs) + 1:04d}", kind=kind, target=target, state=JobState.RUNNING, progress=None,
            error=None, note=None, by=By.OPERATOR, started_at=time.time(), ended_at=None,
        )  # fmt: skip
        self.jobs[job.id] = job
        thread = threading.Thread(target=self.script or _done_at_once, args=(self, job))
        self._scripts.append(thread)
        thread.start()
        return job

    def join(self) -> None:
        self.stopping.set()
        for thread in self._scripts:
            thread.join(timeout=5)

    def health(self) -> Json:
        engine = EngineView(reachable=True, version="4.3.1", socket="/run/podman/podman.sock", own_service=False)
        states = {name: slot.state.value for name, slot in self.slots.items()}
        return HealthView(
            status="ok", version="0.1.0", instance="a1b2c3d4", pid=4711, uptime_s=7200, engine=engine, slots=states,
            checks=self.checks or [CheckView(name="podman", state=CheckState.OK, message="4.3.1 rootful", fix=None)],
        ).model_dump(mode="json")  # fmt: skip

    def status(self) -> Json:
        counted = {s.value: sum(v.state is s for v in self.slots.values()) for s in SlotState}
        attention = [f"slot {s.name} failed" for s in self.slots.values() if s.state is SlotState.ERROR]
        return StatusView(
            version="0.1.0", instance="a1b2c3d4", pid=4711, url="http://0.0.0.0:8080", socket="/run/hal0/hal0.sock",
            uptime_s=7200, in_flight=0, gpus=[], slots=counted, memory_total_bytes=82_000_000_000,
            memory_available_bytes=20_900_000_000, attention=attention, config_file="/etc/hal0/hal0.toml",
            state_dir="/var/lib/hal0",
        ).model_dump(mode="json")  # fmt: skip


def _done_at_once(server: ApiServer, job: JobView) -> None:
    after = {JobKind.UNLOAD: SlotState.OFFLINE}.get(job.kind, SlotState.READY)
    if job.target in server.slots:
        server.set_slot(slot_view(job.target, after))
    server.end_job(job.id)


def error(status: int, code: str, message: str, **details: Any) -> tuple[int, Json]:
    member = {"message": message, "type": "t", "param": None, "code": code, "details": details, "hint": None}
    return status, {"error": {**member, "request_id": "req_01"}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ApiServer
    routes: ClassVar[list[tuple[str, str, str]]] = [
        ("GET", r"/api/health", "health"),
        ("GET", r"/api/status", "status"),
        ("GET", r"/api/slots", "slots"),
        ("GET", r"/api/slots/([^/]+)", "slot"),
        ("GET", r"/api/slots/([^/]+)/logs", "logs"),
        ("POST", r"/api/slots/([^/]+)/(load|unload|restart|swap|reset)", "verb"),
        ("GET", r"/api/jobs", "jobs"),
        ("GET", r"/api/jobs/([^/]+)", "job"),
        ("DELETE", r"/api/jobs/([^/]+)", "cancel"),
        ("GET", r"/api/decisions", "decisions"),
        ("GET", r"/api/decisions/([^/]+)", "decision"),
        ("POST", r"/api/decisions/explain", "explain"),
        ("GET", r"/api/activity", "activity"),
        ("GET", r"/api/images", "images"),
        ("POST", r"/api/images/([^/]+)/(build|pull)", "image_verb"),
        ("POST", r"/api/images/([^/]+)/verify", "verify"),
        ("POST", r"/api/images/prune", "prune"),
        ("GET", r"/api/events", "events"),
        ("GET", r"/v1/models", "models"),
        ("POST", r"/v1/chat/completions", "chat"),
    ]

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """The tests look at `requests` instead."""

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        path, _, self.query = self.path.partition("?")
        self.api.requests.append((self.command, self.path, body))
        self.api.headers.append(dict(self.headers))
        if reply := self.api.replies.get((self.command, path)):
            self._json(*reply)
            return
        for method, pattern, name in self.routes:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                getattr(self, f"_{name}")(*match.groups(), **({"body": body} if name == "chat" else {}))
                return
        self._json(*error(404, "request.not_found", f"cannot find {path}"))

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815  the base class's names

    def _json(self, status: int, value: Json) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _sse(self, events: Iterator[tuple[int | None, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for seq, data in events:
            text = data if isinstance(data, str) else json.dumps(data)
            frame = (f"id: a1b2-{seq}\n" if seq is not None else "") + f"data: {text}\n\n"
            self._chunk(frame.encode())
        self._chunk(b"")

    def _chunk(self, raw: bytes) -> None:
        self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self.wfile.flush()

    def _health(self) -> None:
        self._json(200, self.api.health())

    def _status(self) -> None:
        self._json(200, self.api.status())

    def _slots(self) -> None:
        self._json(200, {"items": [s.model_dump(mode="json") for s in self.api.slots.values()]})

    def _known(self, name: str) -> bool:
        if name in self.api.slots:
            return True
        near = [n for n in self.api.slots if n[:3] == name[:3]]
        self._json(*error(404, "slot.not_found", f"cannot find a slot {name!r}", did_you_mean=near))
        return False

    def _slot(self, name: str) -> None:
        if self._known(name):
            self._json(200, self.api.slots[name].model_dump(mode="json"))

    def _logs(self, name: str) -> None:
        if not self._known(name):
            return
        lines = [line.model_dump(mode="json") for line in self.api.logs.get(name, [])]
        if "follow=true" in self.query:
            ending = [{"error": self.api.log_error}] if self.api.log_error else []
            self._sse((None, line) for line in lines + ending)
        else:
            self._json(200, {"items": lines})

    def _verb(self, name: str, verb: str) -> None:
        if self._known(name):
            kind = JobKind(verb) if verb != "reset" else JobKind.UNLOAD
            self._json(202, self.api.start_job(kind, name).model_dump(mode="json"))

    def _jobs(self) -> None:
        self._json(200, {"items": [j.model_dump(mode="json") for j in self.api.jobs.values()]})

    def _job(self, job_id: str) -> None:
        job = self.api.jobs.get(job_id)
        reply = (200, job.model_dump(mode="json")) if job else error(404, "job.not_found", f"cannot find job {job_id}")
        self._json(*reply)

    def _cancel(self, job_id: str) -> None:
        if job_id in self.api.jobs:
            self.api.end_job(job_id, JobState.CANCELLED)
        self._job(job_id)

    def _decisions(self) -> None:
        self._json(200, page(self.api.decisions))

    def _decision(self, request_id: str) -> None:
        found = [it for it in self.api.decisions if it.request_id == request_id]
        missing = error(404, "request.not_found", f"cannot find the request {request_id!r}")
        self._json(*((200, found[0].model_dump(mode="json")) if found else missing))

    def _explain(self) -> None:
        self._json(200, explain_view().model_dump(mode="json"))

    def _activity(self) -> None:
        self._json(200, page(self.api.activity))

    def _images(self) -> None:
        self._json(200, {"items": [i.model_dump(mode="json") for i in self.api.images.values()]})

    def _image_verb(self, key: str, verb: str) -> None:
        self._json(202, self.api.start_job(JobKind(f"image.{verb}"), key).model_dump(mode="json"))

    def _verify(self, key: str) -> None:
        self._json(200, self.api.images[key].model_dump(mode="json"))

    def _prune(self) -> None:
        self._json(200, self.api.pruned.model_dump(mode="json"))

    def _events(self) -> None:
        self._sse(self.api.listen())

    def _models(self) -> None:
        slots = [{"id": name, "status": "loaded", "model": MODEL} for name in self.api.slots]
        self._json(200, {"object": "list", "data": [*slots, {"id": MODEL, "status": "loaded"}]})

    def _chat(self, body: Json) -> None:
        usage = {"prompt_tokens": 7, "completion_tokens": len(self.api.pieces)}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(self.api.pieces)}
            self._json(200, {"choices": [{"message": message}], "usage": usage})
            return
        frames: list[Any] = [{"choices": [{"delta": {"content": piece}}]} for piece in self.api.pieces]
        frames += (
            [{"error": self.api.chat_error}] if self.api.chat_error else [{"choices": [], "usage": usage}, "[DONE]"]
        )
        self._sse((None, frame) for frame in frames)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = False
    block_on_close = True  # a test's descriptors are counted when it ends

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left in the middle of a stream is what the tests do on purpose."""


@contextmanager
def serving(api: ApiServer, socket: Path) -> Iterator[ApiServer]:
    """`api` at `socket` until the block ends; running scripts are joined."""
    handler = type("Handler", (_Handler,), {"api": api})
    with _Server(str(socket), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield api
        finally:
            api.join()
            server.shutdown()
            thread.join()
