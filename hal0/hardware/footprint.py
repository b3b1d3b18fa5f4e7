"""What a set of processes takes of memory, as values: in RAM, and on each GPU."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class GpuBytes:
    """What is held of the GPU at this PCI address: in its own memory, and in the system's that it borrows (GTT)."""

    address: str
    vram_bytes: int
    system_bytes: int = 0

    def plus(self, other: "GpuBytes | None") -> "GpuBytes":
        if other is None:
            return self
        return replace(
            self,
            vram_bytes=self.vram_bytes + other.vram_bytes,
            system_bytes=self.system_bytes + other.system_bytes,
        )


@dataclass(frozen=True, slots=True)
class Footprint:
    """`resident_bytes`: what the processes have in RAM, without what a GPU holds of it.

    A GPU that is not in `gpus` is one of which nobody tells.
    """

    resident_bytes: int
    gpus: tuple[GpuBytes, ...]
