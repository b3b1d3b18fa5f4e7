"""Entry of `hal0ctl`: parses, runs, and turns every failure into one message and one exit code."""

import os
import sys
from collections.abc import Sequence

import click

from hal0 import __version__
from hal0.cli import output
from hal0.cli.exits import Exit, for_error
from hal0.cli.options import CONTEXT_SETTINGS, Root, common
from hal0.cli.session import Session
from hal0.client import ClientError


@click.group(
    cls=Root,
    context_settings=CONTEXT_SETTINGS,
    epilog="Topics: hal0ctl help exit-codes|formats|environment|states|errors",
)
@click.version_option(__version__, prog_name="hal0ctl", message="%(prog)s %(version)s")
@common
def root() -> None:
    """Look after hal0: slots, images, jobs, logs, and a chat."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are on stderr, nothing of them on stdout."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        code = root.main(args=args or ["--help"], prog_name="hal0ctl", standalone_mode=False, obj=Session())
        sys.stdout.flush()
        return int(code or Exit.DONE)
    except ClientError as e:
        as_json = output.error_json(e.code, e.message, hint=e.hint, details=e.details, request_id=e.request_id)
        _fail(args, output.error_text(e), as_json)
        return for_error(e)
    except click.ClickException as e:
        _fail(args, *_usage(e))
        return e.exit_code
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; the interpreter's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except OSError as e:  # a file of the caller's: a folder that is full, read-only or somebody else's
        message = f"cannot use {e.filename}: {e.strerror}" if e.filename else str(e)
        _fail(args, f"error: {message}", output.error_json("cli.failed", message))
        return Exit.FAILED


def _usage(e: click.ClickException) -> tuple[str, str]:
    message = e.format_message()
    context = e.ctx if isinstance(e, click.UsageError) else None
    hint = f"{context.command_path} --help" if context else None
    code = "cli.usage" if isinstance(e, click.UsageError) else "cli.failed"
    text = f"error: {message}" + (f"\n  hint: {hint}" if hint else "")
    return text, output.error_json(code, message, hint=hint)


def _fail(args: Sequence[str], text: str, as_json: str) -> None:
    sys.stdout.flush()
    sys.stderr.write((as_json if wants_json(args) else text) + "\n")


def wants_json(args: Sequence[str]) -> bool:
    """Whether a machine format was asked for: also true of a command line that cannot be parsed."""
    formats: list[str] = []
    for i, arg in enumerate(args):
        if arg == "--":
            break
        if arg in ("-o", "--output"):
            formats += args[i + 1 : i + 2]
        elif arg.startswith("--output="):
            formats.append(arg.removeprefix("--output="))
        elif arg.startswith("-o"):
            formats.append(arg.removeprefix("-o").removeprefix("="))
    return bool(formats) and formats[-1] in output.MACHINE_FORMATS
