"""Reduce a sweep as its blocks come: nothing but what is kept stays in memory.

Every function takes tables one after the other (`plan_blocks`, files, a list) and returns one table. What it keeps is
bounded by its answer: one row per group, so many rows, a front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from willitrun.errors import InvalidWorkloadError
from willitrun.planning.fronts import pareto_front
from willitrun.planning.tables import PlanTable, concatenate

__all__ = [
    "best_by",
    "count_by",
    "counted",
    "filtered",
    "pareto",
    "reduce_together",
    "smallest_machine",
    "top",
]

Mask = Callable[[PlanTable], NDArray[np.bool_]]
PENDING_ROWS = 200_000
"""Rows that are gathered before they are reduced again."""


def filtered(blocks: Iterable[PlanTable], where: Mask | None = None, **equals: object) -> Iterator[PlanTable]:
    """Rows where a mask holds and columns equal values, block by block: `PlanTable.filter`."""
    for block in blocks:
        kept = block.filter(where(block) if where is not None else None, **equals)
        if len(kept):
            yield kept


def best_by(
    blocks: Iterable[PlanTable], groups: Sequence[str], by: str, *, descending: bool = True
) -> PlanTable:
    """The best row of each combination of some columns: "best per machine" is ``best_by(blocks, ["machine"], ...)``.

    Raises
    ------
    InvalidWorkloadError
        There is no row.
    """
    return _gather(blocks, lambda table: table.best_by(groups, by, descending=descending))


def top(blocks: Iterable[PlanTable], count: int, by: str, *, descending: bool = True) -> PlanTable:
    """The first ``count`` rows by a column."""
    return _gather(blocks, lambda table: table.sort_by(by, descending=descending).head(count))


def smallest_machine(
    blocks: Iterable[PlanTable], groups: Sequence[str] = ("model",), *, tier: str = "comfortable"
) -> PlanTable:
    """Of each group the row with the least memory to hand that reaches a tier."""
    reached = filtered(blocks, lambda table: table.at_least(tier))
    return best_by(reached, groups, "available_bytes", descending=False)


def count_by(blocks: Iterable[PlanTable], groups: Sequence[str]) -> PlanTable:
    """How many rows each combination of some columns has, most first: column ``count``."""
    return _gather(blocks, lambda table: counted(table, groups))


def counted(table: PlanTable, groups: Sequence[str]) -> PlanTable:
    """Counts of a table, or counts of such counts added up."""
    if "count" not in table:
        return table.count_by(*groups)
    keys, first, place = np.unique(table.keys_of(groups), return_index=True, return_inverse=True)
    kept = table.take(first)
    sums = np.bincount(place, weights=table.columns["count"], minlength=len(keys)).astype(np.int64)
    return PlanTable(kept.columns | {"count": sums}, kept.categories).sort_by("count")


def pareto(blocks: Iterable[PlanTable], **directions: str) -> PlanTable:
    """Rows that no other row of any block beats in every column: see `PlanTable.pareto`."""
    front: PlanTable | None = None
    for block in blocks:
        points = block.points(directions)
        alive = ~np.isnan(points).any(axis=1)
        if front is not None:
            # What the front beats already is dropped by columns, before the exact search.
            for point in front.points(directions):
                alive &= ~((points >= point).all(axis=1) & (points > point).any(axis=1))
        # A random order would do; by the first coordinate, few candidates survive long.
        candidates = block.take(np.flatnonzero(alive))
        joined = candidates if front is None else concatenate([front, candidates])
        kept = joined.points(directions)
        front = joined.take(list(pareto_front(kept)))
    if front is None:
        raise InvalidWorkloadError("there is no row to reduce.")
    return front


def reduce_together(
    blocks: Iterable[PlanTable], **reductions: Callable[[PlanTable], PlanTable]
) -> dict[str, PlanTable]:
    """Several reductions in one pass over the blocks.

    Parameters
    ----------
    reductions
        Functions from a table to a smaller one that may be applied to what they gave before:
        ``lambda table: table.filter(tier="comfortable").best_by(["machine"], "decode_tokens_per_s")``.

    Returns
    -------
    dict
        The reduced table by name; a reduction that kept nothing is left out.
    """
    gathered = {name: _Gathered(reduce) for name, reduce in reductions.items()}
    for block in blocks:
        for one in gathered.values():
            one.add(block)
    return {name: one.result() for name, one in gathered.items() if one.pending}


class _Gathered:
    """Reduced blocks, reduced again whenever they have grown to twice what was kept."""

    def __init__(self, reduce: Callable[[PlanTable], PlanTable]) -> None:
        self.reduce = reduce
        self.pending: list[PlanTable] = []
        self._rows = 0
        self._limit = PENDING_ROWS

    def add(self, block: PlanTable) -> None:
        part = self.reduce(block) if len(block) else block
        if not len(part):
            return
        self.pending.append(part)
        self._rows += len(part)
        if self._rows > self._limit:
            kept = self.result()
            self.pending, self._rows = [kept], len(kept)
            self._limit = max(PENDING_ROWS, 2 * len(kept))

    def result(self) -> PlanTable:
        if not self.pending:
            raise InvalidWorkloadError("there is no row to reduce.")
        return self.reduce(concatenate(self.pending))


def _gather(blocks: Iterable[PlanTable], reduce: Callable[[PlanTable], PlanTable]) -> PlanTable:
    gathered = _Gathered(reduce)
    for block in blocks:
        gathered.add(block)
    return gathered.result()
