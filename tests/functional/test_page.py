"""The page at `/` over HTTP: its files, their types, and how they are kept by browsers."""

import pytest

from hal0.paths import Paths
from tests.functional.operator_app import operator


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/assets/style.css", "text/css"), ("/assets/icon.svg", "image/svg+xml")],
)
async def test_each_file_is_served_once_and_then_confirmed(
    paths: Paths, port_block: range, path: str, kind: str
) -> None:
    async with operator(paths, port_block) as hal0, hal0.tcp.get(path) as first:
        assert (first.status, first.content_type) == (200, kind)
        assert first.headers["Content-Security-Policy"].startswith("default-src 'self'")
        etag = first.headers["ETag"]
        async with hal0.tcp.get(path, headers={"If-None-Match": etag}) as again:
            assert (again.status, await again.read()) == (304, b"")
            assert again.headers["ETag"] == etag
        async with hal0.tcp.get(path, headers={"If-None-Match": '"other"'}) as other:
            assert other.status == 200


@pytest.mark.parametrize("path", ["/assets/nothing.css", "/assets/..%2f..%2fpyproject.toml", "/assets/"])
async def test_nothing_else_is_served(paths: Paths, port_block: range, path: str) -> None:
    async with operator(paths, port_block) as hal0, hal0.tcp.get(path) as answer:
        assert answer.status == 404
        assert "[project]" not in await answer.text()
