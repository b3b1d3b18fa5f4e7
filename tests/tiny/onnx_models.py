"""Writes tiny ONNX models that the speech engines' own libraries load: their tensors, but none of their weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET: Final = 17
_IR: Final = 8  # what every runtime of the last years reads
# Moonshine's tokenizer is the library's own.
_VOCABULARY: Final = 32768
_END: Final = 2
_FRAME: Final = 384  # samples at 16 kHz that become one frame
_HEADS: Final = 8
_WIDTH: Final = 4
_HIDDEN: Final = _HEADS * _WIDTH
# What the scripted model hears, by the whole seconds of sound; after the last one it goes on saying the last.
HEARD: Final[Mapping[str, tuple[int, ...]]] = {
    "zero": (5225,),
    "one second": (697, 1473),
    "two seconds of sound": (1023, 6923, 310, 6047),
    "three": (2211,),
    "four seconds": (3023, 6923),
    "five or more": (5320, 470, 901),
}


class _Graph:
    """Nodes and constants, each with a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, kind: Any = np.int64) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def add(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def save(self, path: Path, inputs: list[Any], outputs: list[Any]) -> None:
        graph = helper.make_graph(self.nodes, path.stem, inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def write_moonshine(folder: Path, *, ends: bool = True, work: int = 0) -> Path:
    """A model that says how long a sound is and nothing to silence.

    With `ends` false it never stops by itself, so that each piece takes all of its 192 tokens, each the longer the
    greater `work` is (rows and columns of a matrix that is multiplied with itself).
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_encoder(folder / "encoder_model.onnx")
    _write_decoder(folder / "decoder_model_merged.onnx", ends=ends, work=work)
    return folder


def _write_encoder(path: Path) -> None:
    """How loud each frame is, in every place of its vector."""
    graph = _Graph()
    mean = graph.constant(np.full((1, 1, _FRAME), 1 / _FRAME), np.float32)
    wide = graph.constant(np.ones((1, _HIDDEN)), np.float32)
    loud = graph.add("Abs", graph.add("Unsqueeze", "input_values", graph.constant([1])))
    frames = graph.add("Conv", loud, mean, strides=[_FRAME], kernel_shape=[_FRAME])
    graph.add("MatMul", graph.add("Transpose", frames, perm=[0, 2, 1]), wide, out="last_hidden_state")
    graph.save(
        path,
        [_value("input_values", TensorProto.FLOAT, ["batch", "samples"])],
        [_value("last_hidden_state", TensorProto.FLOAT, ["batch", "frames", _HIDDEN])],
    )


def _write_decoder(path: Path, *, ends: bool, work: int) -> None:
    """One layer. Its cache is all zeros, and says by its length which token comes next."""
    graph = _Graph()
    one = graph.constant(np.zeros(_HIDDEN), np.float32)
    shape = graph.constant([1, _HEADS, -1, _WIDTH])
    names = [f"0.{side}.{what}" for side in ("decoder", "encoder") for what in ("key", "value")]
    for name in names:
        past = graph.add("Reshape", f"past_key_values.{name}", graph.constant([-1]))
        graph.add("Reshape", graph.add("Concat", past, one, axis=0), shape, out=f"present.{name}")
    said = graph.add("Div", graph.add("Size", "past_key_values.0.decoder.key"), graph.constant(_HIDDEN))
    column = graph.add("Cast", said, to=TensorProto.INT64)
    token = graph.add("Reshape", _token(graph, column, ends=ends), graph.constant([1]))
    chosen = graph.add("OneHot", token, graph.constant(_VOCABULARY), graph.constant([0.0, 10.0], np.float32))
    if work:
        square = graph.add("RandomNormal", shape=[work, work], dtype=TensorProto.FLOAT)
        nothing = graph.add("Mul", graph.add("ReduceMax", graph.add("MatMul", square, square), keepdims=0),
                            graph.constant(0.0, np.float32))  # fmt: skip
        chosen = graph.add("Add", chosen, nothing)
    graph.add("Reshape", chosen, graph.constant([1, 1, _VOCABULARY]), out="logits")
    cache = [None, _HEADS, None, _WIDTH]
    graph.save(
        path,
        [
            _value("input_ids", TensorProto.INT64, ["batch", "length"]),
            _value("encoder_hidden_states", TensorProto.FLOAT, ["batch", "frames", _HIDDEN]),
            *(_value(f"past_key_values.{name}", TensorProto.FLOAT, cache) for name in names),
            _value("use_cache_branch", TensorProto.BOOL, [1]),
        ],
        [
            _value("logits", TensorProto.FLOAT, [1, 1, _VOCABULARY]),
            *(_value(f"present.{name}", TensorProto.FLOAT, cache) for name in names),
        ],
    )


def _token(graph: _Graph, column: str, *, ends: bool) -> str:
    """From the table of what is heard: its row by the seconds of sound, row 0 for silence."""
    rows = [(), *HEARD.values()]
    width = max(map(len, rows)) + 1
    table = np.array([[*row, *[_END] * (width - len(row))] for row in rows])
    frames = graph.add("Gather", graph.add("Shape", "encoder_hidden_states"), graph.constant(1))
    samples = graph.add("Mul", frames, graph.constant(_FRAME))
    # A tenth of a second more: lossy formats add and lose some hundred samples.
    seconds = graph.add("Div", graph.add("Add", samples, graph.constant(1600)), graph.constant(16_000))
    row = graph.add("Add", graph.add("Min", seconds, graph.constant(len(HEARD) - 1)), graph.constant(1))
    loudest = graph.add("ReduceMax", "encoder_hidden_states", keepdims=0)
    row = graph.add("Where", graph.add("Greater", loudest, graph.constant(1e-3, np.float32)), row, graph.constant(0))
    place = graph.add("Min", column, graph.constant(width - 1))
    token = graph.add("Gather", graph.add("Gather", graph.constant(table), row), place)
    return token if ends else graph.add("Max", token, graph.constant(_END + 1))


def _value(name: str, kind: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)
