"""The key of an upstream: found where the configuration says, or a typed error; never a request without it."""

from collections.abc import Mapping
from typing import Final

from hal0.config.upstreams import AuthConfig, AuthStyle
from hal0.errors import Hal0Error

# What may stand in a header's value: visible ASCII. A key with anything else was copied wrongly.
_VISIBLE: Final = frozenset(map(chr, range(0x21, 0x7F)))


def key_header(upstream: str, auth: AuthConfig, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The header that carries the key; None where none is asked for. Raises upstream.auth."""
    if auth.style is AuthStyle.NONE:
        return None
    key = _key(upstream, auth, environ)
    if auth.style is AuthStyle.BEARER:
        return "Authorization", f"Bearer {key}"
    assert auth.header is not None  # AuthConfig requires it
    return auth.header, key


def _key(upstream: str, auth: AuthConfig, environ: Mapping[str, str]) -> str:
    """The environment wins over the file: it is where a key is renewed."""
    if auth.env is not None and (value := environ.get(auth.env, "").strip()):
        return _sound(upstream, value, f"the variable {auth.env}")
    if auth.secret is not None and (value := auth.secret.get_secret_value().strip()):
        return _sound(upstream, value, "auth.secret")
    where = f"the variable {auth.env} is not set" if auth.env is not None else "auth.secret is empty"
    raise _missing(upstream, where)


def _sound(upstream: str, key: str, where: str) -> str:
    if not _VISIBLE.issuperset(key):
        raise _missing(upstream, f"{where} holds characters that no key has")
    return key


def _missing(upstream: str, why: str) -> Hal0Error:
    return Hal0Error(
        "upstream.auth",
        f"cannot ask upstream {upstream!r}: {why}",
        details={"upstream": upstream},
        hint=f"Set the key where hal0 is started, or `auth` in [upstreams.{upstream}].",
    )
