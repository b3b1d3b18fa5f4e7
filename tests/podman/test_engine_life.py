"""A container's life through the engine: created, started, watched, measured, stopped, removed."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hal0.engine.base import (
    LABEL_PREFIX,
    ContainerInfo,
    ContainerSpec,
    ContainerStatus,
    EngineEvent,
    EventKind,
    Mount,
    Publish,
)
from hal0.engine.podman import PodmanEngine
from tests.podman.streams import once_within

FOREVER = "trap 'exit 0' TERM; while true; do sleep 1 & wait; done"
PATIENCE_S = 20.0

Spec = Callable[..., ContainerSpec]


@pytest.fixture
def spec(instance: str, shell_image: str) -> Spec:
    """`spec(script, **changes)`: a container of this test that runs a shell script."""

    def make(script: str = FOREVER, **changes: Any) -> ContainerSpec:
        fields: dict[str, Any] = {
            "name": f"hal0-{instance}-primary-1",
            "image": shell_image,
            "argv": (script,),
            "labels": {LABEL_PREFIX + "instance": instance, LABEL_PREFIX + "slot": "primary"},
            "network": "none",
        }
        return ContainerSpec(**(fields | changes))

    return make


@asynccontextmanager
async def started(engine: PodmanEngine, spec: ContainerSpec) -> AsyncIterator[ContainerInfo]:
    container = await engine.create(spec)
    try:
        await engine.start(container)
        info = await engine.inspect(container)
        assert info is not None
        yield info
    finally:
        await engine.remove(container)


async def until_exited(engine: PodmanEngine, container: str) -> ContainerInfo:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            info = await engine.inspect(container)
            assert info is not None
            if info.status is ContainerStatus.EXITED:
                return info
            await asyncio.sleep(0.02)


async def next_event(events: AsyncIterator[EngineEvent], kind: EventKind) -> EngineEvent:
    async with asyncio.timeout(PATIENCE_S):
        async for event in events:
            if event.kind is kind:
                return event
    raise AssertionError("the event stream ended")


async def test_the_real_engine_answers_on_its_published_port_under_full_confinement(
    engine: PodmanEngine, instance: str, cpu_image: str, tiny_chat: Path, free_port: int
) -> None:
    spec = ContainerSpec(
        name=f"hal0-{instance}-primary-1",
        image=cpu_image,
        argv=("-m", "/models/tiny-chat.gguf", "--host", "0.0.0.0", "--port", "8080"),
        labels={LABEL_PREFIX + "instance": instance},
        mounts=(Mount(tiny_chat, "/models/tiny-chat.gguf"),),
        publish=Publish(free_port, 8080),
        memory_bytes=2 * 1024**3,
    )
    async with started(engine, spec) as info, aiohttp.ClientSession() as http:
        assert (info.status, info.host_port, info.image_id) == (ContainerStatus.RUNNING, free_port, cpu_image)
        assert info.memory_limit_bytes == spec.memory_bytes
        assert info.labels[LABEL_PREFIX + "instance"] == instance
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    async with http.get(f"http://127.0.0.1:{free_port}/health") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.02)
        status = Path(f"/proc/{info.pid}/status").read_text()  # noqa: ASYNC240
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        stats = await engine.stats(info.id)
        assert stats is not None
        assert 0 < stats.memory_bytes < stats.memory_limit_bytes == spec.memory_bytes
        assert 0 < stats.cpu_s < 60
        assert info.pid in await engine.processes(info.id)


async def test_listing_finds_containers_by_all_labels_whatever_their_state(
    engine: PodmanEngine, spec: Spec, instance: str
) -> None:
    mine = {LABEL_PREFIX + "instance": instance}
    async with started(engine, spec()) as running:
        waiting = await engine.create(
            spec(name=f"hal0-{instance}-embed-1", labels={**mine, LABEL_PREFIX + "slot": "embed"})
        )
        try:
            found = await engine.containers(mine)
            assert {info.id: info.status for info in found} == {
                running.id: ContainerStatus.RUNNING,
                waiting: ContainerStatus.CREATED,
            }
            embed = await engine.containers({**mine, LABEL_PREFIX + "slot": "embed"})
            assert [info.id for info in embed] == [waiting]
            assert await engine.containers({LABEL_PREFIX + "instance": "nobody"}) == []
        finally:
            await engine.remove(waiting)


async def test_verbs_are_done_when_what_they_want_is_already_so(engine: PodmanEngine, spec: Spec) -> None:
    async with started(engine, spec()) as info:
        await engine.start(info.id)
        await engine.stop(info.id, timeout_s=5)
        await engine.stop(info.id, timeout_s=5)
        assert await engine.stats(info.id) is None
        await engine.remove(info.id)
        await engine.remove(info.id)
        await engine.stop(info.id, timeout_s=5)
        assert await engine.inspect(info.id) is None
        assert await engine.stats(info.id) is None


@pytest.mark.parametrize(
    ("script", "exit_code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -11 $$", 139)]
)
async def test_exit_codes_arrive_as_the_shell_counts_them(
    engine: PodmanEngine, spec: Spec, script: str, exit_code: int
) -> None:
    async with started(engine, spec(script)) as info:
        ended = await until_exited(engine, info.id)
        assert ended.exit_code == exit_code
        assert ended.finished_at is not None
        assert ended.pid == 0


async def test_a_container_that_ignores_sigterm_is_killed_after_the_timeout(engine: PodmanEngine, spec: Spec) -> None:
    async with started(engine, spec("trap '' TERM; echo up; while true; do sleep 1; done")) as info:
        async with aclosing(engine.logs(info.id, follow=True)) as lines:
            assert (await anext(lines)).text == "up"
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await engine.stop(info.id, timeout_s=1)
        assert 0.9 < loop.time() - begun < 8
        ended = await engine.inspect(info.id)
        assert ended is not None
        assert ended.exit_code == 137


async def test_remove_does_not_wait_for_the_stop_timeout_of_what_still_runs(engine: PodmanEngine, spec: Spec) -> None:
    container = await engine.create(spec("trap '' TERM; while true; do sleep 1; done", stop_timeout_s=60))
    await engine.start(container)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await engine.remove(container)
    assert loop.time() - begun < 10
    assert await engine.inspect(container) is None


async def test_a_death_is_noticed_within_100_ms_by_its_process_and_by_event(
    engine: PodmanEngine, spec: Spec, instance: str
) -> None:
    async with aclosing(engine.events({LABEL_PREFIX + "instance": instance})) as events:
        assert (await next_event(events, EventKind.RESYNC)).kind is EventKind.RESYNC
        loop = asyncio.get_running_loop()

        async def noticed_after() -> float:
            async with started(engine, spec()) as info:
                watcher = asyncio.create_task(engine.watch_exit(info))
                died = asyncio.create_task(next_event(events, EventKind.DIED))
                await asyncio.sleep(0.1)  # both are watching
                begun = loop.time()
                os.kill(info.pid, signal.SIGKILL)
                await asyncio.wait_for(watcher, PATIENCE_S)
                noticed_s = loop.time() - begun
                event = await died
                assert (event.container_id, event.exit_code) == (info.id, 137)
                assert event.labels[LABEL_PREFIX + "instance"] == instance
            return noticed_s

        await once_within(0.1, noticed_after)


async def test_the_exit_of_a_container_that_is_already_gone_is_noticed_at_once(
    engine: PodmanEngine, spec: Spec
) -> None:
    async with started(engine, spec("exit 3")) as info:
        await until_exited(engine, info.id)
        await asyncio.wait_for(engine.watch_exit(info), PATIENCE_S)
        await engine.remove(info.id)
        await asyncio.wait_for(engine.watch_exit(info), PATIENCE_S)


async def test_without_a_visible_process_the_exit_is_noticed_by_event(
    engine: PodmanEngine, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hal0.engine import exits

    async with started(engine, spec()) as info:
        monkeypatch.setattr(exits, "open_pidfd", lambda _: None)  # as in another PID namespace
        watcher = asyncio.create_task(engine.watch_exit(info))
        await asyncio.sleep(0.3)
        assert not watcher.done()
        os.kill(info.pid, signal.SIGKILL)
        await asyncio.wait_for(watcher, PATIENCE_S)


async def test_lines_that_are_written_in_pieces_arrive_whole_and_by_stream(engine: PodmanEngine, spec: Spec) -> None:
    script = 'printf abc; sleep 0.2; printf "wrong\\n" >&2; sleep 0.2; printf "def\\n"; printf open'
    async with started(engine, spec(script)) as info:
        followed = [(line.stream, line.text) async for line in engine.logs(info.id, follow=True)]
        assert sorted(followed) == [("stderr", "wrong"), ("stdout", "abcdef"), ("stdout", "open")]
        await until_exited(engine, info.id)
        read = [line async for line in engine.logs(info.id)]
        assert sorted((line.stream, line.text) for line in read) == sorted(followed)
        assert all(line.at is not None and abs(line.at - time.time()) < 600 for line in read)


async def test_the_tail_is_counted_in_whole_lines(engine: PodmanEngine, spec: Spec) -> None:
    async with started(engine, spec("for n in 1 2 3 4 5; do echo line $n; done")) as info:
        await until_exited(engine, info.id)
        assert [line.text async for line in engine.logs(info.id, tail=2)] == ["line 4", "line 5"]


async def test_a_killed_conmon_leaves_a_container_that_can_still_be_noticed_and_removed(
    engine: PodmanEngine, spec: Spec
) -> None:
    async with started(engine, spec()) as info:
        watcher = asyncio.create_task(engine.watch_exit(info))
        os.kill(info.conmon_pid, signal.SIGKILL)
        await asyncio.sleep(0.2)
        assert not watcher.done()  # it still serves
        os.kill(info.pid, signal.SIGKILL)
        await asyncio.wait_for(watcher, PATIENCE_S)
        await engine.remove(info.id)
        assert await engine.inspect(info.id) is None


async def test_stopping_while_an_answer_streams_ends_both(
    engine: PodmanEngine, instance: str, cpu_image: str, tiny_chat: Path, free_port: int
) -> None:
    argv = ("-m", "/models/tiny-chat.gguf", "--host", "0.0.0.0", "--port", "8080", "--ctx-size", "4096")
    spec = ContainerSpec(
        name=f"hal0-{instance}-primary-1",
        image=cpu_image,
        argv=argv,
        labels={LABEL_PREFIX + "instance": instance},
        mounts=(Mount(tiny_chat, "/models/tiny-chat.gguf"),),
        publish=Publish(free_port, 8080),
    )
    url = f"http://127.0.0.1:{free_port}/v1/completions"
    question = {"prompt": "a", "stream": True, "max_tokens": 100_000, "ignore_eos": True}
    async with started(engine, spec) as info, aiohttp.ClientSession() as http:
        async with await _first_answer(http, url, question) as answer:
            assert await answer.content.readline()
            await engine.stop(info.id, timeout_s=1)
            async with asyncio.timeout(PATIENCE_S):
                with contextlib.suppress(aiohttp.ClientError):  # broken off, or just come to its own end
                    while await answer.content.readany():
                        pass
        ended = await engine.inspect(info.id)
        assert ended is not None
        assert ended.status is ContainerStatus.EXITED


async def _first_answer(http: aiohttp.ClientSession, url: str, question: object) -> aiohttp.ClientResponse:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                answer = await http.post(url, json=question)
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
                continue
            if answer.status == 200:
                return answer
            answer.close()
            await asyncio.sleep(0.05)
