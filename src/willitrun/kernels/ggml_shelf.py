"""Buffers of many graphs: graphs by number, rows of loads by column, every different row computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.kernels.ggml_paths import CompiledGraph
from willitrun.kernels.ggml_walk import ENDLESS, GraphPlan

__all__ = ["GraphRow", "GraphShelf"]

Int64Array = NDArray[np.int64]
Digits = tuple[tuple[int, int, int], ...]
"""Of every column its least value, its common power of two, and how many different values it may have."""

NO_GRAPH = 0
KEPT_SETS = 128
SMALL_BYTES = 2**17
"""Columns up to which loads are recognised as they are, without numbering them: a side of a grid."""
FEW_ROWS = 64
"""Rows up to which each different load is looked at by itself."""
DENSE = 8
"""Possible rows per row up to which a table of all is faster than sorting."""
SMALL_TABLE = 1 << 16
"""Possible rows up to which a table of all is cheap whatever it holds."""


class GraphShelf:
    """Plans by number, so that columns can name them; a plan is made when it is first walked.

    Examples
    --------
    >>> shelf = GraphShelf()
    >>> shelf.add("a model", lambda card, flash: None), shelf.add("a model", lambda card, flash: None)
    (1, 1)
    >>> shelf.plan(1, card=True, flash=True) is None
    True
    """

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._makers: list[Callable[[bool, bool], GraphPlan | None]] = []
        self._plans: dict[tuple[int, bool, bool], GraphPlan | None] = {}
        self._recent: dict[Hashable, Int64Array] = {}
        self._compiled: dict[tuple[int, bool, bool], CompiledGraph | None] = {}

    def add(self, key: object, make: Callable[[bool, bool], GraphPlan | None]) -> int:
        """Number of the plan that ``make`` makes of (card, flash attention), the same for equal keys."""
        if key not in self._numbers:
            self._makers.append(make)
            self._numbers[key] = len(self._makers)
        return self._numbers[key]

    def plan(self, number: int, *, card: bool, flash: bool) -> GraphPlan | None:
        """A plan, or None where nobody knows it."""
        key = (number, card, flash)
        if key not in self._plans:
            self._plans[key] = self._makers[number - 1](card, flash) if number else None
        return self._plans[key]

    def row(self, numbers: ArrayLike, *, card: ArrayLike, flash: ArrayLike) -> GraphRow:
        """The graphs of some rows, for any loads."""
        return GraphRow(self, numbers, card, flash)

    def buffers(
        self,
        numbers: ArrayLike,
        *,
        batch: ArrayLike,
        cells: ArrayLike,
        window_cells: ArrayLike,
        sequences: ArrayLike,
        card: ArrayLike,
        flash: ArrayLike,
    ) -> Int64Array:
        """Buffer of every row [bytes]; 0 where its graph is not known. Every different row is computed once."""
        row = (numbers, batch, cells, window_cells, sequences, card, flash)
        given = [np.asarray(value, dtype=np.int64) for value in row]
        shape = np.broadcast_shapes(*(value.shape for value in given))
        if not given[0].any():
            return np.zeros(shape, dtype=np.int64)
        if sum(value.nbytes for value in given) > SMALL_BYTES:
            return self._of_numbered(given).reshape(shape)
        # The tiles of a sweep ask for the same loads one after the other.
        key = tuple((value.shape, value.tobytes()) for value in given)
        return self._kept(key, lambda: self._of_numbered(given).reshape(shape))

    def _of_numbered(self, given: list[Int64Array]) -> Int64Array:
        codes, digits, places = _number_rows(given)
        found = self._kept((digits, codes.tobytes()), lambda: self._of_rows(_rows_of(codes, digits)))
        return found[places]

    def _kept(self, key: Hashable, make: Callable[[], Int64Array]) -> Int64Array:
        found = self._recent.get(key)
        if found is None:
            if len(self._recent) >= KEPT_SETS:
                self._recent = {}
            found = self._recent[key] = make()
        return found

    def _of_rows(self, rows: Int64Array) -> Int64Array:
        """Buffers of rows of the columns of `buffers`: one call per graph."""
        names = rows[:, [0, 5, 6]]
        found = np.zeros(len(rows), dtype=np.int64)
        for name in np.unique(names, axis=0):
            same = (names == name).all(axis=1)
            number, card, flash = name.tolist()
            graph = self.graph(number, card=bool(card), flash=bool(flash))
            found[same] = NO_GRAPH if graph is None else graph.buffers(rows[same, 1:5])
        return found

    def graph(self, number: int, *, card: bool, flash: bool) -> CompiledGraph | None:
        """A compiled plan, or None where nobody knows it."""
        name = (number, card, flash)
        if name not in self._compiled:
            plan = self.plan(number, card=card, flash=flash)
            self._compiled[name] = None if plan is None else CompiledGraph(plan)
        return self._compiled[name]


class GraphRow:
    """The graphs of the rows of a block: one, or one for each row."""

    def __init__(self, shelf: GraphShelf, numbers: ArrayLike, card: ArrayLike, flash: ArrayLike) -> None:
        self._shelf, self._names = shelf, {"numbers": numbers, "card": card, "flash": flash}
        columns = np.broadcast_arrays(*(np.asarray(value) for value in (numbers, card, flash)))
        self._shape = columns[0].shape
        rows = [column.ravel().tolist() for column in columns]
        members: dict[tuple[int, bool, bool], list[int]] = {}
        for place, (number, on_card, flashes) in enumerate(zip(*rows, strict=True)):
            members.setdefault((int(number), bool(on_card), bool(flashes)), []).append(place)
        self._members = [
            (shelf.graph(number, card=on_card, flash=flashes), places)
            for (number, on_card, flashes), places in members.items()
        ]

    def buffers(
        self, *, batch: ArrayLike, cells: Int64Array, window_cells: Int64Array, sequences: Int64Array
    ) -> Int64Array:
        """Buffer of every row [bytes]: see `GraphShelf.buffers`."""
        load = (batch, cells, window_cells, sequences)
        if len(self._members) == 1:
            graph, _ = self._members[0]
            if graph is None:
                return np.int64(NO_GRAPH)  # type: ignore[return-value]
            if not any(type(value) is np.ndarray for value in load):
                return np.int64(graph.buffer(*map(int, load)))  # type: ignore[arg-type, return-value]
        columns = np.broadcast_arrays(*load)
        shape = columns[0].shape
        if shape != self._shape or columns[0].size > FEW_ROWS:
            return self._shelf.buffers(
                **self._names, batch=batch, cells=cells, window_cells=window_cells, sequences=sequences
            )
        # Few rows are few different loads: each is looked at once.
        loads = list(zip(*(column.ravel().tolist() for column in columns), strict=True))
        found = [NO_GRAPH] * len(loads)
        for graph, places in self._members:
            if graph is not None:
                known = {load: graph.buffer(*load) for load in {loads[place] for place in places}}
                for place in places:
                    found[place] = known[loads[place]]
        return np.array(found, dtype=np.int64).reshape(shape)


def _number_rows(given: list[Int64Array]) -> tuple[Int64Array, Digits, NDArray[np.intp]]:
    """The different rows of some columns as numbers, how to read these, and which of them each row is; flat."""
    digits: list[tuple[int, int, int]] = []
    for column in given:
        least = int(column.min())
        # Cells and batches are multiples of powers of two.
        bits = int(np.bitwise_or.reduce((column - least).ravel()))
        shift = (bits & -bits).bit_length() - 1 if bits else 0
        digits.append((least, shift, (bits >> shift) + 1))
    span = prod(count for *_, count in digits)
    if span > ENDLESS:
        rows = np.stack([row.ravel() for row in np.broadcast_arrays(*given)], axis=1)
        found, inverse = np.unique(rows, axis=0, return_inverse=True)
        return found, (), inverse.ravel()
    # One number per row, each column a digit of its own base.
    code, base = np.zeros(np.broadcast_shapes(*(column.shape for column in given)), dtype=np.int64), 1
    for column, (least, shift, count) in zip(given, digits, strict=True):
        if count > 1:
            code += ((column - least) >> shift) * base
            base *= count
    flat = code.ravel()
    if span <= DENSE * flat.size + SMALL_TABLE:
        present = np.zeros(span, dtype=bool)
        present[flat] = True
        different = np.flatnonzero(present)
        table = np.zeros(span, dtype=np.intp)
        table[different] = np.arange(len(different))
        places = table[flat]
    else:
        different, places = np.unique(flat, return_inverse=True)
    return different, tuple(digits), places


def _rows_of(codes: Int64Array, digits: Digits) -> Int64Array:
    """The rows that `_number_rows` numbered; too far apart to be numbered, they are themselves."""
    if not digits:
        return codes
    rest, columns = codes, []
    for least, shift, count in digits:
        rest, digit = np.divmod(rest, count)
        columns.append((digit << shift) + least)
    return np.stack(columns, axis=1)
