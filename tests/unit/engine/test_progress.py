"""One sentence and one fraction out of podman's progress documents."""

from typing import Any

import pytest

from hal0.engine.progress import PullMeter, build_steps


def layer(name: str, current: int, total: int) -> dict[str, Any]:
    return {"id": name, "status": "Downloading", "progressDetail": {"current": current, "total": total}}


def test_a_pull_adds_up_its_layers_and_never_goes_back() -> None:
    meter = PullMeter("x:1")
    documents = [
        layer("a", 50, 100),
        layer("b", 0, 900),
        layer("b", 400, 900),
        {"id": "a", "status": "Download complete"},
    ]
    told = [meter.feed(document) for document in documents]
    assert [round(progress.fraction or 0, 2) for progress in told if progress] == [0.5, 0.5, 0.5, 0.5]
    done = meter.feed(layer("b", 950, 900))
    assert done is not None
    assert done.fraction == 1.0


@pytest.mark.parametrize("document", [{}, {"status": "Pulling fs layer", "id": "a"}, layer("a", 5, 0), layer("", 5, 5)])
def test_what_tells_no_bytes_is_no_progress(document: dict[str, Any]) -> None:
    assert PullMeter("x").feed(document) is None


def test_the_sentence_names_image_and_megabytes() -> None:
    progress = PullMeter("x:1").feed(layer("a", 5_000_000, 20_000_000))
    assert progress is not None
    assert progress.message == "pulling x:1: 5 of 20 MB"


@pytest.mark.parametrize(
    ("line", "fraction"),
    [
        ("STEP 1/4: FROM x", 0.0),
        ("STEP 3/4: RUN y", 0.5),
        ("[2/2] STEP 2/4: COPY", 0.625),
        ("STEPS 1/4:", None),
        ("STEP x/4: z", None),
        ("--> abc", None),
    ],
)
def test_build_steps_tell_how_far_it_is(line: str, fraction: float | None) -> None:
    (progress,) = build_steps({"stream": line + "\n"})
    assert (progress.message, progress.fraction) == (line, fraction)


def test_empty_lines_of_a_build_are_not_told() -> None:
    assert [progress.message for progress in build_steps({"stream": "a\n\n  \nb"})] == ["a", "b"]
    assert list(build_steps({"aux": {}})) == []
