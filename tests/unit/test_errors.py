"""The error table and its rendering."""

import re

import pytest

from hal0.errors import TABLE, Hal0Error, error_type


@pytest.mark.parametrize("code", TABLE)
def test_every_row_is_fit_to_be_shown(code: str) -> None:
    spec = TABLE[code]
    assert re.fullmatch(r"[a-z0-9]+\.[a-z_]+", code)
    assert 400 <= spec.status <= 599
    assert spec.title
    assert not spec.title.endswith(".")
    assert spec.hint
    assert spec.retry is False or spec.status in (429, 502, 503), "only what passes by itself is worth a retry"


def test_the_table_cannot_be_changed_at_run_time() -> None:
    with pytest.raises(TypeError):
        TABLE["slot.loading"] = TABLE["slot.offline"]  # type: ignore[index]


def test_a_code_outside_the_table_is_a_mistake_at_once() -> None:
    with pytest.raises(KeyError):
        Hal0Error("slot.unheard_of", "cannot do anything")


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.5, "60"), (3600, "60"), (float("inf"), "60")],
)
def test_retry_after_is_whole_seconds_within_what_clients_heed(seconds: float, header: str) -> None:
    error = Hal0Error("slot.loading", "cannot answer yet", retry_after_s=seconds)
    assert error.headers() == {"x-should-retry": "true", "Retry-After": header}


def test_the_true_figure_is_in_the_details() -> None:
    error = Hal0Error("slot.loading", "cannot answer yet", details={"slot": "primary"}, retry_after_s=123.45678)
    body = error.body("req-1")["error"]
    assert body["details"] == {"slot": "primary", "retry_after_s": 123.457}
    assert error.details == {"slot": "primary"}, "rendering changes nothing"


def test_the_envelope_has_every_member() -> None:
    error = Hal0Error("config.invalid", "cannot use this", param="port", hint="Use a number.")
    assert error.headers() == {"x-should-retry": "false"}
    assert error.body() == {
        "error": {
            "message": "cannot use this",
            "type": "invalid_request_error",
            "param": "port",
            "code": "config.invalid",
            "details": {},
            "hint": "Use a number.",
            "request_id": None,
        }
    }


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "invalid_request_error"),
        (421, "permission_error"),
        (429, "rate_limit_error"),
        (499, "invalid_request_error"),
        (500, "server_error"),
        (507, "server_error"),
    ],
)
def test_types_are_those_that_openai_clients_expect(status: int, name: str) -> None:
    assert error_type(status) == name
