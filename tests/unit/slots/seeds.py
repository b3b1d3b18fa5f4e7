"""`python -m tests.unit.slots.seeds FIRST END STEP`: lives these seeds, and tells the first whose promises broke.

One seed alone, to see it again: `... seeds SEED SEED+1 1`.
"""

import logging
import random
import sys
import tempfile
from pathlib import Path

from tests.ports import lease_block
from tests.unit.slots.chaos import Chaos
from tests.vloop import InlineLoop, virtual


class _Mistakes(logging.Handler):
    """What hal0 says of itself: a life in which an actor failed by a mistake of ours is no good life."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "mistake" in (text := self.format(record)):
            self.found.append(text)


def live(seed: int, folder: Path, ports: range) -> list[str]:
    """What was broken in this seed's life, with its story behind; nothing when all was well."""
    mistakes = _Mistakes()
    log = logging.getLogger("hal0")
    log.addHandler(mistakes)
    random.seed(seed)  # of what hal0 itself leaves to chance: the pauses between attempts
    try:
        chaos = Chaos(folder / f"w{seed % 2}", ports, seed)
        virtual(chaos.run(), InlineLoop)
    finally:
        log.removeHandler(mistakes)
    wrong = chaos.wrong + mistakes.found
    return [f"seed {seed}", *wrong, *chaos.trace] if wrong else []


def main(first: int, end: int, step: int) -> int:
    logging.getLogger("hal0").propagate = False
    seeds = range(first, end, step)
    with tempfile.TemporaryDirectory(prefix="hal0-lives-") as folder, lease_block() as ports:
        for seed in seeds:
            if broken := live(seed, Path(folder), ports):
                sys.stdout.write("\n".join(broken) + "\n")
                return 1
    sys.stdout.write(f"lived {len(seeds)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:4])))
