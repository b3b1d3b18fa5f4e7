"""A program of an image that is run once, for what it prints."""

import pytest

from hal0.engine.base import LABEL_PREFIX
from hal0.engine.errand import printed
from hal0.errors import Hal0Error
from tests.factories import container_spec
from tests.fakes.engine import FakeEngine
from tests.fakes.memory_engine import FAKE_IMAGE
from tests.fakes.program import Program
from tests.vloop import virtual_time

LIST = ("list", "-j")


def saying(*words: str, exit_code: int = 0, stream: str = "stdout") -> Program:
    return Program(first_words=words, speaks_on=stream, dies_after_s=0.1, exit_code=exit_code)


@virtual_time
async def test_what_it_prints_comes_back_and_nothing_stays() -> None:
    engine = FakeEngine()
    engine.plan(saying("one", "two"))
    assert await printed(engine, FAKE_IMAGE.id, LIST, instance="i") == "one\ntwo"
    assert engine.all == []
    assert len(engine.called("create")) == 1


@virtual_time
async def test_it_can_reach_nobody_and_is_no_slots() -> None:
    engine = FakeEngine()
    engine.plan(Program(dies_after_s=None))
    with pytest.raises(Hal0Error, match="took longer than 3 s") as caught:
        await printed(engine, FAKE_IMAGE.id, LIST, instance="i", timeout_s=3)
    assert caught.value.code == "engine.timeout"
    assert engine.all == []


@virtual_time
async def test_an_end_with_an_error_is_told_with_its_last_words() -> None:
    engine = FakeEngine()
    engine.plan(saying("cannot open libxrt.so", exit_code=127, stream="stderr"))
    with pytest.raises(Hal0Error, match="exit code 127: cannot open libxrt"):
        await printed(engine, FAKE_IMAGE.id, LIST, instance="i")
    assert engine.all == []


@virtual_time
async def test_what_a_killed_hal0_left_is_swept_but_nobody_elses() -> None:
    engine = FakeEngine()
    for n, instance in enumerate(("i", "other")):
        labels = {f"{LABEL_PREFIX}errand": instance}
        engine.place(container_spec(name=f"left-{n}", labels=labels, image=FAKE_IMAGE.id))
    engine.plan(saying("one"))
    await printed(engine, FAKE_IMAGE.id, LIST, instance="i")
    assert [container.spec.name for container in engine.all] == ["left-1"]
