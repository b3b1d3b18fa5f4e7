"""Finding the account at the other end of a connection: in texts as the kernel writes them, and on real sockets."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from hal0.access.guard import OWNERLESS
from hal0.access.owners import Address, Owners, owner_of
from hal0.access.sockdiag import End, Held, holder

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
REST = "01 00000000:00000000 00:00000000 00000000 {uid:>5}        0 {inode} 1 0000000000000000 20 4 30 10 -1\n"
SERVER, CLIENT = ("127.0.0.1", 8080), ("127.0.0.1", 50000)


def line(local: str, remote: str, uid: int, inode: int = 4711) -> str:
    return f"  12: {local} {remote} " + REST.format(uid=uid, inode=inode)


V4 = line("0100007F:1F90", "0100007F:C350", 0) + line("0100007F:C350", "0100007F:1F90", 33)
MAPPED = "0000000000000000FFFF00000100007F"
SIX = "00000000000000000000000001000000"


@pytest.mark.parametrize(
    ("table", "peer", "own", "uid"),
    [
        (V4, CLIENT, SERVER, 33),
        (V4, SERVER, CLIENT, 0),
        (V4, ("127.0.0.1", 50001), SERVER, OWNERLESS),
        (line(f"{MAPPED}:C350", f"{MAPPED}:1F90", 1000), CLIENT, SERVER, 1000),
        (V4, ("::ffff:127.0.0.1", 50000), ("::ffff:127.0.0.1", 8080), 33),
        (line(f"{SIX}:C350", f"{SIX}:1F90", 101), ("::1", 50000), ("::1", 8080), 101),
        (line("0100007F:C350", "0100007F:1F90", 0, inode=0), CLIENT, SERVER, OWNERLESS),
        ("", CLIENT, SERVER, OWNERLESS),
    ],
)
def test_the_line_of_the_other_end_names_its_account(table: str, peer: Address, own: Address, uid: int) -> None:
    assert owner_of(HEAD + table, peer, own) == uid


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[asyncio.StreamWriter, asyncio.StreamWriter]]:
    """(server's end, client's end) of one connection over loopback."""
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: accepted.put_nowait(writer), "127.0.0.1", 0)
    _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
    ours = await accepted.get()
    try:
        yield ours, client
    finally:
        for writer in (client, ours):
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()


def ends(writer: asyncio.StreamWriter) -> tuple[Address, Address]:
    return writer.get_extra_info("peername"), writer.get_extra_info("sockname")


def unknown(_peer: End, _own: End) -> None:
    """A kernel without `tcp_diag`."""


def unread() -> str:
    raise AssertionError("the tables were read")


async def test_a_real_connection_belongs_to_this_process_by_the_tables_and_without_them() -> None:
    async with connection() as (ours, _):
        assert await Owners(ask=unknown).of_peer(ours.transport, *ends(ours)) == os.geteuid()
        assert await Owners(unread).of_peer(ours.transport, *ends(ours)) == os.geteuid()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_kernel_tells_of_each_connection_whose_it_is(host: str) -> None:
    """A dead end has no holder, a listener is no other end, and an IPv4 client may have come through an IPv6 socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server, socket.socket(family) as client:
        port = server.getsockname()[1]
        client.connect((host, port))
        ours, _ = server.accept()
        there = (ip_address(host), client.getsockname()[1])
        with ours:
            assert holder(there, (ip_address(host), port)) == Held(os.geteuid(), os.fstat(client.fileno()).st_ino)
            assert holder((ip_address(host), port), (ip_address(host), 1)) is None
            client.close()
            left = holder(there, (ip_address(host), port))
            assert left is not None
            assert left.inode == 0


async def test_a_mapped_client_is_found_by_its_ipv4_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET6) as client:
        client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        ours, peer = server.accept()
        with ours:
            held = holder((ip_address("127.0.0.1"), peer[1]), (ip_address("127.0.0.1"), server.getsockname()[1]))
    assert held is not None
    assert held.uid == os.geteuid()


