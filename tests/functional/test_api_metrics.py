"""`/metrics` over real sockets: for who may read, read by Prometheus' own parser."""

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hal0.paths import Paths
from tests.fakes.slots import settled
from tests.functional.operator_app import operator
from tests.functional.test_api_access import CHAT
from tests.functional.test_api_history import ask
from tests.functional.test_api_keys import FOREIGN, bearer, make

NAMING = re.compile(r"(hal0|process)_[a-z_]+\Z")
UNITS = ("_seconds", "_bytes", "_total", "_info", "_state", "_up", "_queued", "_in_flight", "_closed", "_models",
         "_waiting", "_fds", "_threads", "_tasks")  # fmt: skip


@pytest.fixture
async def text(paths: Paths, port_block: range) -> Any:
    async with operator(
        paths, port_block, config={"upstreams": {"far": {"base_url": "http://127.0.0.1:9/v1"}}}
    ) as hal0:
        await ask(hal0)
        await hal0.call("POST", "/api/slots/primary/load?wait=true")
        await settled(lambda: any(True for family in hal0.services.past.slots.families() if family.lines))
        reader, other = await make(hal0, "reader", scopes=["read"]), await make(hal0, "other")
        for key, status in ((reader, 200), (other, 403)):
            async with hal0.tcp.get("/metrics", headers={**FOREIGN, **bearer(key)}) as response:
                assert response.status == status
        assert (await hal0.over_tcp("GET", "/metrics"))[0] == 401
        async with hal0.api.get("/metrics") as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            yield await response.text()


async def test_what_is_told_is_whole_and_named_as_prometheus_wants_it(text: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert len(samples) == len([line for line in text.splitlines() if not line.startswith("#")]), "each is told once"
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert NAMING.match(name), name
            assert name.endswith(UNITS), name
            assert name.endswith("_total") is (kind == "counter"), name
    assert [key for key in samples if key[:2] == ("hal0_requests_total", CHAT)]
    assert samples["hal0_slot_state", "primary", "ready"] + samples["hal0_slot_state", "primary", "idle"] == 1
    assert sum(value for key, value in samples.items() if key[:2] == ("hal0_slot_state", "primary")) == 1
    assert samples["hal0_slot_loads_total", "primary"] == 1
    assert samples["hal0_slot_requests_in_flight", "primary"] == 0
    assert samples["hal0_upstream_circuit_closed", "far"] == 1
    assert samples["hal0_history_up",] == 1
    assert samples["hal0_history_records_dropped_total",] == 0
    assert samples["process_resident_memory_bytes",] > 1 << 20
    assert {"hal0_event_loop_lag_seconds", "hal0_event_loop_tasks"} <= families.keys()
