"""Writes a vocoder that is published as a pickle as plain numbers: `python3 -m speech.unpickled FOLDER`.

Of the pickle only what makes tensors is followed. Run it without a network, and with no other folder in sight.
"""

import sys
from pathlib import Path

from safetensors.torch import save_file

from serving.app import UNUSABLE, UnusableError
from speech import f5_shape
from speech.f5_backend import PICKLE, VOCODER
from speech.f5_model import shapes_of, tensors_of


def rewrite(folder: Path) -> Path:
    """The file that was written, whole or not at all. Raises UnusableError where there is no vocoder of F5-TTS's."""
    pickle = folder / Path(PICKLE).name
    if not pickle.is_file():
        raise UnusableError(f"cannot find {pickle.name}: run this in the folder that has it")
    tensors = tensors_of(pickle)
    f5_shape.vocoder(shapes_of(tensors), pickle.name)
    written = folder / Path(VOCODER).name
    part = written.with_suffix(".part")  # half a file under its own name would be loaded before the pickle
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
        part.replace(written)
    finally:
        part.unlink(missing_ok=True)
    return written


def main() -> None:
    try:
        written = rewrite(Path(sys.argv[1]))
    except UnusableError as fault:
        print(fault, file=sys.stderr)  # noqa: T201
        raise SystemExit(UNUSABLE) from None
    print(f"wrote {written.name}; now remove {Path(PICKLE).name}")  # noqa: T201


if __name__ == "__main__":
    main()
