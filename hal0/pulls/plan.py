"""What is to be pulled, and how far it is: a folder below the store that outlives every process.

    STORE/.pulls/ID/plan.json            this
    STORE/.pulls/ID/N.part, N.part.json  file N on its way
    STORE/.pulls/ID/N.named/NAME         file N while it is looked at
    STORE/.pulls/ID/files/MODEL/NAME     files that are whole, and what they were published as

Nothing of it is a model until everything is there: then it is moved. Blocking.
"""

import logging
import shutil
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hal0.lib.atomic import write_atomic
from hal0.pulls.sources import is_plain
from hal0.vocab import MODEL_ID, By, Capability, ModelId
from hal0.wire.pulls import PullState

log = logging.getLogger(__name__)

SCHEMA: Final = 1
FOLDER: Final = ".pulls"


class PlannedFile(BaseModel):
    """`name` is below the model's folder; `url` is an address, or a path on this machine that begins with /.

    `repo` is its place on the hub, where it has one.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    url: str
    size_bytes: int | None = Field(None, ge=0)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    repo: str | None = None

    @field_validator("name")
    @classmethod
    def _stays(cls, name: str) -> str:
        if not is_plain(name):
            raise ValueError("does not stay below the model's folder")
        return name


class Came(BaseModel):
    """What is known of a file that is here, whatever was published: its own digest, and the server's word for it."""

    model_config = ConfigDict(frozen=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    etag: str | None = None


class Plan(BaseModel):
    """`own`: somebody wants the download itself; else it is paused when nobody waits for it any more.

    `link`: its files are of this machine, and shared. `task` is what it shall
    be for. `came` are the files that have come, by name.
    """

    model_config = ConfigDict(frozen=True)

    number: int = Field(SCHEMA, alias="schema", le=SCHEMA)
    id: str = Field(pattern="^[a-z0-9_]{1,64}$")
    model: ModelId
    source: dict[str, str]
    license: str | None = None
    files: tuple[PlannedFile, ...] = Field(min_length=1)
    state: PullState = PullState.QUEUED
    error: dict[str, Any] | None = None
    started_at: float
    by: By = By.OPERATOR
    own: bool = True
    link: bool = False
    rate_limit: int | None = None
    task: Capability | None = None
    came: dict[str, Came] = {}

    @field_validator("model")
    @classmethod
    def _an_id(cls, model: ModelId) -> ModelId:
        if not MODEL_ID.match(model):
            raise ValueError("is no model id")
        return model


class Place:
    """Where one plan and what belongs to it is kept."""

    def __init__(self, store: Path, pull: str) -> None:
        self.folder = store / FOLDER / pull
        self.staged = self.folder / "files"

    def part(self, number: int) -> Path:
        return self.folder / f"{number}.part"

    def whole(self, plan: Plan, file: PlannedFile) -> Path:
        return self.staged / plan.model / file.name

    def save(self, plan: Plan) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.folder / "plan.json", plan.model_dump_json(by_alias=True).encode())

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def plans(store: Path) -> list[Plan]:
    """What earlier processes left, oldest first; what cannot be read is left where it is, and told."""
    found = []
    for file in (store / FOLDER).glob("*/plan.json"):
        try:
            found.append(Plan.model_validate_json(file.read_bytes()))
        except (OSError, ValidationError) as err:
            log.warning("the download in %s cannot be gone on with: %s", file.parent, err)
    return sorted(found, key=lambda plan: plan.started_at)
