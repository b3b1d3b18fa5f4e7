"""What a slot remembers, as bytes and as files."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.slots import store as store_module
from hal0.slots.record import SCHEMA, Attempts, DamagedRecordError, Failure, Load, NewerRecordError, Swap, dump, load
from hal0.slots.store import SlotStore
from hal0.vocab import FailureClass, Phase, Role
from tests.unit.slots.lives import NOW, container, loaded, record
from tests.vloop import VirtualLoop, virtual_time

FULL = record(
    Phase.WARMING,
    loaded("two"),
    containers=(container(2, "two", id="c0ffee", port=20001, pid=7, pid_start=9), container(role=Role.LEAVING)),
    swap=Swap("one", "two"),
    failure=Failure(FailureClass.TRANSIENT, "slot.exited", "x", NOW, exit_code=137, signal="SIGKILL", log_tail=("a",)),
    attempts=Attempts(2, NOW - 9, NOW + 1),
    load_history=(Load("one", NOW, 0.2, 1.0),),
    last_used=NOW,
)


def test_a_record_comes_back_as_it_was() -> None:
    assert load(dump(FULL)) == FULL
    assert load(dump(record(Phase.OFFLINE))) == record(Phase.OFFLINE)


def test_the_words_on_disk_are_the_documented_ones() -> None:
    raw = jsonio.loads(dump(FULL))
    assert {"schema", "name", "state", "phase", "since", "desired", "model", "provider", "device", "containers"} <= set(
        raw
    )
    assert {"swap", "progress", "failure", "attempts", "load_history", "last_used", "updated_at"} <= set(raw)
    assert raw["failure"]["class"] == "transient"
    assert "failure_class" not in raw["failure"]
    assert [box["role"] for box in raw["containers"]] == ["current", "leaving"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"schema": "1"}',
        b"\xff\xfe",
        dump(FULL)[:-40],
        dump(FULL).replace(b'"warming"', b'"dancing"'),
        dump(FULL).replace(b'"want": "loaded"', b'"want": null'),
    ],
)
def test_damage_is_told_apart(data: bytes) -> None:
    with pytest.raises(DamagedRecordError):
        load(data)


def test_a_newer_record_is_no_damage() -> None:
    newer = dump(FULL).replace(f'"schema": {SCHEMA}'.encode(), f'"schema": {SCHEMA + 1}'.encode())
    with pytest.raises(NewerRecordError):
        load(newer)


async def test_files_are_private_and_come_back(tmp_path: Path) -> None:
    store = SlotStore(tmp_path / "slots")
    await store.write_record(FULL)
    secret = await store.write_secret("primary", 3)
    await store.write_override("primary", "two")
    await store.write_env("primary", {"B": "2", "A": "1"})
    past = await store.read(["primary", "embed"])
    await store.aclose()
    assert (past["primary"].record, past["primary"].secrets, past["primary"].model) == (FULL, {3: secret}, "two")  # type: ignore[index]
    assert (past["embed"].record, past["embed"].secrets, past["embed"].model) == (None, {}, None)  # type: ignore[index]
    folder = tmp_path / "slots" / "primary"
    assert (folder / "env").read_text() == "A=1\nB=2\n"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert secret not in repr(past)


async def test_secrets_are_new_each_time(tmp_path: Path) -> None:
    store = SlotStore(tmp_path)
    assert len({await store.write_secret("primary", number) for number in range(5)}) == 5
    await store.aclose()


async def test_a_secret_is_its_readers_alone(tmp_path: Path) -> None:
    store = SlotStore(tmp_path)
    await store.write_secret("primary", 1, reader=65534)
    await store.aclose()
    kept = store.secret_path("primary", 1).stat()
    assert kept.st_mode & 0o777 == 0o600
    assert kept.st_uid == (65534 if os.geteuid() == 0 else os.geteuid())


async def test_the_secret_of_a_container_that_still_serves_stays(tmp_path: Path) -> None:
    store = SlotStore(tmp_path)
    for number in (1, 2):
        await store.write_secret("primary", number)
    kept = await store.write_secret("primary", 3, keep=[2])
    assert (await store.read(["primary"]))["primary"].secrets.keys() == {2, 3}  # type: ignore[index]
    await store.write_secret("primary", 5, keep=[3])
    assert (await store.read(["primary"]))["primary"].secrets[3] == kept  # type: ignore[index]
    await store.aclose()


def test_a_damaged_record_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "primary").mkdir()
    (tmp_path / "primary" / "state.json").write_bytes(b"{half")
    assert SlotStore(tmp_path).read_record("primary") is None
    assert (tmp_path / "primary" / "state.json.damaged").read_bytes() == b"{half"
    assert not (tmp_path / "primary" / "state.json").exists()
    assert "moved to" in caplog.text


def test_a_newer_record_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "primary").mkdir()
    path = tmp_path / "primary" / "state.json"
    path.write_bytes(b'{"schema": 99}')
    with pytest.raises(Hal0Error, match=str(path)) as refused:
        SlotStore(tmp_path).read_record("primary")
    assert refused.value.code == "state.newer"
    assert path.exists()


async def test_a_disk_that_hangs_refuses_and_is_not_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patience_s = store_module._WRITE_S
    monkeypatch.setattr(store_module, "_WRITE_S", 0.05)
    answers, begun, write = threading.Event(), [], store_module._write

    def hanging(path: Path, data: bytes, owner: int | None = None) -> None:
        begun.append(path)
        answers.wait(10)
        write(path, data, owner)

    monkeypatch.setattr(store_module, "_write", hanging)
    store = SlotStore(tmp_path)
    async with asyncio.timeout(5):
        for _ in range(3):
            with pytest.raises(Hal0Error, match="the disk does not answer") as refused:
                await store.write_record(FULL)
            assert refused.value.code == "state.write_failed"
    assert len(begun) == 1
    answers.set()
    assert store._latest is not None
    await asyncio.wait({store._latest}, timeout=5)
    monkeypatch.setattr(store_module, "_WRITE_S", patience_s)
    await store.write_record(record(Phase.READY))
    assert load((tmp_path / "primary/state.json").read_bytes()) == record(Phase.READY)
    monkeypatch.setattr(store_module, "_WRITE_S", 0.05)
    answers.clear()
    async with asyncio.timeout(5):
        with pytest.raises(Hal0Error):
            await store.write_record(FULL)
        await store.aclose()
    answers.set()
    await asyncio.wait({store._latest}, timeout=5)  # its thread leaves nothing open


@virtual_time
async def test_writes_that_wait_for_others_are_no_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, turn, write = asyncio.get_running_loop(), threading.Semaphore(0), store_module._write
    assert isinstance(loop, VirtualLoop)

    def slow(path: Path, data: bytes, owner: int | None = None) -> None:
        assert turn.acquire(timeout=10)
        write(path, data, owner)

    monkeypatch.setattr(store_module, "_write", slow)
    store = SlotStore(tmp_path)
    writes = [asyncio.create_task(store.write_record(FULL)) for _ in range(4)]
    await asyncio.sleep(0)
    for written in writes:
        loop.advance(0.9 * store_module._WRITE_S)
        turn.release()
        await written
    await store.aclose()


async def test_a_write_that_fails_leaves_the_old_record(tmp_path: Path) -> None:
    store = SlotStore(tmp_path)
    await store.write_record(FULL)
    folder, aside = tmp_path / "primary", tmp_path / "aside"
    await asyncio.to_thread(os.rename, folder, aside)
    await asyncio.to_thread(folder.write_bytes, b"a file where the folder should be")
    with pytest.raises(Hal0Error) as refused:
        await store.write_record(record(Phase.READY))
    await store.aclose()
    assert refused.value.code == "state.write_failed"
    assert refused.value.status == 507
    assert load((aside / "state.json").read_bytes()) == FULL
    assert [file.name for file in aside.iterdir()] == ["state.json"]
