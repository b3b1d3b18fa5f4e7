"""What ends with the old text of a key when it is rotated, and what stays when that cannot be written."""

import asyncio

import pytest

from hal0.access.principal import Principal
from hal0.errors import Hal0Error
from hal0.paths import Paths
from hal0.vocab import Scope
from tests.unit.access.test_keyring import HOUR_S, House


@pytest.fixture
def house(paths: Paths) -> House:
    return House(paths)


@pytest.mark.parametrize("grace_s", [0.0, 60.0])
async def test_who_signed_in_with_a_text_leaves_with_it(house: House, grace_s: float) -> None:
    """Whoever rotates a key that others may know wants them out, browsers and unused links included."""
    admin, old = await house.key("admin", scopes=(Scope.ADMIN,))
    told: list[tuple[str, float]] = []
    house.parts.store.on_ending(lambda proof_id, at: told.append((proof_id, at)))
    sessions, principal = house.parts.sessions, admin.principal(old)
    session, cookie = await sessions.open(admin.id, None)
    word, _ = sessions.link(principal)
    over = house.clock.at + grace_s
    _, text = await house.parts.keyring.rotate("admin", grace_s=grace_s)
    if grace_s:
        assert (admin.id, over) in told
        assert (session.id, over) in told
        by_old = admin_of(house, old)
        assert by_old.until == over
        within, theirs = await sessions.sign_in(sessions.link(by_old)[0])
        assert (within.until, within.expires_at) == (over, over)
        assert sessions.recognise(theirs)
    house.clock.at += grace_s
    for parts in (house.parts, await house.again()):
        assert parts.sessions.recognise(cookie) is None
    with pytest.raises(Hal0Error, match="used already"):
        await sessions.sign_in(word)
    house.clock.at += 1
    own, mine = await sessions.sign_in(sessions.link(admin_of(house, text))[0])
    house.clock.at += HOUR_S
    assert (own.until, sessions.recognise(mine)) == (None, own)


def admin_of(house: House, text: str) -> Principal:
    record = house.parts.keyring.recognise(text)
    assert record is not None
    return record.principal(text)


async def test_a_rotation_that_fails_brings_no_revoked_key_back(house: House) -> None:
    record, text = await house.key()
    session, cookie = await house.parts.sessions.open(record.id, None)
    house.paths.keys_file.unlink()
    house.paths.keys_file.mkdir()  # a rename onto a directory fails
    with pytest.raises(Hal0Error):
        await house.parts.keyring.rotate(record.id, grace_s=0)
    assert house.parts.sessions.recognise(cookie) == session  # nothing has changed
    changes = (house.parts.keyring.rotate(record.id, grace_s=0), house.parts.keyring.revoke(record.id))
    ended = await asyncio.gather(*changes, return_exceptions=True)
    assert [getattr(error, "code", None) for error in ended] == ["state.write_failed"] * 2
    assert house.parts.keyring.recognise(text) is None
    assert house.parts.sessions.recognise(cookie) is None
