"""The processor: what it can do and how many of it there are, from /proc/cpuinfo."""

from dataclasses import dataclass
from pathlib import Path

from hal0.hardware import sysfs


@dataclass(frozen=True, slots=True)
class Cpu:
    """`threads` counts logical processors, `cores` physical ones (the same where the kernel does not tell them apart).

    `flags` are the kernel's words (`avx2`, `avx512f`; on ARM the `Features`), those that every processor has.
    """

    model: str = ""
    cores: int = 0
    threads: int = 0
    flags: frozenset[str] = frozenset()


def parse(cpuinfo: str) -> Cpu:
    """From the text of /proc/cpuinfo: a paragraph per logical processor."""
    processors = [_fields(paragraph) for paragraph in cpuinfo.split("\n\n")]
    processors = [fields for fields in processors if "processor" in fields]
    if not processors:
        return Cpu()
    flags = [frozenset((fields.get("flags") or fields.get("Features") or "").split()) for fields in processors]
    cores = {(fields.get("physical id"), fields.get("core id")) for fields in processors if "core id" in fields}
    return Cpu(
        model=processors[0].get("model name", ""),
        cores=len(cores) or len(processors),
        threads=len(processors),
        flags=frozenset.intersection(*flags),
    )


def read(root: Path = Path("/")) -> Cpu:
    """Below `root`. Blocking, about a millisecond; never raises."""
    return parse(sysfs.text(root / "proc/cpuinfo") or "")


def _fields(paragraph: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in paragraph.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
