"""Every command of hal0ctl: help, an example, the global flags, machine output, and documented exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hal0.cli.exits import MEANINGS, Exit
from hal0.cli.main import main, root
from hal0.cli.names import ALIASES, COMMANDS, MODULES
from hal0.cli.options import GlobalOption
from hal0.vocab import FailureClass, SlotState
from hal0.wire.slots import FailureView
from tests.fakes.api_server import ApiServer, serving
from tests.fakes.api_views import image_view, slot_view

# Commands that would leave this process or this machine's state different; run for real by other tests.
ACTING = {("serve",), ("up",), ("down",)}
ARGUMENTS = {"name": "primary", "names": "primary", "model": "m", "key": "cpu", "job_id": "job_0001", "shell": "bash"}


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            found = command.get_command(context, word)
            assert found is not None
            yield from walk(found, (*path, word))


TREE = list(walk(root))
LEAVES = [(path, command) for path, command in TREE if not isinstance(command, click.Group)]


def _id(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else ""


@pytest.mark.parametrize(("path", "command"), TREE, ids=_id)
def test_help_and_global_flags(
    path: tuple[str, ...], command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path, "--help"]) == Exit.DONE
    assert main([*path, "-h"]) == Exit.DONE
    captured = capsys.readouterr()
    assert captured.out.startswith(f"Usage: {' '.join(('hal0ctl', *path))}")
    assert not captured.err
    assert command.help
    assert command.help.splitlines()[0].endswith(".")
    names = {name for p in command.params if isinstance(p, GlobalOption) for name in p.opts}
    assert {"--url", "--context", "--api-key-file", "-o", "--columns", "-q", "-v", "--timeout", "-y"} <= names


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=_id)
def test_the_example_names_the_command_and_parses(path: tuple[str, ...], command: click.Command) -> None:
    example = (command.epilog or "").removeprefix("Example: ").split(" && ")[0]
    assert example.startswith("hal0ctl ")
    words = example.replace('"Why is the sky blue?"', "prompt").split()[1:]
    context = click.Context(root, info_name="hal0ctl")
    with context:
        root.parse_args(context, list(words))
    assert " ".join(path) in example
    own = [w for w in words[words.index(path[-1]) + 1 :] if w.startswith("-")]
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    assert {w for w in own if w != "--port" or path != ("serve",)} <= known


@pytest.fixture
def api(home: Path) -> Iterator[ApiServer]:
    (home / "run").mkdir(parents=True)
    server = ApiServer(slots={"primary": slot_view("primary", SlotState.READY)}, images={"cpu": image_view()})
    failure = FailureView(
        failure_class=FailureClass.TRANSIENT, code="slot.exited", message="m", exit_code=139, signal="SIGSEGV",
        oom=False, log_tail=["last"], line="last", at=1.0, attempt=1, next_attempt_at=None,
    )  # fmt: skip
    server.replies["GET", "/api/slots/primary/failure"] = (200, failure.model_dump(mode="json"))
    with serving(server, home / "run" / "hal0.sock"):
        yield server


@pytest.mark.parametrize(("path", "command"), [leaf for leaf in LEAVES if leaf[0] not in ACTING], ids=_id)
def test_stdout_is_json_or_empty(
    path: tuple[str, ...],
    command: click.Command,
    api: ApiServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        main(["slot", "load", "primary", "-q"])
        capsys.readouterr()
        arguments = [ARGUMENTS.get(str(p.name), "") for p in command.params if isinstance(p, click.Argument)]
        code = main([*path, *[a for a in arguments if a], "-o", "json"])
    captured = capsys.readouterr()
    assert code in set(MEANINGS)
    assert "\x1b" not in captured.out + captured.err
    if captured.out:
        json.loads(captured.out)
    if code not in (Exit.DONE, Exit.CHECK_FAILED):
        assert json.loads(captured.err.splitlines()[-1])["error"]["code"]


def test_every_exit_code_has_a_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(MEANINGS) == set(Exit)
    assert main(["help", "exit-codes"]) == 0
    printed = {int(line.split()[0]) for line in capsys.readouterr().out.splitlines()}
    assert printed == {int(code) for code in Exit}


@pytest.mark.parametrize("topic", ["exit-codes", "formats", "environment", "states", "errors", *MODULES])
def test_help_topics(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", topic]) == 0
    assert len(capsys.readouterr().out) > 100


def test_names_are_the_tree() -> None:
    assert set(root.list_commands(click.Context(root))) == set(MODULES)
    assert set(ALIASES.values()) <= set(MODULES)
    assert "serve" not in COMMANDS  # `hal0 serve` is the daemon itself, and `hal0ctl serve` becomes it
