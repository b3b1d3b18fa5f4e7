"""Keys and sessions: made, recognised, limited, rotated, ended, and what of them lies on the disk."""

import asyncio
import re
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.access.keyring import KeyDraft
from hal0.access.keys import SESSION_S, KeyRecord, SessionRecord
from hal0.access.limits import Buckets, FailedTries, site_of
from hal0.access.parts import AccessParts, access_parts, open_access
from hal0.access.principal import OPERATOR, Principal
from hal0.access.records import AccessRecords, DamagedKeysError, NewerKeysError, dump, load
from hal0.access.sessions import LINK_S
from hal0.errors import Hal0Error
from hal0.paths import Paths
from hal0.vocab import Scope, SlotName

HOUR_S = 3600.0


@dataclass
class Now:
    at: float = 1_000_000.0

    def now(self) -> float:
        return self.at


@dataclass
class House:
    """The parts on a disk of their own; `ended` are the ids whose connections were told to end."""

    paths: Paths
    clock: Now = field(default_factory=Now)
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.paths.state_dir.mkdir(parents=True, exist_ok=True)
        self.parts = access_parts(self.paths, self.clock)
        self.parts.store.on_ended(self.ended.append)

    async def key(self, label: str = "laptop", **wishes: object) -> tuple[KeyRecord, str]:
        draft = KeyDraft(label=label, scopes=(Scope.INFERENCE,))
        return await self.parts.keyring.create(replace(draft, **wishes))  # type: ignore[arg-type]

    async def again(self) -> AccessParts:
        """What the next start finds."""
        parts = access_parts(self.paths, self.clock)
        assert await asyncio.to_thread(parts.store.load)
        return parts

    def on_disk(self) -> str:
        return self.paths.keys_file.read_text()


@pytest.fixture
def house(paths: Paths) -> House:
    return House(paths)


async def test_a_key_is_recognised_now_and_after_a_restart(house: House) -> None:
    record, text = await house.key(slots=(SlotName("primary"),), rate_per_minute=5, expires_in_s=HOUR_S)
    assert re.fullmatch(rf"hal0_{record.id}_[0-9a-f]{{64}}", text)
    for parts in (house.parts, await house.again()):
        found = parts.keyring.recognise(text)
        assert found == record
        assert found.principal(text) == Principal(
            frozenset({Scope.INFERENCE}),
            key_id=record.id,
            slots=frozenset({SlotName("primary")}),
            until=record.expires_at,
        )


async def test_the_disk_holds_no_secret_and_nobody_else_may_read_it(house: House) -> None:
    _, text = await house.key()
    _, cookie = await house.parts.sessions.open(None, None)
    assert text.split("_")[2] not in house.on_disk()
    assert cookie.split("_")[1] not in house.on_disk()
    assert house.paths.keys_file.stat().st_mode & 0o777 == 0o600


async def test_what_is_not_quite_the_key_is_nothing(house: House) -> None:
    record, text = await house.key()
    other, _ = await house.key("other")
    flipped = text[:-1] + ("0" if text[-1] != "0" else "1")
    swapped = text.replace(record.id, other.id)
    for wrong in (flipped, swapped, text.upper(), text + "0", text[:-1], f"{text}\n", "", "hal0__", "sk-none"):
        assert house.parts.keyring.recognise(wrong) is None


async def test_a_key_ends_when_it_said(house: House) -> None:
    record, text = await house.key(expires_in_s=HOUR_S)
    house.clock.at += HOUR_S - 1
    assert house.parts.keyring.recognise(text)
    house.clock.at += 1
    assert house.parts.keyring.recognise(text) is None
    with pytest.raises(Hal0Error, match="not valid any more"):  # a connection that remembers it asks here
        house.parts.keyring.use(record.id)


async def test_the_old_text_of_a_key_is_good_for_its_grace_alone(house: House) -> None:
    _, old = await house.key(expires_in_s=HOUR_S)
    record, new = await house.parts.keyring.rotate("laptop", grace_s=60)
    assert record.principal(old).until == house.clock.at + 60
    assert record.principal(new).until == record.expires_at


