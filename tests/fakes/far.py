"""A server far away for whoever calls addresses: names that lead to it, and to what must not be called."""

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from hal0.outbound.rules import refusal

FAR = "far.example"
Answer = Callable[[web.Request], web.StreamResponse]


class Names(AbstractResolver):
    """`lead` says which addresses a name has; each answer is taken from the list, the last one again and again."""

    def __init__(self, lead: Mapping[str, list[list[str]]]) -> None:
        self._lead = {name: list(answers) for name, answers in lead.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self._lead.get(host)
        if not answers:
            raise OSError(None, "no such name")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def as_if_public(address: str) -> str | None:
    """The rules of remote media, but for the one address at which tests can listen."""
    return None if address == "127.0.0.1" else refusal(address, private=False)


@asynccontextmanager
async def far(answer: Answer) -> AsyncIterator[int]:
    """Answers every GET; yields its port."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
