"""Layers, precedence and faults of the configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hal0.config.load import COMMAND_LINE, ENVIRONMENT, Loaded, load
from hal0.errors import Hal0Error
from hal0.paths import Paths, resolve
from hal0.vocab import BUILTIN_SLOTS


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = resolve({"HAL0_HOME": str(tmp_path)})
    found.slots_config_dir.mkdir(parents=True)
    return found


def write(paths: Paths, text: str = "", **slots: str) -> None:
    paths.config_file.write_text(text)
    for name, table in slots.items():
        (paths.slots_config_dir / f"{name}.toml").write_text(table)


def faults(
    paths: Paths, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    with pytest.raises(Hal0Error) as caught:
        load(paths, environ, overrides)
    assert caught.value.code == "config.invalid"
    found: list[dict[str, Any]] = caught.value.details["faults"]
    return found


def where(found: list[dict[str, Any]]) -> set[tuple[str, int | None, str]]:
    return {(Path(fault["file"]).name, fault["line"], fault["key"]) for fault in found}


def test_nothing_written_gives_the_defaults_and_five_slots(tmp_path: Path) -> None:
    loaded = load(resolve({"HAL0_HOME": str(tmp_path / "nowhere")}))
    assert tuple(loaded.root.slots) == BUILTIN_SLOTS
    assert loaded.root.server.port == 8080
    assert not loaded.origins


def test_each_layer_wins_over_the_one_below(paths: Paths) -> None:
    write(paths, "[server]\nport = 1\n[slots.primary]\npriority = 1\n", primary="priority = 2\n")

    def priority(loaded: Loaded) -> int:
        return loaded.root.slots["primary"].priority

    env = {"HAL0_SLOTS__PRIMARY__PRIORITY": "3", "HAL0_SERVER__PORT": "2"}
    assert priority(load(paths)) == 2
    assert priority(load(paths, env)) == 3
    last = load(paths, env, {"slots.primary.priority": 4})
    assert priority(last) == 4
    assert last.root.server.port == 2
    assert last.origins["slots", "primary", "priority"].source == COMMAND_LINE
    assert last.origins["server", "port"].source == ENVIRONMENT


def test_layers_add_up_key_by_key(paths: Paths) -> None:
    write(paths, "[slots.primary]\nidle_timeout_s = 5\n[slots.primary.env]\nA = '1'\n", primary="[env]\nB = '2'\n")
    slot = load(paths).root.slots["primary"]
    assert slot.idle_timeout_s == 5
    assert slot.env == {"A": "1", "B": "2"}


def test_an_empty_file_in_slots_d_takes_nothing_away(paths: Paths) -> None:
    write(paths, "[slots.chat-two]\npriority = 7\n", **{"chat-two": "", "new": ""})
    slots = load(paths).root.slots
    assert slots["chat-two"].priority == 7
    assert "new" in slots


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("HAL0_SERVER__HOST", "127.0.0.1", ("127.0.0.1",)),
        ("HAL0_SERVER__HOST", "127.0.0.1, ::1", ("127.0.0.1", "::1")),
        ("HAL0_SERVER__HOST", '["::1"]', ("::1",)),
        ("HAL0_SERVER__GRACE_S", "2.5", 2.5),
    ],
)
def test_the_environment_speaks_toml_or_plain_text(paths: Paths, variable: str, text: str, value: object) -> None:
    server = load(paths, {variable: text}).root.server
    assert getattr(server, variable.rpartition("__")[2].lower()) == value


@pytest.mark.parametrize("name", ["HAL0_HOME", "HAL0_URL", "HAL0_API_KEY", "HAL0_SOAK", "HAL0_TEST__X", "PATH"])
def test_variables_that_are_no_configuration_are_ignored(paths: Paths, name: str) -> None:
    assert not load(paths, {name: "x"}).origins


def test_one_underscore_in_the_environment_is_a_fault_that_names_the_right_spelling(paths: Paths) -> None:
    [fault] = faults(paths, {"HAL0_SERVER_PORT": "80"})
    assert (fault["file"], fault["key"], fault["allowed"]) == (ENVIRONMENT, "HAL0_SERVER_PORT", "HAL0_SERVER__PORT")


def test_the_seeds_spellings_are_accepted(paths: Paths) -> None:
    write(
        paths,
        '[slots.embed-rerank.model]\ndefault = "bge"\n[slots.embed-rerank.defaults]\nextra_args = "--reranking -t 2"\n',
        primary='[model]\ndefault = "Qwen3-4B:Q4_K_M"\n',
    )
    slots = load(paths).root.slots
    assert slots["embed-rerank"].model == "bge"
    assert slots["embed-rerank"].extra_args == ("--reranking", "-t", "2")
    assert slots["primary"].model == "qwen3-4b-q4_k_m"


def test_a_field_in_both_spellings_is_a_fault(paths: Paths) -> None:
    write(paths, '[slots.x]\nextra_args = "-t 2"\n[slots.x.defaults]\nextra_args = "-t 3"\n')
    assert where(faults(paths)) == {("hal0.toml", 4, "slots.x.defaults")}


def test_all_faults_of_all_sources_come_at_once_with_their_lines(paths: Paths) -> None:
    write(
        paths,
        """\
[server]
prot = 1
host = ["0.0.0.0.0"]

[slots.primary]
device = "vulcan"

[slots.x]
priority = 200
profile = "nope"
extra_args = '''
--host 1.2.3.4'''

[[slots.x.fallbacks]]
contxt_size = 3

