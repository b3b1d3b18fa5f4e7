"""F5-TTS's own network and vocoder, from files of plain numbers: a clip and its words in, speech out."""

import importlib
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from serving.app import UnusableError
from speech import f5_shape
from speech.backend import RATE, Samples

HOP: Final = 256  # samples of one frame
# What the libraries import to train, to fetch, and for other vocoders: none of it happens here, none of it is in the
# image.
_ABSENT: Final[Mapping[str, Mapping[str, Any]]] = {
    "librosa": {},
    "librosa.filters": {"mel": None},
    "f5_tts.model.trainer": {"Trainer": None},
    "vocos.pretrained": {"Vocos": None},
}
# As the library speaks. Half of its 32 steps cost half the time, and it names that figure beside the other.
_STEPS: Final = int(os.environ.get("F5_STEPS", "16"))
_GUIDANCE: Final = 2.0
_SWAY: Final = -1.0
_LOUDNESS: Final = 0.1  # root mean square that the network knows; quieter clips are raised to it, and speech lowered
_SHORT: Final = 10  # bytes of a text that would be rushed, and is spoken slowly
_SLOWLY: Final = 0.3
_MOST: Final = 30 * RATE // HOP  # frames at a time, however few words a clip is said to have


class F5Model:
    """Not to be used by two threads at once."""

    def __init__(self, weights: Path, vocabulary: Path, vocoder: Path) -> None:
        """Raises UnusableError for files of another content."""
        for name, members in _ABSENT.items():
            sys.modules.setdefault(name, types.ModuleType(name)).__dict__.update(members)
        self._flow, self._pinyin = _network(weights, vocabulary)
        self._backbone, self._head = _vocoder(vocoder)

    def speak(self, clip: Samples, words: str, text: str, speed: float) -> Samples:
        """`clip` is not silent, `words` end as a sentence does."""
        with torch.inference_mode():
            return self._spoken(clip, words, text, speed)

    def _spoken(self, clip: Samples, words: str, text: str, speed: float) -> Samples:
        cond = torch.from_numpy(clip)[None]
        loudness = float(cond.square().mean().sqrt())
        raised = max(1.0, _LOUDNESS / loudness)
        frames = cond.shape[-1] // HOP
        pace = _SLOWLY if len(text.encode()) < _SHORT else speed
        more = min(_MOST, int(frames / len(words.encode()) * len(text.encode()) / pace))
        mel, _ = self._flow.sample(
            cond=cond * raised,
            text=self._pinyin([words + text]),
            duration=frames + more,
            steps=_STEPS,
            cfg_strength=_GUIDANCE,
            sway_sampling_coef=_SWAY,
        )
        sound = self._head(self._backbone(mel[:, frames:].permute(0, 2, 1))) / raised
        spoken: Samples = sound[0].numpy()
        return spoken


def _network(weights: Path, vocabulary: Path) -> tuple[Any, Any]:
    """The flow and what turns texts into its letters."""
    library = importlib.import_module("f5_tts.model")
    texts = importlib.import_module("f5_tts.model.utils")
    letters, count = texts.get_tokenizer(str(vocabulary), "custom")
    # An averaged network as it was trained has these before every name, and two counters.
    tensors = {
        name.removeprefix("ema_model.").removeprefix("transformer."): tensor
        for name, tensor in tensors_of(weights).items()
        if name not in ("initted", "step") and "mel_spec." not in name
    }
    transformer = library.DiT(**f5_shape.network(shapes_of(tensors), weights.name), text_num_embeds=count)
    _fill(transformer, tensors, weights)
    spectrogram = {
        "n_fft": f5_shape.WINDOW,
        "hop_length": HOP,
        "win_length": f5_shape.WINDOW,
        "n_mel_channels": f5_shape.MEL,
        "target_sample_rate": RATE,
        "mel_spec_type": "vocos",
    }
    flow = library.CFM(
        transformer=transformer, mel_spec_kwargs=spectrogram, odeint_kwargs={"method": "euler"}, vocab_char_map=letters
    )
    return flow.eval(), texts.convert_char_to_pinyin


def _vocoder(file: Path) -> tuple[Any, Any]:
    models, heads = importlib.import_module("vocos.models"), importlib.import_module("vocos.heads")
    tensors = tensors_of(file)
    shape = f5_shape.vocoder(shapes_of(tensors), file.name)
    backbone = models.VocosBackbone(**shape)
    head = heads.ISTFTHead(dim=shape["dim"], n_fft=f5_shape.WINDOW, hop_length=HOP, padding="center")
    for module, prefix in ((backbone, "backbone."), (head, "head.")):
        mine = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        _fill(module, mine, file)
    return backbone.eval(), head.eval()


def tensors_of(file: Path) -> dict[str, torch.Tensor]:
    """Raises UnusableError for a file that holds none, or is cut short."""
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        # Of a pickle, only what makes tensors is followed.
        read = torch.load(file, map_location="cpu", weights_only=True)
        return {name: tensor for name, tensor in read.items() if isinstance(tensor, torch.Tensor)}
    except (SafetensorError, RuntimeError, EOFError, AttributeError, ValueError, UnpicklingError) as fault:
        raise UnusableError(f"cannot load the model: {file.name} holds no tensors, or is cut short") from fault


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _fill(module: Any, tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    """Everything that the module has, and nothing else, in 32 bits."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as fault:
        raise UnusableError(f"cannot load the model: {file.name} does not fit: {str(fault)[:200]}") from fault
    module.float()
