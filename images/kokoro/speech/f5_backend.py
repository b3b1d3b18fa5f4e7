"""F5-TTS: speech in a voice that is cloned from a clip and the words that are said in it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from serving.app import UnusableError
from serving.errors import Refusal, not_allowed
from speech.backend import RATE, Reference, Samples, Speaker, Spoken
from speech.clips import decoded, voiced
from speech.sentences import LONGEST

log = logging.getLogger("speech")

# Its published weights are not free for every use, and whoever runs them must know.
LICENCE: Final = "F5-TTS: the published weights are CC-BY-NC-4.0: not for commercial use"
_SPEEDS: Final = (0.5, 2.0)
_FRAME: Final = 256  # samples of one frame of its spectrograms
_AT_ONCE_S: Final = 22.0  # of sound, the clip's included, that it was made for
_FEWEST: Final = 40  # characters of a piece, however slowly the clip is spoken
_CLIPS: Final = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
_NO_VOICE: Final = (
    "this model has no voice of its own: send ref_audio (base64) and ref_text (its words), "
    "or put voices/NAME.wav and voices/NAME.txt into its folder"
)
VOCODER: Final = "vocos/model.safetensors"
# As it is published; hal0 hands it over only where `models.allow_pickle` says so.
PICKLE: Final = "vocos/pytorch_model.bin"
_NO_VOCODER: Final = (
    f"cannot load the model: the vocoder is missing: {VOCODER}. It is published (vocos-mel-24khz) as a pickle, "
    f"{Path(PICKLE).name}; in that one's folder, make it with: podman run --rm --network none --user 0 "
    '-v "$PWD":/vocos --entrypoint python3 localhost/hal0-toolbox-f5-tts -m speech.unpickled /vocos'
)


@dataclass(frozen=True, slots=True)
class F5Files:
    """`voices`: clips that have their words beside them, by name."""

    model: Path
    vocabulary: Path
    vocoder: Path
    voices: Mapping[str, Path]


def is_f5(directory: Path) -> bool:
    return any(directory.glob("model_*.safetensors")) and (directory / "vocab.txt").is_file()


def files(directory: Path) -> F5Files:
    """Raises UnusableError that says which file is missing."""
    models = sorted(directory.glob("model_*.safetensors"))
    if len(models) != 1:
        raise UnusableError(f"cannot load the model: one model_*.safetensors is needed, {len(models)} are there")
    vocabulary = directory / "vocab.txt"
    if not vocabulary.is_file():
        raise UnusableError("cannot load the model: vocab.txt is missing")
    vocoder = next((directory / name for name in (VOCODER, PICKLE) if (directory / name).is_file()), None)
    if vocoder is None:
        raise UnusableError(_NO_VOCODER)
    return F5Files(models[0], vocabulary, vocoder, clips(directory / "voices"))


def clips(folder: Path) -> dict[str, Path]:
    """Clips by name; one whose words nobody wrote down (NAME.txt beside it) is no voice."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in _CLIPS)
    return {clip.stem: clip for clip in found if clip.with_suffix(".txt").is_file()}


class F5Backend:
    """One model; its voices are the clips of the model's folder, or what a request brings along."""

    speeds = _SPEEDS

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._voices: Mapping[str, Path] = {}
        self._model: Any = None

    def load(self) -> None:
        found = files(self._directory)
        log.warning(LICENCE)
        self._voices = found.voices
        self._model = _open(found)

    def voices(self) -> Mapping[str, str]:
        return {name: name for name in self._voices}

    def speaker(self, voice: str | None, reference: Reference | None, text: str) -> Speaker:
        if reference is not None:
            return self._cloning(reference)
        if not self._voices:
            raise Refusal(400, _NO_VOICE, param="ref_audio")
        clip = self._voices.get(voice or next(iter(self._voices)))
        if clip is None:
            raise not_allowed("voice", voice, (*self._voices, "or none, with ref_audio and ref_text"))
        words = clip.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").strip()
        if not words:
            raise Refusal(400, f"voice {clip.stem} has no words: voices/{clip.stem}.txt is empty", param="voice")
        return self._cloning(Reference(clip.read_bytes(), words))

    def _cloning(self, reference: Reference) -> Speaker:
        clip, words = voiced(decoded(reference.audio)), _ended(reference.text)
        seconds = len(clip) / RATE
        fits = int(len(words) / seconds * (_AT_ONCE_S - seconds))
        return _Speaker(self._model, clip, words, min(LONGEST, max(_FEWEST, fits)))


@dataclass(frozen=True, slots=True)
class _Speaker:
    model: Any
    clip: Samples
    words: str
    longest: int

    def say(self, piece: str, speed: float) -> Spoken | None:
        if not any(letter.isalnum() for letter in piece):
            return None
        sound: Samples = self.model.speak(self.clip, self.words, piece, speed)
        return Spoken(sound, len(piece.encode()), max(1, len(sound) // _FRAME))


def _ended(words: str) -> str:
    """As a sentence ends, with room for the next: what is to be said would else be run on."""
    if words.endswith("。"):
        return words
    return f"{words} " if words.endswith((".", "!", "?")) else f"{words}. "


def _open(found: F5Files) -> Any:
    from speech.f5_model import F5Model

    return F5Model(found.model, found.vocabulary, found.vocoder)