async def test_without_netlink_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "AF_NETLINK", 0xFFFF)
    loopback = ip_address("127.0.0.1")
    assert holder((loopback, 1), (loopback, 2)) is None


async def test_a_held_connection_without_a_process_is_ownerless() -> None:
    async with connection() as (ours, _):
        assert await Owners(unread, lambda *_: Held(0, 0)).of_peer(ours.transport, *ends(ours)) == OWNERLESS


async def test_a_connection_is_looked_up_once() -> None:
    reads: list[int] = []

    def read() -> str:
        reads.append(1)
        return HEAD + V4

    owners = Owners(read, unknown)
    async with connection() as (ours, _):
        for _ in range(3):
            assert await owners.of_peer(ours.transport, CLIENT, SERVER) == 33
    assert len(reads) == 1


async def test_many_new_connections_share_reads_that_began_after_they_came() -> None:
    go, entered = threading.Event(), threading.Event()
    reads: list[int] = []

    def read() -> str:
        reads.append(1)
        entered.set()
        assert go.wait(5)
        return HEAD + V4

    owners = Owners(read, unknown)
    async with connection() as (one, two):
        first = asyncio.create_task(owners.of_peer(one.transport, CLIENT, SERVER))
        await asyncio.to_thread(entered.wait, 5)
        late = [asyncio.create_task(owners.of_peer(two.transport, CLIENT, SERVER)) for _ in range(50)]
        await asyncio.sleep(0)
        go.set()
        assert await first == 33
        assert await asyncio.gather(*late) == [33] * 50
    assert len(reads) == 2


async def test_a_kernel_that_answers_no_single_question_is_asked_none_for_a_while() -> None:
    asked: list[End] = []

    def ask(local: End, _remote: End) -> None:
        assert threading.current_thread() is not threading.main_thread()  # it may look for a module
        asked.append(local)

    owners = Owners(lambda: HEAD + V4, ask)
    async with connection() as (one, two):
        for transport in (one.transport, two.transport):
            assert await owners.of_peer(transport, CLIENT, SERVER) == 33
        assert asked == [(ip_address(SERVER[0]), SERVER[1])]
        owners._try_at = 0.0  # a while later
        owners._known.clear()
        assert await owners.of_peer(one.transport, CLIENT, SERVER) == 33
        assert len(asked) == 2


async def test_a_client_that_left_does_not_make_the_kernel_a_silent_one() -> None:
    left = ("127.0.0.1", 50001)

    def ask(local: End, _remote: End) -> Held | None:
        return None if local[1] == left[1] else Held(33, 1)

    owners = Owners(lambda: HEAD + V4, ask)
    async with connection() as (one, two):
        assert await owners.of_peer(one.transport, left, SERVER) == OWNERLESS
        owners._read = unread
        assert await owners.of_peer(two.transport, CLIENT, SERVER) == 33


async def test_all_of_asyncios_threads_may_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(asyncio, "to_thread", hangs)
    async with connection() as (ours, _):
        assert await Owners(lambda: HEAD + V4, unknown).of_peer(ours.transport, CLIENT, SERVER) == 33


async def test_without_a_thread_left_nobody_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    async with connection() as (ours, _):
        assert await Owners(lambda: HEAD + V4, unknown).of_peer(ours.transport, CLIENT, SERVER) == OWNERLESS


async def test_a_machine_without_tables_does_not_tell() -> None:
    async with connection() as (ours, _):
        assert await Owners(lambda: None, unknown).of_peer(ours.transport, CLIENT, SERVER) is None


async def test_a_table_that_never_comes_counts_as_nobody() -> None:
    go = threading.Event()

    def read() -> str:
        assert go.wait(5)
        return HEAD + V4

    async with connection() as (ours, _):
        assert await Owners(read, unknown, deadline_s=0.02).of_peer(ours.transport, CLIENT, SERVER) == OWNERLESS
        go.set()
