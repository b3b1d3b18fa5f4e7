"""The images hal0 knows: images/manifest.json, and what a local build needs to know from the folder beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hal0.errors import Hal0Error
from hal0.lib.jsonio import JSONDecodeError, loads
from hal0.vocab import Device

SCHEMA: Final = "hal0.manifest.v1"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A Containerfile, relative to the images folder, and the stage in it."""

    containerfile: str
    target: str

    @property
    def folder(self) -> str:
        """Everything else that the image is made of, relative to the images folder."""
        return str(Path(self.containerfile).parent)


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    ref: Annotated[str, Field(pattern=r"^[a-z0-9.-]+(/[a-z0-9._-]+)+$")]
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None
    containerfile: str | None
    target: str | None
    devices: tuple[Device, ...]
    cpu_flags: tuple[str, ...] = ()
    on_request: bool = False
    note: str | None = None


class ImageEntry(_Row):
    """One image: where it is published, how it is built, which devices it can use.

    `cpu_flags` are the kernel's words for what its programs need of the processor, beyond what every one has.
    `digest` is null until it is published: then it cannot be pulled. `containerfile` and `target` are null for what
    no packages make. `on_request`: it is large, and only built by its name or for a model that needs it. `note` is a
    sentence for people: what the image is for, or where to get what cannot be built.
    """

    key: str

    @property
    def local_tag(self) -> str:
        """The tag of a build made on this machine."""
        return f"localhost/hal0-toolbox-{self.key}:latest"

    @property
    def pull_ref(self) -> str | None:
        """What is pulled: always by digest, so that nobody can change it under us."""
        return None if self.digest is None else f"{self.ref}@{self.digest}"

    @property
    def recipe(self) -> Recipe | None:
        """How it is built here; None for what no packages make."""
        if self.containerfile is None or self.target is None:
            return None
        return Recipe(self.containerfile, self.target)


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    schema_: Annotated[Literal["hal0.manifest.v1"], Field(alias="schema")]
    images: dict[str, _Row]


def images_root() -> Path:
    """The images folder: inside the package when installed from a wheel, beside it in a checkout. Blocking."""
    package = Path(__file__).resolve().parent.parent
    packed = package / "_images"
    return packed if packed.is_dir() else package.parent / "images"


def read_manifest(root: Path) -> Mapping[str, ImageEntry]:
    """The manifest's images by key. Blocking; raises system.internal naming the file when it is not usable."""
    path = root / "manifest.json"
    try:
        manifest = _Manifest.model_validate(loads(path.read_bytes()))
    except (OSError, JSONDecodeError, ValidationError) as fault:
        raise Hal0Error("system.internal", f"cannot read the image manifest {path}: {fault}") from fault
    return {key: ImageEntry(key=key, **row.model_dump()) for key, row in manifest.images.items()}


def stage_settings(containerfile: str, target: str) -> tuple[str, ...]:
    """The lines of stage `target` that say how the image runs, for an import that brings the files itself.

    The Containerfile stays the only place where they are written.
    """
    lines: list[str] = []
    inside = False
    for raw in containerfile.splitlines():
        line = raw.strip()
        word, _, rest = line.partition(" ")
        if word == "FROM":
            inside = rest.split()[-1] == target
        elif inside and line and word not in ("#", "COPY"):
            lines.append(line)
    return tuple(lines)
