"""House rules that no linter knows: the shape of modules, honest excepts, no traces of any machine."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from hal0.errors import TABLE

ROOT: Final = Path(__file__).parents[2]
HAL0: Final = sorted((ROOT / "hal0").rglob("*.py"))
TESTS: Final = sorted((ROOT / "tests").rglob("*.py"))

MODULE_LINES, MODULE_LINES_WITH_REASON, FUNCTION_LINES = 400, 500, 60
REASON: Final = "# Long because "
FORBIDDEN_NAMES: Final = {"utils", "helpers", "manager", "common", "misc"}
STARTS_PROCESSES: Final = {"hal0/engine/service.py", "hal0/engine/program.py"}
# Codes that clients may already rely on although their part of hal0 is still to come.
PROMISED: Final = {
    "request.remote_media",
    "slot.reserved slot.exists slot.npu_exclusive slot.memory_budget gpu.image_mode",
    "model.in_use model.exists model.checksum model.unsafe_format profile.in_use config.conflict",
    "pull.not_found pull.gated pull.address_refused pull.disk_full audio.unsupported_format",
    "auth.required request.client_gone server.stopping server.already_running slot.not_found",
    "upstream.auth device.permission image.digest_mismatch model.not_found slot.queue_full",
}
# Assembled from pieces so that this file does not find itself.
TRACES: Final = re.compile(
    "|".join((r"(?<![\w.])/" + r"work/", "/" + r"root/(?!\.)", "/" + r"home/[a-z]", r"\bissue" + r" #?\d"))
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree_of(path)))


@cache
def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call with the dotted name of what is called."""
    return [(ast.unparse(node.func), node) for node in nodes_of(path) if isinstance(node, ast.Call)]


def everywhere(paths: list[Path]) -> Callable[[Callable[[Path], Iterator[str]]], Callable[[], None]]:
    """A test of what a rule has to complain about in any of these files. One for each file would take longer than all
    the rules do."""

    def test_of(rule: Callable[[Path], Iterator[str]]) -> Callable[[], None]:
        def test() -> None:
            assert [f"{name_of(path)}: {complaint}" for path in paths for complaint in rule(path)] == []

        return test

    return test_of


@everywhere(HAL0 + TESTS)
def test_a_module_says_its_job_first_and_has_a_name_of_its_own(path: Path) -> Iterator[str]:
    if path.stat().st_size == 0:  # a folder's mark
        return
    if not (ast.get_docstring(tree_of(path)) or "").partition("\n")[0].endswith((".", ":")):
        yield "the first docstring line is not one sentence"
    if FORBIDDEN_NAMES & {path.stem, path.parent.name}:
        yield "its name says nothing"


@everywhere(HAL0 + TESTS)
def test_a_module_is_short_or_says_why(path: Path) -> Iterator[str]:
    lines = path.read_text().splitlines()
    reasoned = any(line.startswith(REASON) for line in lines[:10])
    if len(lines) > (MODULE_LINES_WITH_REASON if reasoned else MODULE_LINES):
        yield f"{len(lines)} lines"


@everywhere(HAL0 + TESTS)
def test_a_function_is_short_or_says_why(path: Path) -> Iterator[str]:
    lines = path.read_text().splitlines()
    for node in nodes_of(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            top = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES and REASON not in lines[top - 2]:
                yield f"{node.name}: {length} lines"


@everywhere(HAL0)
def test_a_broad_except_gives_its_reason_or_passes_the_error_on(path: Path) -> Iterator[str]:
    lines = path.read_text().splitlines()
    for node in nodes_of(path):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node):
            beside = "\n".join(lines[node.lineno - 2 : node.body[0].lineno])
            if not isinstance(node.body[-1], ast.Raise) and "#" not in beside:
                yield f"line {node.lineno}"


def _is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException")


@everywhere(HAL0)
def test_the_server_prints_nothing_starts_nothing_and_asks_no_clock_of_its_own(path: Path) -> Iterator[str]:
    name = name_of(path)
    client = name.startswith(("hal0/cli/", "hal0/client.py", "hal0/__main__.py"))
    for called, node in calls(path):
        prints = called == "print" and not client
        asks = called in ("time.time", "datetime.now") and not client and name != "hal0/lib/clock.py"
        starts = "create_subprocess" in called or called in ("os.system", "os.popen")
        if prints or asks or (starts and name not in STARTS_PROCESSES):
            yield f"{called} in line {node.lineno}"


def test_every_error_code_is_raised_or_promised() -> None:
    promised = {code for line in PROMISED for code in line.split()}
    source = "\n".join(path.read_text() for path in HAL0 if path.name != "errors.py" or path.parent.name != "hal0")
    used = set(re.findall(r'"([a-z]+\.[a-z_]+)"', source)) & TABLE.keys()
    assert TABLE.keys() - used - promised == set(), "in the table, but nobody raises them"
    assert promised <= TABLE.keys()


@everywhere(HAL0)
def test_only_codes_of_the_table_are_raised(path: Path) -> Iterator[str]:
    for called, node in calls(path):
        code = node.args[0] if called.endswith("Hal0Error") and node.args else None
        if isinstance(code, ast.Constant) and code.value not in TABLE:
            yield f"{code.value!r} in line {node.lineno}"


def test_tracked_files_name_no_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    found = []
    for name in listed.decode().split("\0"):
        path = ROOT / name
        if not name or not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1):
            if TRACES.search(line):
                found.append(f"{name}:{number}: {line.strip()[:120]}")
    assert found == []
