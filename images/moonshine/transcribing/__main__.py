"""The image's program: `python3 -m transcribing --model FOLDER --alias NAME ...`."""

import sys

from serving import app
from transcribing.moonshine import Moonshine
from transcribing.routes import Transcriptions
from transcribing.sound import decoded


def main() -> None:
    settings = app.options(sys.argv[1:], "Serve a Moonshine model.")
    app.leave(app.serve(settings, Transcriptions(Moonshine(settings.model), decoded, settings.alias)))


if __name__ == "__main__":
    main()
