"""Start the speech server: Kokoro, or F5-TTS where the model's directory holds that."""

import sys
from pathlib import Path

import av  # noqa: F401  once at the start, not while the first request waits for it

from serving.app import leave, options, serve
from speech.backend import Backend
from speech.f5_backend import F5Backend, is_f5
from speech.kokoro_backend import KokoroBackend
from speech.routes import SpeechEngine


def backend_of(directory: Path) -> Backend:
    return F5Backend(directory) if is_f5(directory) else KokoroBackend(directory)


def main() -> None:
    settings = options(sys.argv[1:], "Text to speech.")
    leave(serve(settings, SpeechEngine(backend_of(settings.model))))


if __name__ == "__main__":
    main()
