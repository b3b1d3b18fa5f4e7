"""`/api/health` and `/api/status`: how hal0 is, for everybody in short, for the operator in full."""

import asyncio
from collections import Counter
from typing import Final

from aiohttp import web

from hal0.api.exchange import answer
from hal0.api.middleware import PRINCIPAL_KEY
from hal0.engine.checks import Check
from hal0.engine.checks import CheckState as Found
from hal0.engine.service import Source
from hal0.hardware import memory
from hal0.services import SERVICES, Services
from hal0.slots import checks as slot_checks
from hal0.vocab import Access, SlotState
from hal0.wire.slots import SlotView
from hal0.wire.system import CheckState, CheckView, EngineView, HealthSummaryView, HealthView, StatusView
from hal0.wire.upstreams import UpstreamState

# What only a person can mend; an upstream that does not answer comes back by itself.
_KEY_TROUBLE: Final = (UpstreamState.KEY_MISSING, UpstreamState.KEY_REJECTED)


async def health(request: web.Request) -> web.Response:
    """Strangers learn whether hal0 works, not where and on what it runs."""
    services = request.app[SERVICES]
    slots = services.supervisor.views()
    state, states = _state(services, slots), {slot.name: slot.state.value for slot in slots}
    if not request[PRINCIPAL_KEY].may(Access.READ):
        return answer(HealthSummaryView(status=state, version=services.about.version, slots=states))
    return answer(
        HealthView(
            status=state,
            version=services.about.version,
            instance=services.about.instance,
            pid=services.about.pid,
            uptime_s=_uptime_s(services),
            engine=_engine(services),
            slots=states,
            checks=[_check(check) for check in (*_checks(services), *_of_slots(services, slots))],
        )
    )


async def status(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    about, slots = services.about, services.supervisor.views()
    ram = await asyncio.to_thread(memory.read)
    counted = Counter(slot.state for slot in slots)
    return answer(
        StatusView(
            version=about.version,
            instance=about.instance,
            pid=about.pid,
            url=about.url,
            socket=str(about.socket),
            uptime_s=_uptime_s(services),
            in_flight=sum(slot.in_flight for slot in slots),
            slots={state.value: counted[state] for state in SlotState},
            memory_total_bytes=ram.total_bytes,
            memory_available_bytes=ram.available_bytes,
            gpus=services.supervisor.gpus(),
            attention=attention(services, slots),
            config_file=str(about.paths.config_file),
            state_dir=str(about.paths.state_dir),
        )
    )


def _state(services: Services, slots: list[SlotView]) -> str:
    if not slots:
        return "starting"
    return "degraded" if attention(services, slots) else "ok"


def attention(services: Services, slots: list[SlotView]) -> list[str]:
    """What somebody should look at, one sentence each."""
    failed = [slot for slot in slots if slot.state is SlotState.ERROR]
    if not services.supervisor.engine_up:  # then that is the one thing to say, not once per slot
        failed = [slot for slot in failed if slot.failure is None or not slot.failure.code.startswith("engine.")]
    lines = [f"keys: {services.access.store.problem}"] if services.access.store.problem is not None else []
    lines += [f"slot {slot.name}: {slot.message}" for slot in failed]
    lines += [f"slot {slot.name}: its state could not be written to disk" for slot in slots if slot.unsaved]
    lines += [f"{check.name}: {check.message}" for check in _checks(services) if check.state is Found.FAIL]
    lines += [f"upstream {it.name}: {it.message}" for it in services.upstreams.views() if it.state in _KEY_TROUBLE]
    lines += [f"model: {problem.message}" for problem in services.registry.problems()]
    if not services.supervisor.engine_up and services.service().problem is None:
        lines.append("podman: it does not answer")
    return lines


def _engine(services: Services) -> EngineView:
    found = services.service()
    return EngineView(
        reachable=services.supervisor.engine_up,
        version=found.version,
        socket=str(found.socket),
        own_service=found.source is Source.OWN,
    )


def _checks(services: Services) -> list[Check]:
    return [*services.checks(), _configuration(services), _history(services)]


def _of_slots(services: Services, slots: list[SlotView]) -> list[Check]:
    return slot_checks.checks(slots, engine_up=services.supervisor.engine_up)


def _configuration(services: Services) -> Check:
    """Whether what somebody saved is what hal0 goes by."""
    problem = services.config_problem()
    if problem is not None:
        return Check("configuration", Found.FAIL, f"the saved files are not in force: {problem.message}", problem.hint)
    return Check("configuration", Found.OK, f"{services.about.paths.config_file} is in force")


def _history(services: Services) -> Check:
    """Whether what happens is remembered; records that were lost are said until the next start."""
    health = services.past.history.health()
    lost = f"; {health.dropped} requests were lost" if health.dropped else ""
    if health.problem is not None:
        fix = "free space on the state directory's disk, or make the file writable"
        return Check("history", Found.FAIL, f"{health.problem}; {health.waiting} requests wait{lost}", fix)
    if health.note is not None or lost:
        return Check("history", Found.WARN, f"{health.note or 'it is written again'}{lost}")
    if not services.past.history.kept:
        return Check("history", Found.OK, "not kept on disk (dispatch.history_days = 0)")
    return Check("history", Found.OK, f"{services.past.history.file} is written")


def _check(check: Check) -> CheckView:
    return CheckView(name=check.name, state=CheckState(check.state), message=check.message, fix=check.fix or None)


def _uptime_s(services: Services) -> float:
    return round(services.clock.now() - services.about.started_at, 3)