[upstreams.far]
base_url = "ftp://far"
""",
        embed='prority = 3\n[model]\ndefault = "a b"\n',
    )
    found = faults(paths, {"HAL0_SERVER__LOG_LEVEL": "loud"}, {"server.grace_s": -1})
    assert where(found) == {
        ("hal0.toml", 2, "server.prot"),
        ("hal0.toml", 3, "server.host"),
        ("hal0.toml", 6, "slots.primary.device"),
        ("hal0.toml", 9, "slots.x.priority"),
        ("hal0.toml", 10, "slots.x.profile"),
        ("hal0.toml", 11, "slots.x.extra_args"),
        ("hal0.toml", 14, "slots.x.fallbacks.0.contxt_size"),
        ("hal0.toml", 18, "upstreams.far.base_url"),
        ("embed.toml", 1, "slots.embed.prority"),
        ("embed.toml", 3, "slots.embed.model"),
        (ENVIRONMENT, None, "HAL0_SERVER__LOG_LEVEL"),
        (COMMAND_LINE, None, "server.grace_s"),
    }


@pytest.mark.parametrize(
    ("text", "line", "allowed"),
    [
        ("[server]\nport = '80'\n", 2, "a whole number"),
        ("[server]\nport = true\n", 2, "a whole number"),
        ("[server]\nport = 80000\n", 2, "at most 65535"),
        ("[server]\nlog_level = 'loud'\n", 2, "'debug', 'info', 'warning' or 'error'"),
        ("[dispatch]\nstrict_models = 1\n", 2, "true or false"),
        ("[slots.x]\ncontext_size = 64\n", 2, "at least 128"),
        ("[slots.x]\nport = 9000\n", 2, "0 (any), or 8081 to 8099"),
        ("[slots.x]\nmemory_limit = '8 lots'\n", 2, 'bytes as a number, or a string such as "8GiB" or "500MB"'),
        ("[slots.X]\n", 1, "a letter, then letters, digits, _ or -; at most 32, lower case"),
        ("[profiles.cpu]\ndevice = 'cpu'\n", 2, "another name"),
        ("[access]\ncors_origins = ['example.org']\n", 2, 'such as "https://chat.example.org", or "*"'),
    ],
)
def test_a_fault_says_what_is_allowed(paths: Paths, text: str, line: int, allowed: str) -> None:
    write(paths, text)
    [fault] = faults(paths)
    assert (fault["line"], fault["allowed"]) == (line, allowed)


def test_an_unknown_key_is_answered_with_the_likely_one_and_all_that_there_are(paths: Paths) -> None:
    write(paths, "[engine]\nsoket = '/x'\n")
    [fault] = faults(paths)
    assert "did you mean socket?" in fault["message"]
    assert fault["allowed"] == "socket, memory_limit, idle_restore_min, start_service"


@pytest.mark.parametrize(("text", "line"), [("[server\nport = 1\n", 1), ("a = 1\nb = [1,\n", 3), ("x = 1\nx = 2\n", 2)])
def test_broken_toml_names_the_line_and_hides_no_other_fault(paths: Paths, text: str, line: int) -> None:
    write(paths, text, primary="prority = 3\n")
    assert {(name, number) for name, number, _ in where(faults(paths))} == {("hal0.toml", line), ("primary.toml", 1)}


def test_bytes_that_are_no_text_are_a_fault(paths: Paths) -> None:
    paths.config_file.write_bytes(b"\xff\xfe")
    [fault] = faults(paths)
    assert fault["message"] == "is not UTF-8 text"


@pytest.mark.parametrize(
    ("text", "key", "word"),
    [
        ("[slots.a]\nport = 8090\n[slots.b]\nport = 8090\n", "slots.b.port", "also the slot a's"),
        ("[slots.a]\nport = 8081\n", "slots.a.port", "belongs to the slot primary"),
        ("[slots.a]\naliases = ['primary']\n", "slots.a.aliases", "the slot primary"),
        ("[slots.a]\naliases = ['x']\n[slots.b]\naliases = ['x']\n", "slots.b.aliases", "the slot a"),
        ("[slots.a]\nprovider = 'upstream'\nupstream = 'far'\n", "slots.a.upstream", "no upstream 'far'"),
    ],
)
def test_tables_that_clash_are_a_fault_of_the_later_one(paths: Paths, text: str, key: str, word: str) -> None:
    write(paths, text)
    [fault] = faults(paths)
    assert fault["key"] == key
    assert word in fault["message"]


def test_an_upstream_slot_needs_its_upstream(paths: Paths) -> None:
    write(paths, "[slots.a]\nprovider = 'upstream'\n")
    [fault] = faults(paths)
    assert (fault["key"], fault["line"]) == ("slots.a", 2)


def test_origins_name_file_and_line(paths: Paths) -> None:
    write(paths, "# head\n[server]\nport = 9\n", primary="\nmodel = 'm'\n")
    origins = load(paths).origins
    assert (Path(origins["server", "port"].source).name, origins["server", "port"].line) == ("hal0.toml", 3)
    model = origins["slots", "primary", "model"]
    assert (Path(model.source).name, model.line) == ("primary.toml", 2)


def test_a_password_in_an_address_is_refused_and_not_repeated(paths: Paths) -> None:
    write(paths, "[upstreams.far]\nbase_url = 'https://me:hunter2@far/v1'\n")
    with pytest.raises(Hal0Error) as caught:
        load(paths)
    assert "hunter2" not in caught.value.message + str(caught.value.details)
