"""Whether a model would fit, as seen over HTTP."""

from enum import StrEnum

from hal0.wire.base import View
from hal0.wire.slots import TermView


class FitVerdict(StrEnum):
    FITS = "fits"
    SOON = "soon"  # once those have left that are on their way
    IF_UNLOADED = "if_unloaded"  # a load unloads them by itself
    BUSY = "busy"  # those are in the way that answer or load now
    TOO_LARGE = "too_large"


class FitView(View):
    """`terms` add up to `need_bytes`, which is all that the model takes in `slot`, with a context of `context` tokens.

    Of these `pool_need_bytes` are of `pool`, the scarcest one; there slots may have `total_bytes`, and `free_bytes` of
    that now (null: nobody tells). `slots` are those that leave for it, or are in the way. `guess`: the figures of its
    cache are not known, so it takes more.
    """

    model: str
    installed: bool
    size_bytes: int | None
    slot: str
    context: int
    parallel: int | None
    beside: list[str]
    verdict: FitVerdict
    message: str
    need_bytes: int
    terms: list[TermView]
    pool: str
    pool_need_bytes: int
    free_bytes: int | None
    total_bytes: int | None
    short_bytes: int
    slots: list[str]
    guess: bool


class QuantView(View):
    """One quantisation: `model` is what it is called once it is here. `digests` are sha256 by file, where published.

    The figures are null where nobody says how large it is.
    """

    model: str
    quantisation: str
    files: list[str]
    digests: dict[str, str]
    size_bytes: int | None
    need_bytes: int | None
    verdict: FitVerdict | None
    message: str | None
    installed: bool


class QuantsView(View):
    """Those of the repository that a model comes from, the smallest first, each as it would fit into `slot` with
    `context` tokens. `guess` as in FitView.
    """

    repo: str
    revision: str
    slot: str
    context: int
    guess: bool
    items: list[QuantView]
