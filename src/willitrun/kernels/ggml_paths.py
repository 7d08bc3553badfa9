"""Walks of ggml's allocator compiled: the buffer as a maximum of sums, and the loads for which it holds.

A walk asks only which of two sums of tensors is larger. Loads for which all answers are the same place every tensor
alike, so their buffers are the same few sums. A path is one walk on amounts that remember what they were compared with:
its conditions, of which most follow from each other, and the ends of its tensors, of which few can be the highest.
Whole numbers below 2^53 are exact in float64, so products of matrices give the walk's buffer to the byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.ggml_walk import ENDLESS, GraphPlan, Size, lay_blocks, load_factors, walk_graph

__all__ = ["Amount", "CompiledGraph", "record_path"]

FloatArray = NDArray[np.float64]

BITS = 32
EXACT = 2.0**53
PATIENCE = 8
"""Walks between two recordings, one of which takes as long as some ten."""
MOST_PATHS = 64
"""Paths kept for a graph: loads of a sweep take a dozen, those of some architectures forty."""
MOST_LOADS = 1024
"""Loads that are looked at together, and that are remembered: caches are padded, so that many are alike."""


class Amount:
    """A number of bytes, the sum of sizes that it is, and what it was compared with.

    The sum is one integer: how often each size counts, `BITS` for each, the room without end above them.

    Examples
    --------
    >>> signs = {}
    >>> small, large = Amount(10, 1, signs), Amount(30, 1 << BITS, signs)
    >>> (small + small).form, small + small <= large, signs == {2 - (1 << BITS): -10}
    (2, True, True)
    """

    __slots__ = ("form", "signs", "value")

    def __init__(self, value: int, form: int, signs: dict[int, int]) -> None:
        self.value, self.form, self.signs = value, form, signs

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.value + other.value, self.form + other.form, self.signs)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.value - other.value, self.form - other.form, self.signs)

    def _beyond(self, other: Amount) -> int:
        difference, form = self.value - other.value, self.form - other.form
        if form:
            self.signs[form] = difference
        return difference

    def __le__(self, other: Amount) -> bool:
        return self._beyond(other) <= 0

    def __lt__(self, other: Amount) -> bool:
        return self._beyond(other) < 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amount) and self._beyond(other) == 0

    def __hash__(self) -> int:
        return hash(self.value)


@frozen(eq=False)
class Path:
    """What holds of the sizes of a graph's tensors along one way through the allocator.

    Attributes
    ----------
    conditions
        Sums over sizes, shape (conditions, sizes).
    least
        What each condition comes to at least: 1, or 0 where it is an equality [bytes].
    ends
        Ends of tensors of which one is the highest, as sums over sizes, shape (ends, sizes).
    most_bytes
        Size up to which all sums are exact in float64.
    """

    conditions: FloatArray
    least: FloatArray
    ends: FloatArray
    most_bytes: float


def record_path(plan: GraphPlan, sizes: tuple[Size, ...], values: list[int]) -> Path:
    """The path of one load through a graph.

    Parameters
    ----------
    plan
        The graph.
    sizes
        Its different sizes.
    values
        What each comes to for the load [bytes].

    Examples
    --------
    One tensor of either size below the other, and none freed: the buffer is their sum as long as there is anything.

    >>> from willitrun.kernels.ggml_walk import read_block
    >>> a, b = (4, 0, 0, 0, 0, 0, 0), (2, 0, 0, 0, 0, 0, 0)
    >>> plan = GraphPlan(read_block("+a +b", {"a": a, "b": b}.__getitem__), (), (), 1)
    >>> path = record_path(plan, (a, b), [40, 20])
    >>> path.conditions.tolist(), path.least.tolist(), path.ends.tolist()
    ([[0.0, 1.0], [1.0, 0.0]], [1.0, 1.0], [[1.0, 1.0]])
    """
    signs: dict[int, int] = {}
    amounts = {
        size: Amount(value, 1 << (BITS * place), signs)
        for place, (size, value) in enumerate(zip(sizes, values, strict=True))
    }
    endless = Amount(ENDLESS, 1 << (BITS * len(sizes)), signs)
    forms = {end.form for end in lay_blocks(plan, amounts, Amount(0, 0, signs), endless)}
    ends = _coefficients(list(forms), len(sizes))
    # An end below another one for sizes of any kind is never the highest.
    ends = ends[~_implied(-ends, np.zeros(len(ends)))]
    conditions, least = _conditions(signs, values)
    weights = [np.abs(sums).sum(axis=1).max(initial=1.0) for sums in (conditions, ends)]
    return Path(conditions, least, ends, EXACT / max(weights))


def _conditions(signs: dict[int, int], values: list[int]) -> tuple[FloatArray, FloatArray]:
    """Sums of sizes and what they come to at least, without those that others imply."""
    count = len(values)
    # What is compared with room that has no end is decided.
    limit = 1 << (BITS * count - 1)
    bounded = [(form, sign) for form, sign in signs.items() if -limit < form < limit]
    found = _coefficients([form if sign >= 0 else -form for form, sign in bounded], count)
    equal = np.array([not sign for _, sign in bounded], dtype=bool)
    # A sum without differences is above zero as its sizes are.
    unequal = found[~equal & (found < 0).any(axis=1)]
    own = np.eye(count)
    empty = np.array([not value for value in values], dtype=bool)
    above, zero = np.concatenate([unequal, own[~empty]]), np.concatenate([found[equal], -own[empty]])
    rows = np.concatenate([above, zero, -zero[: equal.sum()]])
    least = np.repeat((1.0, 0.0), (len(above), len(rows) - len(above)))
    different = np.unique(np.column_stack([rows, least]), axis=0)
    needed = different[~_implied(different[:, :-1], different[:, -1])]
    return needed[:, :-1], needed[:, -1]


def _implied(rows: FloatArray, least: FloatArray) -> NDArray[np.bool_]:
    """Which of some different conditions follow from another one: no size is below zero."""
    more = np.all(rows[:, None] >= rows[None], axis=2) & (least[:, None] <= least[None])
    more[np.diag_indices(len(rows))] = False
    return np.asarray(more.any(axis=1))


def _coefficients(forms: list[int], count: int) -> FloatArray:
    """How often each size counts in some sums."""
    # Each digit is raised to be above zero, so that all are read at once.
    half = 1 << (BITS - 1)
    raised = half * ((1 << (BITS * count)) - 1) // ((1 << BITS) - 1)
    digits = b"".join((form + raised).to_bytes(BITS // 8 * count, "little") for form in forms)
    return np.frombuffer(digits, "<u4").reshape(-1, count).astype(np.float64) - half


@frozen(eq=False)
class _Paths:
    """Paths with their conditions side by side, so that one product answers for all."""

    paths: tuple[Path, ...]
    conditions: FloatArray
    """Shape (sizes, conditions of all paths)."""
    least: FloatArray
    starts: NDArray[np.intp]
    """Where the conditions of each path start."""
    most_bytes: float

    def buffer(self, sizes: FloatArray) -> int | None:
        """Buffer of one load by the path that it takes; None where it takes none."""
        takes = self._taken(sizes)
        path = takes.argmax()
        return int((self.paths[path].ends @ sizes).max()) if takes[path] else None

    def buffers(self, sizes: FloatArray) -> NDArray[np.int64]:
        """The same of loads along the first axis, -1 where one takes no path."""
        found = np.full(len(sizes), -1, dtype=np.int64)
        takes = self._taken(sizes)
        number = np.where(takes.any(axis=1), takes.argmax(axis=1), len(self.paths))
        for path in np.unique(number[number < len(self.paths)]):
            found[number == path] = (sizes[number == path] @ self.paths[path].ends.T).max(axis=1)
        return found

    def _taken(self, sizes: FloatArray) -> NDArray[np.bool_]:
        """Which path holds for some sizes; the last of them never does."""
        holds = sizes @ self.conditions >= self.least
        found: NDArray[np.bool_] = np.logical_and.reduceat(holds, self.starts, axis=-1)
        return found if sizes.max(initial=0.0) <= self.most_bytes else np.zeros_like(found)


def _side_by_side(paths: tuple[Path, ...], sizes: int) -> _Paths:
    # A last path that no load takes: there is always one, and its condition comes to nothing.
    never = Path(np.zeros((1, sizes)), np.ones(1), np.zeros((1, sizes)), EXACT)
    every = (*paths, never)
    return _Paths(
        paths,
        np.concatenate([path.conditions for path in every]).T.copy(),
        np.concatenate([path.least for path in every]),
        np.cumsum([0, *(len(path.least) for path in paths)]),
        min(path.most_bytes for path in every),
    )


class CompiledGraph:
    """A graph's buffers for many loads: by paths that were recorded, by walks where none was yet.

    Parameters
    ----------
    plan
        The graph.

    Examples
    --------
    >>> from willitrun.kernels.ggml_walk import read_block
    >>> sizes = {"E": (4, 0, 0, 0, 0, 0, 0), "M": (0, 2, 0, 0, 0, 0, 0)}
    >>> start = read_block("+E +M -0 +E", sizes.__getitem__)
    >>> graph = CompiledGraph(GraphPlan(start, (), (), 1))
    >>> graph.buffer(8, 100, 0, 1), graph.buffers(np.array([[8, 100, 0, 1], [8, 200, 0, 1]])).tolist()
    (1632, [1632, 3232])
    """

    def __init__(self, plan: GraphPlan) -> None:
        self._plan = plan
        self._sizes = plan.sizes()
        # A row for each factor of a load.
        self._widths = np.array(self._sizes, dtype=np.float64).reshape(len(self._sizes), -1).T.copy()
        self._walked = 0
        self._known: dict[tuple[int, int, int, int], int] = {}
        self._paths = _side_by_side((), len(self._sizes))

    def buffer(self, batch: int, cells: int, window_cells: int, sequences: int) -> int:
        """Buffer of one load [bytes]; parameters are those of `walk_graph`."""
        load = (batch, cells, window_cells, sequences)
        found = self._known.get(load)
        if found is None:
            if len(self._known) >= MOST_LOADS:
                self._known = {}
            found = self._buffer(*load)
            if self._plan.pairs_tokens and sequences > 1:
                # One sequence has the most pairs of tokens, so llama.cpp reserves for it, too (TAG_RESERVE_DIAG_DECAY).
                found = max(found, self._buffer(batch, cells, window_cells, 1))
            self._known[load] = found
        return found

    def _buffer(self, *load: int) -> int:
        sizes = self._bytes(*load)
        found = self._paths.buffer(sizes)
        if found is None and self._walked >= PATIENCE and len(self._paths.paths) < MOST_PATHS:
            self._walked = 0
            path = record_path(self._plan, self._sizes, [int(size) for size in sizes])
            self._paths = _side_by_side((*self._paths.paths, path), len(sizes))
            found = self._paths.buffer(sizes)
        if found is None:
            self._walked += 1
            found = walk_graph(self._plan, *load)
        return found

    def buffers(self, loads: NDArray[np.int64]) -> NDArray[np.int64]:
        """Buffers of some loads [bytes].

        Parameters
        ----------
        loads
            Tokens of a physical batch, cells, windowed cells and sequences, shape (n, 4).
        """
        if len(loads) > MOST_LOADS:
            parts = range(0, len(loads), MOST_LOADS)
            return np.concatenate([self.buffers(loads[part : part + MOST_LOADS]) for part in parts])
        if self._plan.pairs_tokens:
            return np.array([self.buffer(*load) for load in loads.tolist()], dtype=np.int64)
        found = self._paths.buffers(self._bytes(*loads.T.astype(np.float64)))
        for place in np.flatnonzero(found < 0):
            found[place] = self.buffer(*loads[place].tolist())
        return found

    def _bytes(self, batch: Any, cells: Any, window_cells: Any, sequences: Any) -> FloatArray:
        """Sizes of the tensors of some loads, along the last axis [bytes]."""
        load = load_factors(self._plan, batch, cells, window_cells, sequences, np.minimum)
        factors = np.array(load, dtype=np.float64)
        alignment = self._plan.alignment
        sizes: FloatArray = np.ceil(factors.T @ self._widths / alignment) * alignment
        return sizes
