"""Which files are decoded as sound, and what a sound may say of itself: strangers' files are handed to FFmpeg."""

from typing import Final

# What is in a file decides, not its name. Only formats that hold their sound themselves: FFmpeg also reads playlists,
# which name other files and addresses.
FORMATS: Final = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,eac3,flac,flv,loas,matroska,mov,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv"
)
# Samples a second, and channels, that a sound may have: with one sample a second a few bytes are hours.
_RATES: Final = range(2_000, 768_001)
_MOST_CHANNELS: Final = 64


def oddity(rate: int, channels: int) -> str | None:
    """What no sound has, in words; None: there is nothing odd."""
    if rate in _RATES and 0 < channels <= _MOST_CHANNELS:
        return None
    return f"it says that it has {rate} samples a second in {channels} channels"
