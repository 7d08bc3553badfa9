"""What follows from immutable records alone, kept as long as it is recent."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Memo"]

T = TypeVar("T")


class Memo:
    """Derived values by the identity of the records that they follow from.

    Records don't change, so one object always gives one value; and an entry holds its records, so that an identity
    is never taken over by another object while it counts. Equality would ask for a hash over every field of a
    machine, which costs more than most of what is kept.

    Bounded: a full memo starts anew. Threads may derive a value twice; they get equal ones.

    Parameters
    ----------
    most
        Entries kept at most.

    Examples
    --------
    >>> memo, record = Memo(2), object()
    >>> memo.get((record,), ("a",), lambda: 1), memo.get((record,), ("a",), lambda: 2)
    (1, 1)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[Hashable, tuple[tuple[object, ...], Any]] = {}

    def get(self, records: tuple[object, ...], values: Hashable, derive: Callable[[], T]) -> T:
        """The value that follows from records (by identity) and plain values (by equality)."""
        key = (*map(id, records), values)
        found = self._kept.get(key)
        if found is None:
            found = (records, derive())
            if len(self._kept) >= self._most:
                self._kept = {}
            self._kept[key] = found
        value: T = found[1]
        return value

    def __len__(self) -> int:
        return len(self._kept)
