"""Small pictures, whole and damaged."""

import random
import struct
import zlib
from collections.abc import Iterator


def painted(seed: int, size: int = 56) -> bytes:
    """A PNG of noise, the same for the same seed."""
    dice = random.Random(seed)
    rows = b"".join(b"\0" + dice.randbytes(3 * size) for _ in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def damaged(dice: random.Random, count: int) -> Iterator[bytes]:
    """Pictures that lie about their size, end early, or have other bytes than they should; whole ones between them."""
    whole = painted(1)
    for number in range(count):
        data = bytearray(whole)
        match number % 5:
            case 0:
                del data[dice.randrange(len(data)) :]
            case 1:
                data[16:24] = struct.pack(">II", dice.choice((0, 1, 2**15, 2**31)), dice.choice((0, 56, 2**15, 2**31)))
            case 2:
                for _ in range(dice.randrange(1, 40)):
                    data[dice.randrange(len(data))] = dice.randrange(256)
            case 3:
                data[8:] = dice.randbytes(dice.randrange(200))
            case _:
                pass
        yield bytes(data)
