"""All upstreams on virtual time: when lists are asked for, what a failure changes, what a new configuration keeps."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from hal0.config.root import RootConfig
from hal0.config.upstreams import UpstreamConfig
from hal0.errors import Hal0Error
from hal0.events.bus import Bus, Event
from hal0.lib import jsonio
from hal0.lib.aio import cancelled
from hal0.lib.clock import SteadyClock
from hal0.upstreams.circuit import Circuit
from hal0.upstreams.link import Link
from hal0.upstreams.upstreams import Upstreams
from hal0.wire.upstreams import UpstreamState
from tests.vloop import until, virtual_time


class Scripted(Link):
    """Answers with `models`, or with `status`, after `delay_s`; `raises` instead. Counts how often it was asked."""

    def __init__(self, name: str, config: UpstreamConfig) -> None:
        super().__init__(name, config, None, {}, instance="1")  # type: ignore[arg-type]  # nothing is sent
        self.name = name
        self.models_there: list[str] = ["m"]
        self.status = 200
        self.delay_s = 0.0
        self.raises: Exception | None = None
        self.asked = 0
        self.at_once = [0]  # shared by all of one house: how many are asked at this moment, and were at most
        self.most = [0]

    async def models(self) -> tuple[int, bytes]:
        self.asked += 1
        self.at_once[0] += 1
        self.most[0] = max(self.most[0], self.at_once[0])
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self.at_once[0] -= 1
        if self.raises is not None:
            raise self.raises
        return self.status, jsonio.dumps({"data": [{"id": model} for model in self.models_there]})


class House:
    def __init__(self, **tables: Any) -> None:
        self.links: dict[str, Scripted] = {}
        self.counts = ([0], [0])
        self.clock = SteadyClock(asyncio.get_running_loop())
        self.told: list[Event] = []
        self.upstreams = Upstreams(config(**tables), self.link, self.clock, Bus(list))

    def link(self, name: str, config: UpstreamConfig) -> Scripted:
        made = self.links[name] = Scripted(name, config)
        made.at_once, made.most = self.counts
        return made

    def state(self, name: str = "far") -> UpstreamState:
        return self.upstreams.view(name).state

    def fail(self, name: str, times: int) -> None:
        for _ in range(times):
            with self.upstreams.named(name).attempt() as attempt:
                attempt.failed()

    def answer(self, name: str, status: int) -> None:
        with self.upstreams.named(name).attempt() as attempt:
            attempt.answered(status)


def config(*, catalog_s: float = 300.0, **tables: Any) -> RootConfig:
    upstreams = {name: {"base_url": f"http://{name}.example/v1", **table} for name, table in tables.items()}
    return RootConfig.model_validate({"upstreams": upstreams, "dispatch": {"catalog_s": catalog_s}})


@asynccontextmanager
async def kept_fresh(house: House) -> AsyncIterator[None]:
    task = asyncio.create_task(house.upstreams.keep_fresh())
    try:
        yield
    finally:
        await cancelled(task)
        await house.upstreams.close()


@virtual_time
async def test_lists_are_renewed_before_they_are_old() -> None:
    house = House(far={})
    async with kept_fresh(house):
        await asyncio.sleep(300 * 10)
    assert house.links["far"].asked == 12  # at once, and every 270 s
    assert house.state() is UpstreamState.ONLINE


@virtual_time
async def test_a_list_that_says_the_same_changes_nothing_that_routing_rests_on() -> None:
    house = House(far={})
    await house.upstreams.refresh("far")
    version, before = house.upstreams.version, list(house.upstreams.snapshots())
    await house.upstreams.refresh("far")
    assert house.upstreams.version == version
    assert next(iter(house.upstreams.snapshots())) is before[0]
    house.links["far"].models_there.append("new")
    await house.upstreams.refresh("far")
    assert house.upstreams.version > version


@virtual_time
async def test_a_list_that_is_refused_is_asked_for_less_and_less_and_the_old_one_stays() -> None:
    house = House(far={})
    async with kept_fresh(house):
        await until(lambda: house.upstreams.named("far").models is not None, within_s=1)
        house.links["far"].status = 429
        await asyncio.sleep(300)
        assert house.state() is UpstreamState.DEGRADED
        assert [len(snapshot.models or ()) for snapshot in house.upstreams.snapshots()] == [1]
        before = house.links["far"].asked
        await asyncio.sleep(3600 * 10)
        assert house.links["far"].asked - before < 3600 * 10 / 300 * 1.3 + 7
        house.links["far"].status = 200
        await asyncio.sleep(400)
        assert house.state() is UpstreamState.ONLINE


@virtual_time
@pytest.mark.parametrize("starting", [None, 503])
async def test_a_machine_that_boots_hours_after_hal0_is_known_within_seconds(starting: int | None) -> None:
    house = House(far={})
    if starting is None:
        house.links["far"].raises = Hal0Error("upstream.unreachable", "cannot")
    else:
        house.links["far"].status = starting
    async with kept_fresh(house):
        await asyncio.sleep(3600 * 3)
        assert house.upstreams.named("far").models is None
        house.links["far"].raises, house.links["far"].status = None, 200
        await asyncio.sleep(25)
        assert house.state() is UpstreamState.ONLINE
        assert house.links["far"].asked < 3600 * 3 / 20 * 1.3


@virtual_time
async def test_one_that_hangs_holds_a_request_once_and_for_eight_seconds_at_most() -> None:
    house = House(far={}, near={})
    house.links["far"].delay_s = 3600
    began = house.clock.now()
    assert await house.upstreams.prefetch() == {"near"}
    assert house.clock.now() - began == pytest.approx(8.0)
    assert await house.upstreams.prefetch() == frozenset()
    assert house.clock.now() - began == pytest.approx(8.0)
    assert house.state() is UpstreamState.OFFLINE
    assert all(snapshot.models is not None for snapshot in house.upstreams.snapshots())


@virtual_time
async def test_requests_share_the_asking_and_whoever_leaves_ends_nothing() -> None:
    house = House(far={})
    house.links["far"].delay_s = 2
    first, second = (asyncio.create_task(house.upstreams.prefetch()) for _ in range(2))
    await asyncio.sleep(1)
    await cancelled(first)
    assert await second == {"far"}
    assert house.links["far"].asked == 1


@virtual_time
async def test_four_are_asked_at_a_time() -> None:
    house = House(**{f"u{n}": {} for n in range(9)})
    for link in house.links.values():
        link.delay_s = 1
    assert len(await house.upstreams.prefetch()) == 9
    assert house.counts[1] == [4]


@virtual_time
async def test_one_that_hangs_holds_nobody_whose_model_another_lists() -> None:
    house = House(hangs={}, near={})
    house.links["hangs"].delay_s = 3600
    house.links["near"].delay_s = 0.2
    began = house.clock.now()
    (listed,) = house.links["near"].models_there
    assert await house.upstreams.prefetch(listed) == {"near"}
    assert house.clock.now() - began == pytest.approx(0.2)
    await house.upstreams.close()


@virtual_time
async def test_one_whose_list_cannot_have_the_model_is_neither_asked_nor_waited_for() -> None:
    house = House(routes={"prefix": "or/"}, few={"models": ["theirs"]}, near={})
    house.links["routes"].delay_s = house.links["few"].delay_s = 3600
    began = house.clock.now()
    assert await house.upstreams.prefetch("new") == {"near"}
    assert house.clock.now() == began
    assert house.links["routes"].asked == house.links["few"].asked == 0
    assert await house.upstreams.prefetch("or/new") == await house.upstreams.prefetch("theirs") == frozenset()
    assert house.links["routes"].asked == house.links["few"].asked == 1


@virtual_time
async def test_those_that_hang_keep_nobody_from_being_asked() -> None:
    house = House(**{f"u{n}": {} for n in range(9)})
    for name, link in house.links.items():
        link.delay_s = 0 if name == "u8" else 3600
    began = house.clock.now()
    house.links["u8"].models_there[:] = ["own"]
    assert await house.upstreams.prefetch("own") == {"u8"}
    assert house.clock.now() - began == pytest.approx(4.0)
    await house.upstreams.close()


@virtual_time
async def test_a_new_configuration_keeps_what_stays_as_it_was() -> None:
    house = House(far={}, near={}, gone={})
    await house.upstreams.prefetch()
    house.fail("far", 5)
    version = house.upstreams.version
    house.upstreams.apply(config(far={}, near={"priority": 60}, new={"enabled": False}))
    assert house.upstreams.version > version
    assert house.upstreams.get("gone") is None
    assert not house.upstreams.named("far").passes()
    assert house.upstreams.named("far").models is not None
    assert house.upstreams.named("near").cold
    assert house.state("new") is UpstreamState.DISABLED
    assert {snapshot.name for snapshot in house.upstreams.snapshots()} == {"far", "near"}


@virtual_time
async def test_a_new_upstream_is_asked_at_once() -> None:
    house = House()
    async with kept_fresh(house):
        await asyncio.sleep(5)
        house.upstreams.apply(config(far={}))
        await until(lambda: house.state() is UpstreamState.ONLINE, within_s=0.1)


@virtual_time
async def test_the_circuit_is_told_and_closes_with_an_answer() -> None:
    house = House(far={})
    await house.upstreams.prefetch()
    far, version = house.upstreams.named("far"), house.upstreams.version
    house.fail("far", 5)
    assert house.upstreams.version > version
    assert house.state() is UpstreamState.OFFLINE
    assert far.wait_s() == pytest.approx(10.0)
    assert not next(iter(house.upstreams.snapshots())).up
    await asyncio.sleep(10)
    with far.attempt() as attempt:
        assert not far.passes()
        attempt.answered(200)
        assert far.passes()  # a long stream keeps nobody waiting for its end
        assert (house.state(), far.in_flight) == (UpstreamState.DEGRADED, 1)
    assert (house.state(), far.in_flight) == (UpstreamState.ONLINE, 0)


@virtual_time
async def test_one_that_begins_every_answer_and_finishes_none_is_left_alone() -> None:
    house = House(far={})
    await house.upstreams.prefetch()
    far, pauses = house.upstreams.named("far"), []
    for _ in range(5):
        assert far.passes()
        with far.attempt() as attempt:
            attempt.answered(200)
            attempt.failed()
    for _ in range(2):
        assert not far.passes()
        pauses.append(far.wait_s())
        await asyncio.sleep(far.wait_s())
        with far.attempt() as attempt:
            attempt.answered(200)
            attempt.failed()
    assert pauses == pytest.approx([10.0, 20.0])
    await asyncio.sleep(far.wait_s())
    house.answer("far", 200)
    assert (house.state(), far.circuit) == (UpstreamState.ONLINE, Circuit())


@virtual_time
async def test_a_client_that_leaves_amid_an_answer_says_nothing_of_its_end() -> None:
    house = House(far={})
    far = house.upstreams.named("far")
    house.fail("far", 4)
    with suppress(ConnectionResetError), far.attempt() as attempt:
        attempt.answered(200)
        raise ConnectionResetError
    assert far.circuit.failures == 4
    house.answer("far", 200)
    assert far.circuit.failures == 0


@virtual_time
async def test_an_answer_that_began_before_the_circuit_opened_does_not_close_it() -> None:
    house = House(far={})
    far = house.upstreams.named("far")
    with far.attempt() as attempt:
        attempt.answered(200)
        house.fail("far", 5)
    assert not far.passes()


@virtual_time
async def test_a_trial_whose_client_leaves_makes_room_for_the_next() -> None:
    house = House(far={})
    house.fail("far", 5)
    await asyncio.sleep(10)
    far = house.upstreams.named("far")
    with far.attempt():
        assert not far.passes()
    assert far.passes()


@virtual_time
async def test_an_answer_that_says_no_is_a_failure_only_where_it_is_the_upstreams() -> None:
    house = House(far={})
    far = house.upstreams.named("far")
    for status in (400, 404, 429, 500):
        house.answer("far", status)
        assert far.circuit.failures == 0
    for status in (502, 503, 504):
        house.answer("far", status)
    assert far.circuit.failures == 3


@pytest.mark.parametrize(
    ("status", "table", "state", "models"),
    [
        (401, {}, UpstreamState.KEY_REJECTED, None),
        (500, {}, UpstreamState.OFFLINE, None),
        (301, {}, UpstreamState.OFFLINE, None),
        (404, {}, UpstreamState.OFFLINE, None),
        (404, {"models": ["a", "b"]}, UpstreamState.ONLINE, 2),
        (200, {"models": ["a"]}, UpstreamState.ONLINE, 0),
        (200, {"auth": {"style": "bearer", "env": "UNSET"}}, UpstreamState.KEY_MISSING, 1),
    ],
)
def test_what_the_answer_to_a_list_says(
    status: int, table: dict[str, Any], state: UpstreamState, models: int | None
) -> None:
    @virtual_time
    async def scenario() -> None:
        house = House(far=table)
        house.links["far"].status = status
        await house.upstreams.refresh("far")
        view = house.upstreams.view("far")
        assert (view.state, view.models) == (state, models)
        assert view.message

    scenario()


@virtual_time
async def test_a_key_that_requests_find_rejected_is_shown() -> None:
    house = House(far={})
    await house.upstreams.prefetch()
    house.answer("far", 401)
    assert house.state() is UpstreamState.KEY_REJECTED
    house.answer("far", 429)
    assert house.state() is UpstreamState.KEY_REJECTED
    await house.upstreams.refresh("far")  # a list that anybody may read says nothing of keys
    assert house.state() is UpstreamState.KEY_REJECTED
    house.answer("far", 200)
    assert house.state() is UpstreamState.ONLINE


@virtual_time
async def test_a_slot_that_fronts_an_upstream_is_known_with_its_model() -> None:
    house = House()
    root = RootConfig.model_validate(
        {
            "upstreams": {"far": {"base_url": "http://far.example/v1"}},
            "slots": {
                "coder": {"provider": "upstream", "upstream": "far", "model": "Qwen/Coder:free"},
                "none": {"provider": "upstream", "upstream": "far"},
            },
        }
    )
    house.upstreams.apply(root)
    assert {name: hop[:2] for name, hop in house.upstreams.fronts().items()} == {"coder": ("far", "Qwen/Coder:free")}
