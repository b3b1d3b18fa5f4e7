"""Fetches a picture or a sound from an address that a client chose: public addresses only, and no more than fits."""

from hal0.dispatch.inlining import MAX_BYTES, refused
from hal0.errors import Hal0Error
from hal0.outbound import AddressRefused, Unreachable
from hal0.outbound.client import Outside


async def fetch(address: str) -> bytes:
    """Raises request.remote_media."""
    async with Outside() as outside:
        return await fetch_by(outside, address)


async def fetch_by(outside: Outside, address: str) -> bytes:
    try:
        async with outside.get(address) as response:
            if response.status != 200:
                raise refused(f"cannot fetch {address[:100]!r}: its server answered {response.status}")
            if (response.content_length or 0) > MAX_BYTES:
                raise _too_large(address)
            read = bytearray()
            while piece := await response.content.readany():
                read += piece
                if len(read) > MAX_BYTES:
                    raise _too_large(address)
            return bytes(read)
    except AddressRefused as error:
        raise refused(f"cannot fetch {address[:100]!r}: {error}") from None
    except Unreachable as error:
        raise refused(f"cannot fetch {address[:100]!r}: {error}") from error


def _too_large(address: str) -> Hal0Error:
    return refused(f"cannot take {address[:100]!r}: it is larger than {MAX_BYTES >> 20} MiB")
