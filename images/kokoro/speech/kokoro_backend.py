"""Kokoro-82M through kokoro-onnx: phonemes by espeak-ng, sound by ONNX Runtime."""

import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from serving.app import UnusableError
from serving.errors import Refusal
from speech import japanese, mandarin, voices
from speech.backend import Reference, Samples, Speaker, Spoken
from speech.sentences import LONGEST
from speech.voices import JAPANESE, MANDARIN

log = logging.getLogger("speech")

# The library's own bounds; OpenAI's are wider.
_SPEEDS: Final = (0.5, 2.0)
_FOREIGN: Final = "en-us"  # the language of a word that is written in Latin letters
_OWN_READING: Final = {JAPANESE: japanese.phonemes, MANDARIN: mandarin.phonemes}
_FRAME: Final = 600  # samples of one frame of the model
_STYLE: Final = (1, 256)


class KokoroBackend:
    """One model and its voices, from a directory that holds an `.onnx` file and an npz of styles."""

    speeds = _SPEEDS

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._styles: dict[str, Samples] = {}
        self._kokoro: Any = None

    def load(self) -> None:
        model, styles = _files(self._directory)
        self._styles = read_styles(styles)
        self._kokoro = _open(model, styles)
        log.info("runtime in use: %s", in_use(self._kokoro.sess.get_providers(), os.environ.get("ONNX_PROVIDER")))

    def voices(self) -> Mapping[str, str]:
        return {voice: voices.label(voice) for voice in sorted(self._styles)}

    def speaker(self, voice: str | None, reference: Reference | None, text: str) -> Speaker:
        if reference is not None:
            said = "this model clones no voices; F5-TTS does: swap the slot to it"
            raise Refusal(400, said, param="ref_audio", code="unsupported")
        blend = voices.parse(voice, self._styles)
        style = blended([(self._styles[name], share) for name, share in blend.shares])
        if blend.language == JAPANESE:
            japanese.refuse_unreadable(text)
        return _Speaker(self._kokoro, style, blend.language)


@dataclass(frozen=True, slots=True)
class _Speaker:
    kokoro: Any
    style: Samples
    language: str
    longest: int = LONGEST

    def say(self, piece: str, speed: float) -> Spoken | None:
        phonemes = self._phonemes(piece)
        tokens = self.kokoro.tokenizer.tokenize(phonemes, limit=None)
        if not tokens:
            return None
        samples, _ = self.kokoro.create(phonemes, self.style, speed, self.language, is_phonemes=True)
        return Spoken(samples.astype(np.float32), len(tokens), max(1, len(samples) // _FRAME))

    def _phonemes(self, piece: str) -> str:
        """By espeak-ng, but for Mandarin and Japanese, of which it knows the signs and not the words."""
        read = self.kokoro.tokenizer.phonemize
        if own := _OWN_READING.get(self.language):
            return own(piece, lambda word: str(read(word, _FOREIGN)))
        return str(read(piece, self.language))


def in_use(providers: Sequence[str], wanted: str | None) -> str:
    """What ONNX Runtime works with; it falls back silently, so raises UnusableError when it is not what was wanted."""
    if wanted and wanted not in providers:
        raise UnusableError(f"cannot use {wanted}: it finds no device here, only {providers[0]} would be left")
    return providers[0]


def blended(parts: list[tuple[Samples, float]]) -> Samples:
    """Styles by their shares; of styles of different lengths, the part that all have."""
    rows = min(len(style) for style, _ in parts)
    mixed = np.zeros_like(parts[0][0][:rows])
    for style, share in parts:
        mixed += style[:rows] * np.float32(share)
    return mixed


def _open(model: Path, styles: Path) -> Any:
    from kokoro_onnx import Kokoro
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf, NoSuchFile

    try:
        return Kokoro(str(model), str(styles))
    except (InvalidProtobuf, NoSuchFile) as fault:
        raise UnusableError(f"cannot load the model: {model.name} is no ONNX model, or is cut short") from fault


def _files(directory: Path) -> tuple[Path, Path]:
    models = sorted(directory.glob("*.onnx"))
    styles = [
        path for path in sorted(directory.iterdir()) if path.suffix in (".npz", ".bin") and zipfile.is_zipfile(path)
    ]
    if len(models) != 1 or len(styles) != 1:
        found = ", ".join(sorted(path.name for path in directory.iterdir())) or "nothing"
        raise UnusableError(f"cannot load the model: one .onnx file and one npz of voices are needed, found: {found}")
    return models[0], styles[0]


def read_styles(path: Path) -> dict[str, Samples]:
    """Voices by name, each [n, 1, 256]: row n - 1 is for n phonemes. Nothing in the file is executed.

    Raises UnusableError for a file of another content.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            styles = {name: file[name].astype(np.float32) for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, KeyError) as fault:
        raise UnusableError(f"cannot load the model: {path.name} is no npz of plain numbers: {fault}") from fault
    wrong = [name for name, style in styles.items() if style.ndim != 3 or style.shape[1:] != _STYLE or not len(style)]
    if wrong or not styles:
        raise UnusableError(f"cannot load the model: {path.name} has no voices of shape [n, 1, 256]: {wrong[:3]}")
    return styles
