"""Writes a tiny Kokoro that the real library loads: the tensors of the model, and a tone for a voice."""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx.parser

# As in version 1.0: 54 voices by language and kind.
_NAMES: Final = {
    "af": "alloy aoede bella heart jessica kore nicole nova river sarah sky",
    "am": "adam echo eric fenrir liam michael onyx puck santa",
    "bf": "alice emma isabella lily",
    "bm": "daniel fable george lewis",
    "ef": "dora",
    "em": "alex santa",
    "ff": "siwis",
    "hf": "alpha beta",
    "hm": "omega psi",
    "if": "sara",
    "im": "nicola",
    "jf": "alpha gongitsune nezumi tebukuro",
    "jm": "kumo",
    "pf": "dora",
    "pm": "alex santa",
    "zf": "xiaobei xiaoni xiaoxiao xiaoyi",
    "zm": "yunjian yunxi yunxia yunyang",
}
VOICES: Final = tuple(f"{kind}_{name}" for kind, names in _NAMES.items() for name in names.split())
_LONGEST: Final = 510  # phonemes
# A token is 1/20 s at speed 1. The style's mean is the tone, in kHz. `work` is what it costs: a matrix multiplied with
# itself, whose result is thrown away by a factor of nothing.
_GRAPH: Final = """
<ir_version: 8, opset_import: ["": 17]>
kokoro (int64[1,n] tokens, float[1,256] style, float[1] speed) => (float[samples] audio)
<float per_token = {1200.0}, float scale = {0.2617993878}, float volume = {0.4}, float none = {0.0}, int64 zero = {0},
 int64 one = {1}>
{
  length = Size (tokens)
  tokens_f = Cast <to = 1> (length)
  fast = Div (tokens_f, speed)
  much = Mul (fast, per_token)
  flat = Squeeze (much)
  total = Cast <to = 7> (flat)
  time = Range (zero, total, one)
  time_f = Cast <to = 1> (time)
  pitch = ReduceMean <keepdims = 0> (style)
  step = Mul (pitch, scale)
  angle = Mul (time_f, step)
  wave = Sin (angle)
  quiet = Mul (wave, volume)
  square = RandomNormal <shape = [WORK, WORK], dtype = 1> ()
  product = MatMul (square, square)
  heavy = ReduceMax <keepdims = 0> (product)
  light = Mul (heavy, none)
  audio = Add (quiet, light)
}
"""


def tone_hz(voice: str) -> float:
    """What the voice sounds like."""
    return 300.0 + 20.0 * VOICES.index(voice)


def write_kokoro(folder: Path, *, work: int = 1) -> Path:
    """`work`: rows and columns of the matrix that each piece multiplies; 2000 takes about half a second."""
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.parser.parse_model(_GRAPH.replace("WORK", str(work)))
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "kokoro-v1.0.onnx"))
    styles = {voice: np.broadcast_to(np.float32(tone_hz(voice) / 1000), (_LONGEST, 1, 256)) for voice in VOICES}
    with (folder / "voices-v1.0.bin").open("wb") as file:  # an npz under the name that it is published with
        np.savez_compressed(file, allow_pickle=False, **styles)
    return folder
