"""What every fault of the drill is given, and what it fills in: the staging slot and a result with its promises."""

from dataclasses import dataclass, field
from typing import Final

from hal0.cli import drill_processes as processes
from hal0.client import ApiError, Client, Json

# What hal0 promises, in seconds. A death is seen by pidfd, or, in another PID namespace, by podman's event.
DEATH_PIDFD_S: Final = 0.1
DEATH_EVENT_S: Final = 0.5
BACK_S: Final = 2.0  # beyond the time that the engine itself takes to load
VERB_S: Final = 240.0  # a verb's own deadline in hal0 is below this


@dataclass(slots=True)
class Result:
    """One fault's outcome. Times are seconds since the fault; None where there is nothing to notice or to repair."""

    fault: str
    noticed_s: float | None = None
    recovered_s: float | None = None
    client: str = "-"
    missed: list[str] = field(default_factory=list)  # promises that were not kept, in words
    skipped: str | None = None  # why it could not be tried

    @property
    def outcome(self) -> str:
        return "skipped" if self.skipped else "missed" if self.missed else "held"

    def promise(self, kept: bool, words: str) -> None:
        if not kept:
            self.missed.append(words)

    def within(self, what: str, took_s: float | None, bar_s: float) -> None:
        words = f"{what} within {bar_s:.3g} s"
        self.promise(took_s is not None and took_s <= bar_s, f"{words}, took {took_s:.3g} s" if took_s else words)


@dataclass(frozen=True, slots=True)
class Stage:
    """The staging slot and its hal0. `load_s` is how long its model takes; `slack` widens every promised time."""

    client: Client
    slot: str
    health: Json
    load_s: float
    slack: float = 1.0

    def view(self) -> Json:
        return self.client.get(f"/api/slots/{self.slot}")

    def verb(self, verb: str) -> Json:
        """The job as it ended."""
        path = f"/api/slots/{self.slot}/{verb}?wait=true&timeout_s={VERB_S:.0f}"
        return self.client.request("POST", path, {}, timeout_s=VERB_S + 10)

    def ask(self) -> str:
        """One short question; in words, how it was answered."""
        body = {"model": self.slot, "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}
        try:
            self.client.request("POST", "/v1/chat/completions", body, timeout_s=60)
        except ApiError as e:
            return f"error {e.code}"
        return "answered"

    @property
    def back_s(self) -> float:
        return (self.load_s + BACK_S) * self.slack

    @property
    def death_s(self) -> float:
        seen = processes.same_namespace(self.health["pid"])
        return (DEATH_PIDFD_S if seen else DEATH_EVENT_S) * self.slack


def how(job: Json) -> str:
    """In words, how a job ended."""
    error = job["error"] or {}
    return f"{job['state']}: {error.get('message', job['note'] or 'no reason given')}"