async def test_a_session_ends_with_the_key_that_it_goes_back_to(house: House) -> None:
    """Else a key that is good for an hour would open a door for ever."""
    admin, _ = await house.key("admin", scopes=(Scope.ADMIN,), expires_in_s=HOUR_S)
    session, cookie = await house.parts.sessions.open(admin.id, None)
    assert house.parts.sessions.principal(session).until == admin.expires_at
    house.clock.at += HOUR_S
    assert house.parts.sessions.recognise(cookie) is None
    with pytest.raises(Hal0Error, match="has ended"):
        house.parts.sessions.use(session.id)


async def test_a_revoked_key_is_nothing_and_what_it_has_open_ends(house: House) -> None:
    admin, text = await house.key("admin", scopes=(Scope.ADMIN,))
    word, _ = house.parts.sessions.link(Principal(frozenset({Scope.ADMIN}), key_id=admin.id))
    unused, _ = house.parts.sessions.link(Principal(frozenset({Scope.ADMIN}), key_id=admin.id))
    session, cookie = await house.parts.sessions.sign_in(word)
    version = house.parts.store.version
    await house.parts.keyring.revoke("admin")
    assert house.ended == [admin.id, session.id]
    assert house.parts.store.version > version
    for parts in (house.parts, await house.again()):
        assert parts.keyring.recognise(text) is None
        assert parts.sessions.recognise(cookie) is None
    with pytest.raises(Hal0Error, match="used already"):
        await house.parts.sessions.sign_in(unused)


async def test_a_rotated_key_is_good_under_its_old_text_for_the_grace_only(house: House) -> None:
    record, old = await house.key()
    rotated, new = await house.parts.keyring.rotate(record.id, grace_s=HOUR_S)
    assert (rotated.id, rotated.label, house.ended) == (record.id, record.label, [])
    recognise = house.parts.keyring.recognise
    assert recognise(old) == recognise(new) == rotated
    house.clock.at += HOUR_S
    assert recognise(old) is None
    _, newest = await house.parts.keyring.rotate("laptop", grace_s=0)
    assert recognise(new) is None
    assert recognise(newest)
    assert house.ended == [record.id]


async def test_a_rate_is_kept_to(house: House) -> None:
    record, _ = await house.key(rate_per_minute=3)
    for _ in range(3):
        house.parts.keyring.use(record.id)
    with pytest.raises(Hal0Error) as refused:
        house.parts.keyring.use(record.id)
    assert refused.value.code == "auth.rate_limited"
    assert refused.value.retry_after_s == pytest.approx(20)
    house.clock.at += 20
    house.parts.keyring.use(record.id)


async def test_last_used_reaches_the_disk_without_a_write_per_request(house: House) -> None:
    record, _ = await house.key()
    before = house.on_disk()
    house.clock.at += 5
    for _ in range(100):
        house.parts.keyring.use(record.id)
    assert house.parts.keyring.records()[0].last_used == house.clock.at
    assert house.on_disk() == before
    await house.parts.store.close()
    assert (await house.again()).keyring.records()[0].last_used == house.clock.at


@pytest.mark.parametrize(
    "wishes", [{"label": "laptop"}, {"label": "x", "slots": (SlotName("embed"),), "scopes": (Scope.ADMIN,)}]
)
async def test_a_key_that_makes_no_sense_is_not_made(house: House, wishes: dict[str, object]) -> None:
    await house.key()
    with pytest.raises(Hal0Error) as refused:
        await house.key(**wishes)  # type: ignore[arg-type]
    assert refused.value.code == "request.invalid"
    assert len(house.parts.keyring.records()) == 1


