"""One invocation of `hal0ctl`: its global options, its client, and the two streams it speaks on."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from hal0.cli import output, units
from hal0.cli.output import Column
from hal0.cli.target import discover
from hal0.client import DEFAULT_TIMEOUT_S, Client, Json


@dataclass(slots=True)
class Session:
    """Global options as given before or after the subcommand; the later one wins. `timeout` is in seconds."""

    url: str | None = None
    context: str | None = None
    api_key_file: str | None = None
    output: str = "table"
    columns: str | None = None
    no_headers: bool = False
    quiet: bool = False
    verbose: int = 0
    no_color: bool = False
    progress: str = "auto"
    timeout: float | None = None
    yes: bool = False
    units: str = "gb"

    def client(self, *, timeout_s: float | None = None) -> Client:
        target = discover(self.url, self.context, api_key_file=self.api_key_file)
        trace = self._trace if self.verbose else None
        return Client(target, timeout_s=timeout_s or self.timeout or DEFAULT_TIMEOUT_S, trace=trace)

    @property
    def machine(self) -> bool:
        return self.output in output.MACHINE_FORMATS

    @property
    def colour(self) -> bool:
        wanted = not self.no_color and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        return wanted and sys.stdout.isatty()

    @property
    def live(self) -> bool:
        """Whether progress may be redrawn in place."""
        return self.progress == "auto" and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def size(self, count: float | None) -> str:
        return units.size(count, binary=self.units == "gib")

    def say(self, text: str) -> None:
        """Data, on stdout."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """What helps a person and no program: stderr, never with --quiet."""
        if not self.quiet:
            sys.stderr.write(units.plain(text) + "\n")
            sys.stderr.flush()

    def confirm(self, question: str) -> None:
        """Returns when the answer is yes: by -y, or on a terminal. Raises click.Abort for a no."""
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise click.UsageError(f"{question} There is nobody to ask: give -y to go on")
        click.confirm(question, abort=True, err=True)

    def rows(self, items: Sequence[Json], columns: Sequence[Column], *, name: str = "name") -> None:
        """A list in the format asked for; `name` is the member that `-o name` prints."""
        if self.machine:
            sys.stdout.write(output.machine(list(items), self.output))
        elif self.output == "name":
            sys.stdout.write("".join(f"{item[name]}\n" for item in items))
        else:
            try:
                chosen = output.choose(columns, self.columns, wide=self.output == "wide")
            except KeyError as e:
                known = ", ".join(c.header.lower() for c in columns)
                raise click.UsageError(f"no column {e.args[0]!r}; there are: {known}") from e
            text = output.table(
                items, chosen, width=output.terminal_width(), headers=not self.no_headers, colour=self.colour
            )
            sys.stdout.write(text)

    def value(self, value: Any, text: str, *, name: str | None = None) -> None:
        """One thing: as JSON or YAML for programs, its name for `-o name`, `text` for people."""
        if self.machine:
            self.say(output.machine(value, self.output))
        elif self.output == "name" and name is not None:
            self.say(name)
        elif text:
            self.say(units.plain(text))

    def _trace(self, line: str) -> None:
        sys.stderr.write(f"http: {line}\n")
