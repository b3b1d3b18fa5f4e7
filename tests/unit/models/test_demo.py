"""The demonstration model: the same bytes everywhere, a GGUF that others can read, and it says what it is."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from hal0.models import demo, gguf
from hal0.vocab import MODEL_ID


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / f"{demo.DEMO_MODEL_ID}.gguf"
    demo.write(path)
    return path


def test_bytes_are_pinned(path: Path) -> None:
    data = path.read_bytes()

    assert hashlib.sha256(data).hexdigest() == demo.DIGEST
    assert len(data) <= 1_000_000


def test_id_is_a_model_id() -> None:
    assert MODEL_ID.match(demo.DEMO_MODEL_ID)


def test_file_is_readable_by_the_container_user_and_nothing_is_left_beside_it(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_reader_sees_a_whole_chat_model_that_calls_itself_a_demo(path: Path) -> None:
    info = gguf.read(path)

    assert info.demo
    assert info.architecture == "llama"
    assert info.has_chat_template
    assert not info.truncated
    assert info.quantisation == "F16"


def walk(path: Path, start: str, steps: int) -> str:
    """Text that the class lanes alone lead to, greedily, from one token on: the blocks are left out."""
    reader = GGUFReader(path)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    tensors = {t.name: np.asarray(t.data, dtype=np.float32) for t in reader.tensors}
    token, text = tokens.index(start), ""
    for _ in range(steps):
        vector = tensors["token_embd.weight"][token]
        logits = tensors["output.weight"] @ (vector / np.sqrt(np.mean(vector**2)))
        token = int(np.argmax(logits))
        text += tokens[token].replace("\u0120", " ")
    return text


@pytest.mark.parametrize("last_of_prompt", ["<|assistant|>", "!", "\u010a", "z"])
def test_every_prompt_leads_to_the_marker(path: Path, last_of_prompt: str) -> None:
    assert walk(path, last_of_prompt, len(demo.MARKER)) == "".join(demo.MARKER)


def test_blocks_never_write_to_the_class_lanes(path: Path) -> None:
    lanes = len(demo.MARKER) + 2
    written = [t for t in GGUFReader(path).tensors if t.name.endswith(("attn_output.weight", "ffn_down.weight"))]

    assert len(written) == 4
    assert all(not np.asarray(t.data)[:lanes].any() for t in written)


def test_no_prompt_can_spell_a_marker_or_noise_token(path: Path) -> None:
    fields = GGUFReader(path).fields
    tokens = set(fields["tokenizer.ggml.tokens"].contents())
    merges = [m.replace(" ", "") for m in fields["tokenizer.ggml.merges"].contents()]

    assert tokens.isdisjoint(merges)
