"""Line numbers of TOML keys, against what the standard parser makes of the same text."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tomlkit import dumps

from hal0.config.lines import key_lines

TRICKY = '''\
# [not.a.table] and key = "value"
top = 1
"quoted.key" = 'x' # = [
a.b . c = 2

text = """
[no.table]
no = "key"
\\""" still = inside
"""
raw = \'\'\'
[no]
\'\'\'
list = [
  "a = b", # comment ]
  [1, 2],
  { x = 1,
    y = "]" },
]
inline = { deep = { key = 1 } }
[ table . "with space" ]
last = true
[[array]]
n = 1
[[array]]
n = 2
end = "no newline"'''


def test_keys_are_found_and_only_keys() -> None:
    tomllib.loads(TRICKY.replace("  { x = 1,\n    y", "  { x = 1,    y"))
    assert key_lines(TRICKY) == {
        ("top",): 2,
        ("quoted.key",): 3,
        ("a",): 4,
        ("a", "b"): 4,
        ("a", "b", "c"): 4,
        ("text",): 6,
        ("raw",): 11,
        ("list",): 14,
        ("inline",): 20,
        ("table", "with space"): 21,
        ("table", "with space", "last"): 22,
        ("array",): 23,
        ("array", "n"): 24,
        ("array", "end"): 27,
    }


keys = st.text("abcXYZ019_-. \"'#[]=", min_size=1, max_size=8)
values = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text("ab\n\"'#[]{}=\\ ", max_size=12),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
tables = st.dictionaries(keys, values | st.dictionaries(keys, values, max_size=3), max_size=5)


@given(tables)
def test_every_key_of_any_document_is_on_its_own_line(table: dict[str, Any]) -> None:
    text = dumps(table)
    assert tomllib.loads(text) == table
    lines = key_lines(text)
    for key, value in table.items():
        inner = value if isinstance(value, dict) else {}
        for path in [(key,), *((key, name) for name in inner)]:
            line = text.split("\n")[lines[path] - 1]
            assert (path[-1] in line) or ("\\" in line)  # a key that had to be escaped


@pytest.mark.parametrize("text", ["", "\n\n", "# only = comments\n"])
def test_no_keys_no_lines(text: str) -> None:
    assert key_lines(text) == {}
