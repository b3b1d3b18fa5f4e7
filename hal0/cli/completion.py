"""`hal0ctl completion`: the script that teaches a shell hal0ctl's words."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from hal0.cli.options import command
from hal0.cli.session import Session

VARIABLE: Final = "_HAL0CTL_COMPLETE"
SHELLS: Final = ("bash", "zsh", "fish")


@command("hal0ctl completion bash --install")
@click.argument("shell", type=click.Choice(SHELLS))
@click.option("--install", is_flag=True, help="Write it to your completion directory instead of printing it.")
@click.pass_context
def completion(ctx: click.Context, session: Session, *, shell: str, install: bool) -> None:
    """Print the completion script for bash, zsh or fish, or install it."""
    script = script_for(shell, ctx.find_root().command)
    if not install:
        session.value({"shell": shell, "script": script}, script)
        return
    file = place(shell, os.environ)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script)
    session.value({"shell": shell, "file": str(file)}, "", name=str(file))
    session.note(f"written to {file}; new shells have it" + (_ZSH_NOTE.format(file.parent) if shell == "zsh" else ""))


_ZSH_NOTE: Final = "\n(zsh looks there once ~/.zshrc says, before compinit: fpath=({} $fpath))"


def script_for(shell: str, root: click.Command) -> str:
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    # Click's own source() of bash would run bash to learn its version; the template is the same for all that can do it.
    made = found(root, {}, "hal0ctl", VARIABLE)
    return made.source_template % made.source_vars()


def place(shell: str, env: Mapping[str, str]) -> Path:
    """Where a shell looks for a user's completions."""
    home = Path(env.get("HOME") or Path.home())
    data = Path(env.get("XDG_DATA_HOME") or home / ".local" / "share")
    match shell:
        case "bash":
            return data / "bash-completion" / "completions" / "hal0ctl"
        case "zsh":
            return data / "zsh" / "site-functions" / "_hal0ctl"
        case _:
            return Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "fish" / "completions" / "hal0ctl.fish"
