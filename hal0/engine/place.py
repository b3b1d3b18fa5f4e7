"""Where hal0 itself runs: the facts that `nested` judges, read from this process's surroundings."""

from pathlib import Path
from typing import Final

from hal0.engine.nested import PlaceFacts

_MARKERS: Final = ("run/.containerenv", ".dockerenv")


def read_place(root: Path = Path("/")) -> tuple[PlaceFacts, str]:
    """The facts and /proc/self/mountinfo, below `root`. Blocking, about a millisecond; never raises."""
    markers = frozenset(f"/{name}" for name in _MARKERS if (root / name).exists())
    variables = _text(root / "proc/1/environ").split("\0")
    kinds = [v.removeprefix("container=") for v in variables if v.startswith("container=")]
    facts = PlaceFacts(markers, kinds[0] if kinds else "", linked_default_route(root))
    return facts, _text(root / "proc/self/mountinfo")


def linked_default_route(root: Path = Path("/")) -> bool:
    """The way out leads through a device whose other end is in another network namespace.

    That is a container with a network of its own (veth, macvlan); with host networking it is the host's own card.
    """
    for line in _text(root / "proc/net/route").splitlines()[1:]:
        device, destination = line.split()[:2]
        if destination == "00000000":
            link = root / "sys/class/net" / device
            return _text(link / "iflink").strip() != _text(link / "ifindex").strip()
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
