"""Moonshine's own library: loaded from a folder, asked for one piece of sound at a time, stopped between two tokens."""

import os
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from moonshine_onnx import MoonshineOnnxModel, load_tokenizer
from tokenizers import Tokenizer

from serving.app import UnusableError
from transcribing.cutting import RATE, Piece, Samples
from transcribing.pieces import Pieces
from transcribing.speech import GoneError
from transcribing.transcript import Segment

_GRAPHS: Final = ("encoder_model", "decoder_model_merged")
_FORMATS: Final = ("onnx", "ort")
_SHORTEST: Final = RATE // 5  # the library refuses a tenth of a second; what is shorter is filled up with silence
_SILENT: Final = 1e-4  # -80 dB: below the noise of any microphone, where a model hears what nobody said
_BEGIN_END: Final = frozenset({1, 2})


class Moonshine:
    """A `Speech` on ONNX Runtime; `load` and `heard` block, and belong to one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model: Any = None
        self._decoder: _Interruptible | None = None
        self._tokenizer: Tokenizer | Pieces | None = None

    def load(self) -> None:
        """Raises UnusableError."""
        form = self._form()
        try:
            # The name would choose the decoder's shape from a table; the graph itself says it, whatever its size.
            self._model = MoonshineOnnxModel(str(self._folder), "tiny", model_format=form)
        except Exception as fault:
            if _NO_MEMORY.isdisjoint(str(fault).lower().split()):
                raise UnusableError(f"cannot load the model: {_line(fault)}") from fault
            raise
        layers, heads, width = _shape(self._model.decoder)
        self._model.num_layers, self._model.num_key_value_heads, self._model.head_dim = layers, heads, width
        self._model.decoder = self._decoder = _Interruptible(self._model.decoder)
        self._tokenizer = self._own_tokenizer() or load_tokenizer()

    def heard(self, piece: Piece, gone: threading.Event) -> Segment:
        """Raises GoneError."""
        assert self._decoder is not None
        assert self._tokenizer is not None
        start_s, end_s = piece.start_s, piece.end_s
        if np.abs(piece.samples).max(initial=0) < _SILENT:
            return Segment(start_s, end_s, "")
        self._decoder.begin(gone)
        tokens = self._model.generate(_filled(piece.samples)[None, :])[0]
        text = self._tokenizer.decode(tokens).strip()
        spoken = tuple(token for token in tokens if token not in _BEGIN_END)
        return Segment(start_s, end_s, text, spoken, self._decoder.confidence)

    def _own_tokenizer(self) -> Tokenizer | Pieces | None:
        """The model's, where it brings one: other languages have other pieces."""
        file, pieces = self._folder / "tokenizer.json", self._folder / "tokenizer.bin"
        if file.is_file():
            return Tokenizer.from_file(str(file))
        return Pieces(pieces) if pieces.is_file() else None

    def _form(self) -> str:
        for form in _FORMATS:
            files = [self._folder / f"{graph}.{form}" for graph in _GRAPHS]
            if all(file.is_file() for file in files):
                unreadable = [file.name for file in files if not os.access(file, os.R_OK)]
                if unreadable:
                    raise UnusableError(f"cannot read {', '.join(unreadable)}: it is not readable for everybody")
                return form
        raise UnusableError(f"cannot load the model: its folder has no {' and '.join(_GRAPHS)}, as .onnx or .ort")


_NO_MEMORY: Final = frozenset({"memory", "memory.", "bad_alloc", "allocate"})


class _Interruptible:
    """The decoder's session: it stops when nobody listens any more, and keeps how sure it was."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._gone = threading.Event()
        self._sum = 0.0
        self._count = 0

    def begin(self, gone: threading.Event) -> None:
        self._gone, self._sum, self._count = gone, 0.0, 0

    @property
    def confidence(self) -> float:
        return self._sum / self._count if self._count else 0.0

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def run(self, names: Any, inputs: Any) -> Any:
        if self._gone.is_set():
            raise GoneError
        outputs = self._session.run(names, inputs)
        logits = outputs[0][0, -1]
        self._sum -= float(np.log(np.exp(logits - logits.max()).sum()))
        self._count += 1
        return outputs


def _shape(decoder: onnxruntime.InferenceSession) -> tuple[int, int, int]:
    """Layers, heads and width of the decoder's cache. Raises UnusableError."""
    shapes = {one.name: one.shape for one in decoder.get_inputs()}
    layers = sum(name.startswith("past_key_values.") and name.endswith(".decoder.key") for name in shapes)
    first = shapes.get("past_key_values.0.decoder.key", ())
    if len(first) != 4 or not isinstance(first[1], int) or not isinstance(first[3], int):
        raise UnusableError("cannot load the model: its decoder is not one of Moonshine's")
    return layers, first[1], first[3]


def _filled(samples: Samples) -> Samples:
    return np.pad(samples, (0, max(0, _SHORTEST - len(samples))))


def _line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:300]
