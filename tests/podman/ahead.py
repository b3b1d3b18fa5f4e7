"""Makes what the tests on podman need while others run; who finds something missing still makes it for himself."""

from concurrent.futures import ThreadPoolExecutor

from tests.podman.base import made_base
from tests.podman.engines.world import SEATS
from tests.podman.store import Store


def main() -> None:
    store = Store.filled()
    with ThreadPoolExecutor() as builders:
        made = [builders.submit(store.built, key) for key in {seat.image for seat in SEATS if seat.image}]
        made.append(builders.submit(made_base, store))
    for each in made:
        each.result()


if __name__ == "__main__":
    main()
