"""The global flags, one decorator that gives them to every command, and click's classes in hal0ctl's manner."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from hal0.cli.names import ALIASES, MODULES
from hal0.cli.output import FORMATS
from hal0.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class GlobalOption(click.Option):
    """Shown in a section of its own."""


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Only what was typed is kept, so that a flag before the subcommand survives the default after it."""
    if param.name and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
        setattr(ctx.ensure_object(Session), param.name, value)


def common(f: F) -> F:
    """The global flags on a command or group; their values are in the Session."""

    def flag(*names: str, **kwargs: Any) -> None:
        nonlocal f
        f = click.option(*names, cls=GlobalOption, callback=_keep, expose_value=False, **kwargs)(f)

    flag("--units", type=click.Choice(["gb", "gib"]), help="Sizes in powers of 1000 (default) or 1024.")
    flag("-y", "--yes", is_flag=True, help="Answer yes to every question.")
    flag("--timeout", type=click.FloatRange(min=0.01), metavar="SEC", help="Give up waiting after so many seconds.")
    flag("--progress", type=click.Choice(["auto", "plain", "none"]), help="How progress is shown.")
    flag("--no-color", is_flag=True, help="No colours (also NO_COLOR, TERM=dumb).")
    flag("-v", "--verbose", count=True, help="Show each HTTP request, with secrets masked.")
    flag("-q", "--quiet", is_flag=True, help="No notes and no progress.")
    flag("--no-headers", is_flag=True, help="Tables without their first line.")
    flag("--columns", metavar="A,B", help="Only these columns of a table.")
    flag("-o", "--output", type=click.Choice(FORMATS), help="Format of what goes to stdout.")
    flag("--api-key-file", metavar="FILE", help="File with the API key (also HAL0_API_KEY).")
    flag("--context", metavar="NAME", help="Use this named hal0 (see: hal0ctl context).")
    flag("--url", metavar="URL", help="Where hal0 is: unix:///path or http://host:port (also HAL0_URL).")
    return f


class Leaf(click.Command):
    """A command; its help shows its own options apart from the global ones."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                (shared if isinstance(param, GlobalOption) else own).append(record)
        for title, records in (("Options", own), ("Global options", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Noun(click.Group):
    """A group whose unknown subcommands are answered with the nearest known one, and `ls` means `list`."""

    command_class = Leaf

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, "list" if cmd_name == "ls" else cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if not word.startswith("-") and self.get_command(ctx, word) is None:
            from difflib import get_close_matches

            near = get_close_matches(word, self.list_commands(ctx), n=1, cutoff=0.5)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no such command {word!r}.{guess}", ctx)
        return super().resolve_command(ctx, args)


class Root(Noun):
    """`hal0ctl` itself: a command's module is imported when its word is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = MODULES.get(ALIASES.get(cmd_name, cmd_name))
        if where is None:
            return None
        module, _, attribute = where.partition(":")
        found: click.Command = getattr(import_module(f"hal0.cli.{module}"), attribute)
        return found


def command(example: str, **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of its own right (not below a noun), with the global flags, the session and an example."""

    def decorate(f: Callable[..., Any]) -> click.Command:
        return click.command(cls=Leaf, **_settings(example, kwargs))(common(click.pass_obj(f)))

    return decorate


def subcommand(noun: Noun, example: str, **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command below `noun`."""

    def decorate(f: Callable[..., Any]) -> click.Command:
        return noun.command(cls=Leaf, **_settings(example, kwargs))(common(click.pass_obj(f)))

    return decorate


def noun(**kwargs: Any) -> Callable[[Callable[..., Any]], Noun]:
    """A group of commands about one kind of thing."""

    def decorate(f: Callable[..., Any]) -> Noun:
        return click.group(cls=Noun, context_settings=CONTEXT_SETTINGS, **kwargs)(common(f))

    return decorate


def _settings(example: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    extra = kwargs.pop("context_settings", {})
    return {"epilog": f"Example: {example}", "context_settings": {**CONTEXT_SETTINGS, **extra}, **kwargs}
