"""`hal0ctl key create`: what is asked of hal0, and that the secret is alone on stdout."""

from hal0.cli.exits import Exit
from tests.fakes.api_server import ApiServer
from tests.unit.cli.conftest import Run


def test_a_key_is_made_with_what_was_typed(api: ApiServer, hal0ctl: Run) -> None:
    made = {"label": "ops", "scopes": ["read"], "key": "hal0_secret"}
    api.replies["POST", "/api/keys"] = (201, made)
    ran = hal0ctl("key", "create", "ops", "--scope", "read", "--rate", "5", "--expires", "2h")
    assert (ran.code, ran.out) == (Exit.DONE, "hal0_secret\n")
    asked = {"label": "ops", "scopes": ["read"], "slots": None, "rate_per_minute": 5, "expires_in_s": 7200.0}
    assert api.requests[-1] == ("POST", "/api/keys", asked)
    assert hal0ctl("key", "create", "ops", "--expires", "soon").code == Exit.USAGE
