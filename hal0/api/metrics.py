"""`/metrics`: everything that hal0 counts, in Prometheus' text format."""

import asyncio
from collections.abc import Iterator

from aiohttp import web

from hal0.observe.exposition import CONTENT_TYPE, Family, render
from hal0.observe.process import process_families
from hal0.services import SERVICES, Services
from hal0.vocab import SlotState
from hal0.wire.upstreams import UpstreamState


async def show(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    past = services.past
    past.decisions.flush()
    engines = await past.engines.families()
    own = await asyncio.to_thread(process_families, services.about.started_at)
    families = (
        *_about(services),
        *past.requests.families(),
        *_slots(services),
        *past.slots.families(),
        *_upstreams(services),
        *past.lag.families(),
        *_history(services),
        *own,
        *engines,
    )
    return web.Response(body=render(families), headers={"Content-Type": CONTENT_TYPE})


def _about(services: Services) -> Iterator[Family]:
    build = Family("hal0_build_info", "gauge", "Which hal0 this is.")
    build.add(1, version=services.about.version, instance=services.about.instance)
    yield build


def _slots(services: Services) -> Iterator[Family]:
    state = Family("hal0_slot_state", "gauge", "1 for the state that the slot is in.")
    in_flight = Family("hal0_slot_requests_in_flight", "gauge", "Requests under way in the slot.")
    queued = Family("hal0_slot_requests_queued", "gauge", "Requests that wait at the slot's gate, queued or held.")
    memory = Family("hal0_slot_memory_bytes", "gauge", "Memory of the slot's container, when it was measured last.")
    for slot in services.supervisor.views():
        for word in SlotState:
            state.add(slot.state is word, slot=slot.name, state=word)
        in_flight.add(slot.in_flight, slot=slot.name)
        queued.add(slot.queued, slot=slot.name)
        if slot.memory_bytes is not None:
            memory.add(slot.memory_bytes, slot=slot.name)
    yield from (state, in_flight, queued, memory)


def _upstreams(services: Services) -> Iterator[Family]:
    state = Family("hal0_upstream_state", "gauge", "1 for the state that the upstream is in.")
    in_flight = Family("hal0_upstream_requests_in_flight", "gauge", "Requests under way at the upstream.")
    models = Family("hal0_upstream_models", "gauge", "Models that the upstream offers here.")
    closed = Family("hal0_upstream_circuit_closed", "gauge", "1 while requests may go to the upstream.")
    for it in services.upstreams.views():
        for word in UpstreamState:
            state.add(it.state is word, upstream=it.name, state=word)
        in_flight.add(it.in_flight, upstream=it.name)
        closed.add(it.circuit.retry_at is None, upstream=it.name)
        if it.models is not None:
            models.add(it.models, upstream=it.name)
    yield from (state, in_flight, models, closed)


def _history(services: Services) -> Iterator[Family]:
    health = services.past.history.health()
    values = (
        ("records_written_total", "Requests written to the history.", health.written),
        ("records_dropped_total", "Requests that could not be written.", health.dropped),
        ("records_waiting", "Entries that are still to be written.", health.waiting),
        ("size_bytes", "What the history takes of the disk.", health.size_bytes),
        ("up", "1 while the history can be written.", health.problem is None),
    )
    for name, told, value in values:
        family = Family(f"hal0_history_{name}", "counter" if name.endswith("_total") else "gauge", told)
        family.add(value)
        yield family
