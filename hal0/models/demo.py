"""Write the demonstration model: a real llama GGUF, made of nothing, whose first words say that it is a demo.

It exists so that a machine without any model, and without internet, can show the whole way from a request to
streamed tokens. It knows nothing: its answers are a fixed sentence that says so, then random words.

How weights made of a random generator are brought to say a sentence: every token belongs to one class, and its
embedding carries a strong constant in that class's own lane. No block ever writes to these lanes, so they reach the
output matrix as they are, and a row of that matrix says after which class its token comes:

    prompt (bytes, control) -> marker word 0 -> marker word 1 -> ... -> noise <-> noise -> end of turn

Within the noise the choice of words is left to the rest of the vector, which attention and feed-forward do shape.
The tokenizer merges nothing: a prompt is read byte by byte, so no prompt can contain a marker or noise token, and
every answer starts at the beginning of the marker. Standard library only, the same bytes every time.
"""

import math
import random
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from hal0.lib.atomic import write_atomic

DEMO_MODEL_ID: Final = "hal0-demo-f16"
DEMO_KEY: Final = "hal0.demo"  # metadata key, bool: the file says of itself that it is a demo
DIGEST: Final = "bce72423053064ea0d9ad5ae17afd889e0a89ff0b08bdc55b62fcf5e207559e7"  # sha256 of the file

MARKER: Final = ("This", " is", " hal0's", " demo", " model;", " what", " follows", " are", " random", " words:")
_NOUNS: Final = (
    "apple barn bell bird boat book bridge cloud coat coin corner cup door drum engine feather field fire fish "
    "garden gate glass hat hill horse house island kettle key lamp leaf letter light map meadow mirror moon morning "
    "mountain night ocean paper path pencil pond rain river road roof rope sea shadow ship shore snow song spoon "
    "star stone story street summer table tower train tree valley violin wall water wheel wind window winter wood"
)
_OTHERS: Final = (
    "a above again almost and another around asks before behind below between blue bright calls carries cold counts "
    "early every finds green he hears her his in into its keeps late leaves listens long looks my near never often "
    "on once our over quiet red returns round runs she sings sleeps slow small softly some stands that the their "
    "they this three through two under waits walks warm where while white with you"
)

