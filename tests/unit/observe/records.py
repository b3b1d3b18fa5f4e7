"""Decision records for tests of what becomes of them."""

from dataclasses import dataclass, replace

from hal0.observe.decisions import DecisionRecord
from hal0.vocab import Rule


@dataclass(frozen=True)
class Tried:
    rule: Rule
    hit: bool
    fact: str


TRIED = (Tried(Rule.ADDRESS, hit=True, fact="fact\nwith a break"),)


def record(request_id: str, **changes: object) -> DecisionRecord:
    plain = DecisionRecord(
        request_id=request_id, at=0.0, key_id=None, method="POST", path="/v1/chat/completions", asked_model="m",
        target="primary", model="m", rule=Rule.ADDRESS, tried=TRIED,
        candidates=("primary",), stream=False, status=200, code=None, queue_position=None, held_ms=0.0, turn_ms=0.0,
        connect_ms=None, first_byte_ms=None, total_ms=1.5, overhead_ms=0.2, bytes_out=3, prompt_tokens=None,
        completion_tokens=None, tokens_per_second=None,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]
