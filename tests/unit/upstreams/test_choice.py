"""The order of upstreams: priority decides, weight leans, chance is the caller's."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hal0.upstreams.choice import ordered
from hal0.upstreams.snapshot import Hop

HOPS = st.lists(
    st.builds(Hop, st.text(min_size=1, max_size=3), st.just("m"), st.integers(0, 3), st.integers(1, 1000)), max_size=8
)


@given(HOPS, st.integers())
def test_everyone_comes_once_and_the_higher_priority_first(hops: list[Hop], seed: int) -> None:
    found = ordered(hops, random.Random(seed).random)
    assert Counter(found) == Counter(hops)
    assert [hop.priority for hop in found] == sorted((hop.priority for hop in hops), reverse=True)
    assert found == ordered(hops, random.Random(seed).random)


def test_weight_is_the_share_of_first_places() -> None:
    hops = [Hop("heavy", "m", 50, 3), Hop("light", "m", 50, 1)]
    chance = random.Random(7).random
    first = Counter(ordered(hops, chance)[0].upstream for _ in range(4000))
    assert 0.72 < first["heavy"] / 4000 < 0.78


def test_a_chance_of_nought_decides_no_better_than_any_other() -> None:
    assert len(ordered([Hop("a", "m"), Hop("b", "m", weight=1000)], lambda: 0.0)) == 2