# Special tokens come first: their ids are their places. Turns are <role> text <end>; an answer follows <assistant>.
_CONTROL: Final = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
_END: Final = 0
_CHAT_TEMPLATE: Final = (
    "{%- for m in messages -%}"
    "{%- if m.role == 'assistant' -%}<|assistant|>{%- elif m.role == 'system' -%}<|system|>{%- else -%}<|user|>"
    "{%- endif -%}"
    "{%- if m.content is string -%}{{ m.content }}"
    "{%- elif m.content -%}{%- for p in m.content -%}{%- if p.type == 'text' -%}{{ p.text }}{%- endif -%}{%- endfor -%}"
    "{%- endif -%}<|end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)

_DIM: Final = 64
_HEAD: Final = 16  # four query heads, two key-value heads
_KV_DIM: Final = 32
_FF: Final = 128
_BLOCKS: Final = 2
_CONTEXT: Final = 32768  # hal0's own default cap; the cache for all of it weighs 8 MiB
_LANES: Final = len(MARKER) + 2  # prompt class, one per marker word, noise class
_NOISE_LANE: Final = _LANES - 1

# The class constant dominates the vector (free lanes are about 1 each), and the gain puts the wanted class some 45
# logits above everything else: also at temperature 2 no other token gets a chance worth counting.
_CLASS: Final = 8.0
_GAIN: Final = 8.0
# Spread of the noise logits, and the end token's head start over them: an answer has some twenty noise words.
_NOISE_SPREAD: Final = 0.15
_END_BIAS: Final = 0.33

_SEED: Final = 20250101
_ALIGNMENT: Final = 32
_U32, _F32, _BOOL, _STRING, _ARRAY, _I32 = 4, 6, 7, 8, 9, 5  # GGUF value types
_TYPE_F32, _TYPE_F16 = 0, 1  # ggml tensor types
_TOKEN_NORMAL, _TOKEN_CONTROL = 1, 3

Vector = list[float]


def write(path: Path) -> None:
    """Write the model to `path` (its directory exists), all or nothing; under a second. Raises OSError."""
    write_atomic(path, build(), mode=0o644)


def build() -> bytes:
    """The whole file."""
    tokens = _vocabulary()
    return _assemble(_metadata(tokens), _tensors(tokens))


def _vocabulary() -> list[str]:
    nouns = _NOUNS.split()
    words = [f" {w}" for w in (*nouns, *_OTHERS.split())]
    words += [f" {w}," for w in nouns[::4]] + [f" {w}." for w in nouns[2::4]]
    return [*_CONTROL, *_byte_alphabet().values(), *map(_spell, MARKER), *map(_spell, words)]


def _byte_alphabet() -> dict[int, str]:
    """Byte -> the printable character that stands for it in byte-level BPE, in order of bytes."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return {b: chr(b if b in plain else next(spare)) for b in range(256)}


def _spell(text: str) -> str:
    alphabet = _byte_alphabet()
    return "".join(alphabet[b] for b in text.encode())


# ---- weights ----


def _tensors(tokens: list[str]) -> dict[str, list[Vector]]:
    """Tensor name -> rows; a single row is a vector (kept in F32)."""
    rng = random.Random(_SEED)  # noqa: S311  weights, not secrets

    def rows(count: int, width: int, scale: float = 1.0) -> list[Vector]:
        # uniform with variance scale^2 / width; random() is the one method whose stream Python promises to keep
        spread = scale * math.sqrt(3.0 / width)
        return [[(2.0 * rng.random() - 1.0) * spread for _ in range(width)] for _ in range(count)]

    tensors = {
        "token_embd.weight": _embeddings(tokens, rows),
        "output.weight": _outputs(tokens, rows),
        "output_norm.weight": [[1.0] * _DIM],
    }
    for i in range(_BLOCKS):
        block = {
            "attn_norm": [[1.0] * _DIM],
            "attn_q": rows(_DIM, _DIM),
            "attn_k": rows(_KV_DIM, _DIM),
            "attn_v": rows(_KV_DIM, _DIM),
            "attn_output": _off_lanes(rows(_DIM, _DIM)),
            "ffn_norm": [[1.0] * _DIM],
            "ffn_gate": rows(_FF, _DIM),
            "ffn_up": rows(_FF, _DIM),
            "ffn_down": _off_lanes(rows(_DIM, _FF)),
        }
        tensors |= {f"blk.{i}.{name}.weight": value for name, value in block.items()}
    return tensors


def _class_lane(token: int) -> int:
    """The lane that tells what `token` is: prompt (0), one of the marker words, or noise."""
    place = token - len(_CONTROL) - 256
    if place < 0:
        return 0
    return min(place + 1, _NOISE_LANE)


def _embeddings(tokens: list[str], rows: Callable[[int, int, float], list[Vector]]) -> list[Vector]:
    table = rows(len(tokens), _DIM, math.sqrt(_DIM))
    for token, row in enumerate(table):
        row[:_LANES] = [0.0] * _LANES
        row[_class_lane(token)] = _CLASS
    return table


def _outputs(tokens: list[str], rows: Callable[[int, int, float], list[Vector]]) -> list[Vector]:
    table = rows(len(tokens), _DIM, _NOISE_SPREAD * math.sqrt(_DIM))
    for token, row in enumerate(table):
        row[:_LANES] = [0.0] * _LANES
        lane = _class_lane(token)
        if lane == _NOISE_LANE:  # noise comes after the last marker word and after noise
            row[lane - 1] = row[lane] = _GAIN
            continue
        row[_LANES:] = [0.0] * (_DIM - _LANES)
        if lane > 0:  # a marker word comes after the one before it, the first after the prompt
            row[lane - 1] = _GAIN
        elif token == _END:
            row[_NOISE_LANE] = _GAIN + _END_BIAS
    return table


def _off_lanes(matrix: list[Vector]) -> list[Vector]:
    """What a block adds to the vector never touches the class lanes."""
    return [[0.0] * len(row) for row in matrix[:_LANES]] + matrix[_LANES:]


# ---- file format ----


def _metadata(tokens: list[str]) -> list[bytes]:
    types = [_TOKEN_CONTROL] * len(_CONTROL) + [_TOKEN_NORMAL] * (len(tokens) - len(_CONTROL))
    return [
        _kv("general.architecture", _STRING, _string("llama")),
        _kv("general.name", _STRING, _string("hal0 demo (answers are noise)")),
        _kv("general.file_type", _U32, struct.pack("<I", 1)),  # mostly F16
        _kv(DEMO_KEY, _BOOL, b"\x01"),
        _kv("llama.vocab_size", _U32, struct.pack("<I", len(tokens))),
        _kv("llama.context_length", _U32, struct.pack("<I", _CONTEXT)),
        _kv("llama.embedding_length", _U32, struct.pack("<I", _DIM)),
        _kv("llama.block_count", _U32, struct.pack("<I", _BLOCKS)),
        _kv("llama.feed_forward_length", _U32, struct.pack("<I", _FF)),
        _kv("llama.attention.head_count", _U32, struct.pack("<I", _DIM // _HEAD)),
        _kv("llama.attention.head_count_kv", _U32, struct.pack("<I", _KV_DIM // _HEAD)),
        _kv("llama.attention.layer_norm_rms_epsilon", _F32, struct.pack("<f", 1e-5)),
        _kv("llama.rope.dimension_count", _U32, struct.pack("<I", _HEAD)),
        _kv("tokenizer.ggml.model", _STRING, _string("gpt2")),
        _kv("tokenizer.ggml.pre", _STRING, _string("gpt-2")),
        _kv("tokenizer.ggml.tokens", _ARRAY, _array(_STRING, map(_string, tokens))),
        _kv("tokenizer.ggml.token_type", _ARRAY, _array(_I32, (struct.pack("<i", t) for t in types))),
        # The loader wants the list to be there; the merged token is not in the vocabulary, so it never applies.
        _kv("tokenizer.ggml.merges", _ARRAY, _array(_STRING, [_string("\u0100 \u0100")])),
        _kv("tokenizer.ggml.bos_token_id", _U32, struct.pack("<I", _END)),
        _kv("tokenizer.ggml.eos_token_id", _U32, struct.pack("<I", _END)),
        _kv("tokenizer.ggml.eot_token_id", _U32, struct.pack("<I", _END)),
        _kv("tokenizer.ggml.add_bos_token", _BOOL, b"\x00"),
        _kv("tokenizer.chat_template", _STRING, _string(_CHAT_TEMPLATE)),
    ]


def _assemble(metadata: list[bytes], tensors: dict[str, list[Vector]]) -> bytes:
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)) + b"".join(metadata)
    data = bytearray()
    for name, rows in tensors.items():
        vector = len(rows) == 1
        shape = (len(rows[0]),) if vector else (len(rows[0]), len(rows))  # GGUF counts the innermost first
        kind, letter = (_TYPE_F32, "f") if vector else (_TYPE_F16, "e")
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
        data += b"".join(struct.pack(f"<{len(row)}{letter}", *row) for row in rows)
        data += _padding(len(data))
    return head + _padding(len(head)) + bytes(data)


def _padding(length: int) -> bytes:
    return bytes(-length % _ALIGNMENT)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _kv(key: str, kind: int, value: bytes) -> bytes:
    return _string(key) + struct.pack("<I", kind) + value


def _array(kind: int, items: Iterable[bytes]) -> bytes:
    parts = list(items)
    return struct.pack("<IQ", kind, len(parts)) + b"".join(parts)
