"""A bounded, numbered history: the last N items, or as many as N bytes hold, and where a reader left off."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Ring(Generic[T]):
    """Keeps the last `capacity` items; sequence numbers start at 1 and never repeat.

    Fewer where these are more than `most_bytes`, each of its `size`.
    """

    def __init__(self, capacity: int, *, most_bytes: int = 0, size: Callable[[T], int] = lambda _item: 0) -> None:
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._size = size
        self._items: deque[tuple[int, T]] = deque()
        self._seq = 0
        self._bytes = 0

    @property
    def last_seq(self) -> int:
        return self._seq

    def append(self, item: T) -> int:
        self._seq += 1
        self._items.append((self._seq, item))
        self._bytes += self._size(item)
        while len(self._items) > self._capacity or self._bytes > self._most_bytes:
            self._bytes -= self._size(self._items.popleft()[1])
        return self._seq

    def skip(self) -> None:
        """Something came that nobody keeps: there is no going on from before it."""
        self._seq += 1
        self._items.clear()
        self._bytes = 0

    def since(self, seq: int) -> list[tuple[int, T]] | None:
        """Items after `seq`, or None when some of them are already forgotten (or `seq` is from the future)."""
        if seq > self._seq:
            return None
        oldest = self._items[0][0] if self._items else self._seq + 1
        if seq + 1 < oldest:
            return None
        return [(n, item) for n, item in self._items if n > seq]

    def __iter__(self) -> Iterator[T]:
        return (item for _, item in self._items)

    def __len__(self) -> int:
        return len(self._items)
