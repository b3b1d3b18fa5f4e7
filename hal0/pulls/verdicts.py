"""What an answer of a server that was asked for a model means: a typed error, or a pause before the next try. Pure."""

import math
from collections.abc import Mapping
from typing import Final

from hal0.errors import Hal0Error

OFFLINE: Final = "Without internet, bring the file by other means: hal0ctl pull /path/to/it"
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})
_LONGEST_WAIT_S: Final = 600.0


class Again(Exception):
    """Worth another try, after `wait_s` when the server said so; the text says what happened."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class Away(Again):
    """Nobody is there who could answer."""


class Changed(Exception):
    """What is on the server is no longer what the first bytes came from."""


def judge(what: str, status: int, headers: Mapping[str, str], *, repo: str | None, token: bool) -> None:
    """Returns for an answer with content; `what` names the file or list in words, `repo` its place on the hub.

    Raises Again, or Hal0Error pull.gated, model.not_found or pull.failed.
    """
    if status in (200, 206):
        return
    if status in _AGAIN:
        raise Again(f"the server answered {status}", _wait_s(headers))
    if status == 416:
        raise Changed
    said = headers.get("X-Error-Message", "")[:200]
    if status in (401, 403):
        raise _closed(what, headers.get("X-Error-Code", ""), status, repo=repo, token=token)
    if status in (404, 410, 451):
        raise Hal0Error(
            "model.not_found",
            f"cannot fetch {what}: the server does not have it ({status}{': ' + said if said else ''})",
            hint="Look at the name, the revision and the file.",
        )
    raise Hal0Error("pull.failed", f"cannot fetch {what}: the server answered {status}{': ' + said if said else ''}")


def _closed(what: str, code: str, status: int, *, repo: str | None, token: bool) -> Hal0Error:
    page = f"https://huggingface.co/{repo}" if repo else None
    if page is None:
        return Hal0Error("pull.gated", f"cannot fetch {what}: the server wants to know who asks ({status})")
    if code == "GatedRepo":
        wanted = f"its publisher asks for consent to a licence: give it at {page}"
    else:
        wanted = f"it is private, or not there: look at {page}"
    then = "then try again" if token else "then give hal0 a token (models.hf_token, or HF_TOKEN in its environment)"
    return Hal0Error(
        "pull.gated",
        f"cannot fetch {what}: {wanted}, {then}",
        details={"repo": repo, "url": page, "token": token},
        hint=f"{page}, {then}",
    )


def _wait_s(headers: Mapping[str, str]) -> float | None:
    try:
        wait = float(headers.get("Retry-After", ""))
    except ValueError:  # a date, or nothing: hal0's own pause will do, as for none at all
        return None
    return min(wait, _LONGEST_WAIT_S) if math.isfinite(wait) and wait > 0 else None
