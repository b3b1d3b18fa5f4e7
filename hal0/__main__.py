"""`hal0`: the daemon. `hal0 serve` runs it in the foreground; `hal0 slot ...` and the like are hal0ctl's words."""

import argparse
import gc
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hal0 import __version__
from hal0.cli.names import COMMANDS

if TYPE_CHECKING:
    from hal0.config.template import Seeds


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `hal0`; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        from hal0.cli.main import main as hal0ctl  # only for these words: the daemon needs no click

        return int(hal0ctl(words) or 0)
    return _serve(_parse(words))


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hal0", description="One machine as an OpenAI-compatible inference platform.")
    parser.add_argument("--version", action="version", version=f"hal0 {__version__}")
    serve = parser.add_subparsers(dest="command", required=True).add_parser("serve", help="run in the foreground")
    serve.add_argument("--host", action="append", help="address to listen on; may be repeated")
    serve.add_argument("--port", type=int, help="TCP port (default 8080)")
    return parser.parse_args(words)


def _seeds() -> "Seeds":
    from hal0.capabilities.seeds import seeds  # at the first start alone

    return seeds()


def _serve(options: argparse.Namespace) -> int:
    # Nothing of what is imported and built until hal0 listens is ever garbage; looking for some takes a sixth of a
    # start. The daemon switches the collector on again.
    gc.disable()
    # Nothing here extends pydantic, which would read the metadata of every installed package to be sure of that.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from hal0 import daemon, paths
    from hal0.config.faults import Fault
    from hal0.config.load import load
    from hal0.config.template import write_first
    from hal0.errors import Hal0Error
    from hal0.home import open_home

    here = paths.resolve()
    overrides: dict[str, Any] = {}
    if options.port is not None:
        overrides["server.port"] = options.port
    if options.host:
        overrides["server.host"] = options.host
    try:
        with open_home(here, time.time()) as home:
            write_first(here, _seeds)
            daemon.run(home, load(here, os.environ, overrides), overrides)
    except Hal0Error as err:
        sys.stderr.write(f"error: {err.message}   [{err.code}]\n")
        for fault in err.details.get("faults", []):
            sys.stderr.write(f"  {Fault(**fault)}\n")
        sys.stderr.write(f"  hint: {err.hint}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