async def test_a_disk_that_takes_nothing_leaves_no_key_that_a_restart_forgets(house: House) -> None:
    record, text = await house.key()
    house.paths.keys_file.unlink()
    house.paths.keys_file.mkdir()  # a rename onto a directory fails
    for change in (house.key("second"), house.parts.keyring.rotate(record.id, grace_s=0)):
        with pytest.raises(Hal0Error) as refused:
            await change
        assert refused.value.code == "state.write_failed"
    assert [key.label for key in house.parts.keyring.records()] == ["laptop"]
    assert house.parts.keyring.recognise(text)
    with pytest.raises(Hal0Error, match=r"keys\.json"):
        await house.parts.keyring.revoke(record.id)
    assert house.parts.keyring.recognise(text) is None  # revoked all the same


async def test_a_link_signs_in_once_and_not_for_long(house: House) -> None:
    sessions = house.parts.sessions
    word, until = sessions.link(OPERATOR)
    assert until == house.clock.at + LINK_S
    await sessions.sign_in(word)
    late, _ = sessions.link(OPERATOR)
    house.clock.at += LINK_S
    for spent in (word, late, "", "nonsense"):
        with pytest.raises(Hal0Error) as refused:
            await sessions.sign_in(spent)
        assert (refused.value.code, "hal0ctl open" in refused.value.hint) == ("auth.required", True)


async def test_a_session_lasts_while_it_is_used(house: House) -> None:
    record, cookie = await house.parts.sessions.open(None, None)
    for _ in range(3):
        house.clock.at += SESSION_S - 1
        assert house.parts.sessions.recognise(cookie)
        house.parts.sessions.use(record.id)
    assert (await house.again()).sessions.recognise(cookie) is None  # lazily written: a restart may forget an hour
    await house.parts.store.save()
    assert (await house.again()).sessions.recognise(cookie)
    house.clock.at += SESSION_S
    assert house.parts.sessions.recognise(cookie) is None
    with pytest.raises(Hal0Error, match="session has ended"):
        house.parts.sessions.use(record.id)


async def test_signing_out_ends_the_session_everywhere(house: House) -> None:
    record, cookie = await house.parts.sessions.open(None, None)
    _, other = await house.parts.sessions.open(None, None)
    await house.parts.sessions.sign_out(record.id)
    assert house.ended == [record.id]
    assert house.parts.sessions.recognise(cookie) is None
    assert house.parts.sessions.recognise(other)


async def test_sessions_do_not_pile_up(house: House) -> None:
    first, _ = await house.parts.sessions.open(None, None)
    for number in range(300):
        house.parts.store.sessions[f"{number:08x}"] = SessionRecord(
            id=f"{number:08x}", hash="", created_at=0, last_used=house.clock.at + 1
        )
    await house.parts.sessions.open(None, None)
    assert len(house.parts.store.sessions) == 256
    assert first.id in house.ended


