"""From a wish and the model's recipe to the pictures to render, one after the other. Pure."""

from collections.abc import Callable
from typing import Final

from hal0.errors import Hal0Error
from hal0.providers.comfyui.asked import MAX_EDGE, MAX_PIXELS, MAX_SEED, Wish
from hal0.providers.comfyui.workflows import Recipe, Shot, Source


def shots_of(wish: Wish, recipe: Recipe, prefix: str, roll: Callable[[], int], source: Source | None) -> list[Shot]:
    """One shot per picture, so that a batch takes no more memory than one, and each is its own success.

    The engine remembers graphs and renders none twice: `roll` gives a seed where the wish has none, and every shot a
    prefix of its own. With a seed, picture i has seed + i, however many are asked for. Raises request.invalid.
    """
    cfg = _cfg(wish, recipe)
    width, height = size_of(wish, recipe)
    if wish.n * width * height > MAX_PIXELS:
        said = f"cannot make {wish.n} pictures of {width}x{height} at once: {MAX_PIXELS} pixels in all are the most"
        raise Hal0Error("request.invalid", said, param="n" if wish.n > 1 else "size")
    first = roll() if wish.seed is None else wish.seed
    return [
        Shot(
            prompt=wish.prompt,
            negative=wish.negative,
            width=width,
            height=height,
            seed=(first + number) % (MAX_SEED + 1),
            steps=wish.steps or recipe.steps[wish.quality],
            cfg=cfg,
            prefix=f"{prefix}-{number}",
            source=source,
        )
        for number in range(wish.n)
    ]


def _cfg(wish: Wish, recipe: Recipe) -> float | None:
    """At 1 or below the prompt is all that counts, and the engine leaves what it is weighed against out."""
    if wish.cfg is not None and recipe.cfg is None:
        raise _refused("cfg", "this model has no place for it")
    cfg = recipe.cfg if wish.cfg is None else wish.cfg
    if wish.negative.strip() and not recipe.negative:
        raise _refused("negative_prompt", "this model has no place for it")
    if wish.negative.strip() and cfg is not None and cfg <= 1.0:
        raise _refused("negative_prompt", f"it counts for nothing with `cfg` at {cfg:g}; set that above 1")
    return cfg


def _refused(param: str, why: str) -> Hal0Error:
    return Hal0Error("request.invalid", f"cannot make this picture: `{param}`: {why}", param=param)


def size_of(wish: Wish, recipe: Recipe) -> tuple[int, int]:
    """Width and height in pixels. Without a wish: the shape of the picture to begin from, at the model's own area."""
    if wish.size is not None:
        width, height = wish.size
    elif wish.upload is None:
        width = height = recipe.native
    else:
        area = (recipe.native**2 / (wish.upload.width * wish.upload.height)) ** 0.5
        width, height = round(wish.upload.width * area), round(wish.upload.height * area)
    return _edge(width, recipe.multiple), _edge(height, recipe.multiple)


_LEAST_EDGE: Final = 64


def _edge(pixels: int, multiple: int) -> int:
    """The nearest that the model can make: the engine itself would silently cut."""
    return max(_LEAST_EDGE, min(MAX_EDGE, round(pixels / multiple) * multiple))
