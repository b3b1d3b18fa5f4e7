"""`/api/capabilities`: the cards, their switches, and their test buttons."""

from typing import Final

from aiohttp import web

from hal0.api.exchange import answer, body_as, number
from hal0.api.jobs import started, waiting
from hal0.services import SERVICES
from hal0.wire.base import NothingView
from hal0.wire.capabilities import PlanView, SelectRequest

_TRY_S: Final = 120.0  # a cold load of a mid-sized model
_LONGEST_TRY_S: Final = 600.0


async def list_cards(request: web.Request) -> web.Response:
    return answer(await request.app[SERVICES].capabilities.cards())


async def get_card(request: web.Request) -> web.Response:
    return answer(await request.app[SERVICES].capabilities.card(request.match_info["card"]))


async def select(request: web.Request) -> web.Response:
    wait_s, body = waiting(request), await body_as(request, SelectRequest)
    card, child = request.match_info["card"], request.match_info["child"]
    return await started(await request.app[SERVICES].capabilities.select(card, child, body), wait_s)


async def plan(request: web.Request) -> web.Response:
    body = await body_as(request, SelectRequest)
    card, child = request.match_info["card"], request.match_info["child"]
    made = await request.app[SERVICES].capabilities.plan(card, child, body)
    return answer(
        PlanView(
            slot=made.child.slot,
            creates=made.creates,
            model=made.model,
            fields=dict(made.fields),
            steps=list(made.steps),
        )
    )


async def test(request: web.Request) -> web.Response:
    """Answers 200 also when it does not work: then `ok` is false, with the code that a client would get."""
    await body_as(request, NothingView)
    timeout_s = number(request, "timeout_s", _TRY_S, most=_LONGEST_TRY_S)
    card, child = request.match_info["card"], request.match_info["child"]
    return answer(await request.app[SERVICES].capabilities.test(card, child, timeout_s=timeout_s))