async def test_the_first_start_makes_an_admin_key_and_the_second_does_not(
    house: House, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    async with open_access(house.paths, house.clock) as parts:
        pass
    file = house.paths.admin_key_file
    text = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    found = parts.keyring.recognise(text)
    assert found is not None
    assert (found.label, found.scopes) == ("admin", (Scope.ADMIN,))
    async with open_access(house.paths, house.clock) as again:
        pass
    assert [key.id for key in again.keyring.records()] == [found.id]
    assert str(file) in caplog.text
    assert text not in caplog.text + "".join(capsys.readouterr())  # nobody looks: no terminal
    await asyncio.to_thread(again.sessions.forget_admin_key)
    assert not file.exists()
    await asyncio.to_thread(again.sessions.forget_admin_key)


async def test_a_terminal_is_shown_the_first_key(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    async with open_access(house.paths, house.clock):
        pass
    assert house.paths.admin_key_file.read_text() in capsys.readouterr().err


async def test_a_mode_that_lets_others_read_is_mended_and_said(house: House, caplog: pytest.LogCaptureFixture) -> None:
    _, text = await house.key()
    house.paths.keys_file.chmod(0o644)
    assert (await house.again()).keyring.recognise(text)
    assert house.paths.keys_file.stat().st_mode & 0o777 == 0o600
    assert "644" in caplog.text


async def test_a_file_of_a_newer_hal0_is_left_alone(house: House) -> None:
    house.paths.keys_file.write_text('{"schema": 2, "who": "knows"}')
    with pytest.raises(Hal0Error, match=r"keys\.json") as refused:
        await open_access(house.paths, house.clock).__aenter__()
    assert refused.value.code == "state.newer"
    assert house.on_disk() == '{"schema": 2, "who": "knows"}'


async def test_a_damaged_file_is_moved_aside_said_loudly_and_keys_are_made_anew(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    _, text = await house.key()
    damaged = house.on_disk().encode()[:-40]
    house.paths.keys_file.write_bytes(damaged)
    async with open_access(house.paths, house.clock) as house.parts:
        pass
    assert house.parts.keyring.recognise(text) is None
    assert house.parts.keyring.records() == []  # no admin key by itself: whoever damaged the file would get one
    assert not house.paths.admin_key_file.exists()
    assert house.paths.keys_file.with_name("keys.json.damaged").read_bytes() == damaged
    assert house.parts.store.problem is not None
    assert "hal0ctl key create" in house.parts.store.problem
    assert house.parts.store.problem in caplog.text
    _, fresh = await house.key("admin", scopes=(Scope.ADMIN,))
    assert (await house.again()).keyring.recognise(fresh)


WHOLE = dump(
    AccessRecords(
        keys=(
            KeyRecord(id="00000001", label="a", hash="a" * 64, scopes=(Scope.READ,), created_at=1.0, expires_at=9.0),
            KeyRecord(id="00000002", label="b", hash="b" * 64, scopes=(Scope.INFERENCE,), slots=(SlotName("embed"),),
                      rate_per_minute=5, created_at=1.0, old_hash="c" * 64, old_until=3.0),
        ),
        sessions=(SessionRecord(id="00000003", hash="d" * 64, created_at=1.0, last_used=2.0, key_id="00000001"),),
    )
)  # fmt: skip


def test_records_survive_the_disk() -> None:
    assert dump(load(WHOLE)) == WHOLE


@given(cut=st.integers(0, len(WHOLE) - 2), put=st.binary(max_size=12), drop=st.integers(0, 60))
def test_whatever_the_file_says_is_read_whole_or_called_damaged(cut: int, put: bytes, drop: int) -> None:
    """Never another failure, and what the message repeats of the file is no secret."""
    said = ""
    try:
        assert dump(load(WHOLE[:cut] + put + WHOLE[cut + drop :]))
    except (DamagedKeysError, NewerKeysError) as err:
        said = str(err)
    assert not re.search(r"[0-9a-f]{16}", said)


@given(st.integers(1, 600), st.lists(st.floats(0, 5), max_size=200))
def test_never_more_than_the_rate_in_any_minute(per_minute: int, pauses: list[float]) -> None:
    buckets, now, taken = Buckets(), 0.0, []
    for pause in pauses:
        now += pause
        if not buckets.take("key", per_minute, now):
            taken.append(now)
    for at in taken:
        # At once and within the minute after: twice the rate is the most that a bucket can give.
        assert sum(at <= other <= at + 60 for other in taken) <= 2 * per_minute + 1


def test_failed_tries_are_counted_per_household_and_forgotten() -> None:
    tries = FailedTries()
    assert [tries.failed("192.168.1.7", 0.0) for _ in range(10)] == [0.0] * 10
    assert tries.failed("192.168.1.7", 0.0) == pytest.approx(6, abs=0.01)
    assert tries.failed("::ffff:192.168.1.7", 0.0) > 0
    assert tries.failed("192.168.1.8", 0.0) == 0.0
    assert tries.failed("192.168.1.7", 6.1) == 0.0
    assert site_of("2001:db8::1") == site_of("2001:db8::ffff") != site_of("2001:db8:0:1::1")


def test_counting_takes_no_more_memory_than_it_may() -> None:
    buckets = Buckets(most=4)
    for number in range(100):
        buckets.take(str(number), 1, 0.0)
    assert len(buckets._buckets) == 4
