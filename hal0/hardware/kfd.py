"""What AMD's compute driver (KFD) offers: the instruction set of each GPU, by its render node."""

from collections.abc import Mapping
from pathlib import Path

from hal0.hardware import sysfs


def read(root: Path = Path("/")) -> Mapping[str, str]:
    """`{"/dev/dri/renderD128": "gfx1151"}`; processors, which KFD lists as well, are left out. Never raises."""
    found = {}
    for node in sysfs.entries(root / "sys/class/kfd/kfd/topology/nodes"):
        lines = (line.split() for line in (sysfs.text(node / "properties") or "").splitlines())
        told = {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdecimal()}
        target, minor = told.get("gfx_target_version", 0), told.get("drm_render_minor", 0)
        if target and minor:
            found[f"/dev/dri/renderD{minor}"] = _name(target)
    return found


def _name(target: int) -> str:
    """110501 is gfx1151: two decimal digits each for version, minor and step, of which the last two are hexadecimal."""
    return f"gfx{target // 10000}{target // 100 % 100:x}{target % 100:x}"
