"""ggml's graph allocator, walked: the buffer that a graph needs where freed memory is used again as it is found.

A graph allocates its tensors one after the other into the smallest free block that they fit in, else at the end, and
frees each one after its last use. What lies free between live tensors is lost, so the buffer is more than the largest
sum of tensors that are alive together, and how much more depends on which block came to lie where. Layers of one kind
do the same, so a walk is a few blocks in the order of the layers, and a block that starts where an equal one started
before ends where that ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen

__all__ = ["Block", "GraphPlan", "GraphShelf", "read_block", "walk_graph"]

Int64Array = NDArray[np.int64]

ALLOCATE, FREE_LOCAL, FREE_CARRIED, FREE_SHARED = range(4)
ENDLESS = 1 << 62
NO_GRAPH = 0
DENSE = 8
"""Possible rows per row up to which a table of all is faster than sorting."""
KEPT_SETS = 64
KEPT_RESULTS = 1 << 16
"""Buffers that a plan remembers; a sweep over contexts and batches needs some hundred."""

Size = tuple[int, int, int, int, int]
Place = tuple[int, int]


@frozen
class Block:
    """What one layer, or the part before the first one, does to the allocator.

    Attributes
    ----------
    steps
        Pairs of what is done and to which tensor: ``ALLOCATE`` the next own one, or free an own one, one that the
        block before left, or one from before the first layer.
    sizes
        Of the own tensors [bytes]: per token, per token and cell, per token and windowed cell, per sequence,
        per cell.
    kept
        Tensors that are left to the next block: (``FREE_CARRIED`` or ``FREE_LOCAL``, number).
    """

    steps: tuple[tuple[int, int], ...]
    sizes: tuple[Size, ...]
    kept: tuple[tuple[int, int], ...]


@frozen(eq=False)
class GraphPlan:
    """A graph as blocks.

    Attributes
    ----------
    start
        Inputs and what else comes before the first layer.
    blocks, order
        Kinds of layers, and the kind of each layer.
    alignment
        Of every tensor [bytes].
    """

    start: Block
    blocks: tuple[Block, ...]
    order: tuple[int, ...]
    alignment: int
    known: dict[tuple[int, int, int, int], int] = field(default_factory=dict)


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
        self._recent: dict[tuple[object, bytes], Int64Array] = {}

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
        """Buffer of every row [bytes]; 0 where its graph is not known. Every different row is walked once."""
        row = (numbers, batch, cells, window_cells, sequences, card, flash)
        if all(isinstance(value, int | np.generic) for value in row):
            return np.int64(self._buffer(*(int(value) for value in row)))  # type: ignore[arg-type, return-value]
        given = [np.asarray(value, dtype=np.int64) for value in row]
        shape = np.broadcast_shapes(*(value.shape for value in given))
        if not given[0].any():
            return np.zeros(shape, dtype=np.int64)
        if all(value.size == 1 for value in given):
            return np.full(shape, self._buffer(*(value.item() for value in given)), dtype=np.int64)
        return _once_each(given, self._buffer, self._recent).reshape(shape)

    def _buffer(
        self, number: int, batch: int, cells: int, narrow: int, sequences: int, card: int, flash: int
    ) -> int:
        plan = self.plan(number, card=bool(card), flash=bool(flash))
        if plan is None:
            return NO_GRAPH
        key = (batch, cells, narrow, sequences)
        found = plan.known.get(key)
        if found is None:
            if len(plan.known) >= KEPT_RESULTS:
                plan.known.clear()
            found = plan.known[key] = walk_graph(plan, *key)
        return found


def _once_each(
    given: list[Int64Array],
    value_of: Callable[..., int],
    recent: dict[tuple[object, bytes], Int64Array],
) -> Int64Array:
    """What ``value_of`` says of every row of some columns, asked once for equal rows; flat.

    ``recent`` keeps answers for sets of rows: the tiles of a sweep ask for the same loads one after the other.
    """
    digits: list[tuple[int, int, int]] = []
    for column in given:
        least = int(column.min())
        # Cells and batches are multiples of powers of two.
        bits = int(np.bitwise_or.reduce((column - least).ravel()))
        shift = (bits & -bits).bit_length() - 1 if bits else 0
        digits.append((least, shift, (bits >> shift) + 1))
    span = prod(count for *_, count in digits)
    if span > ENDLESS:
        rows = np.stack([row.ravel() for row in np.broadcast_arrays(*given)])
        found, inverse = np.unique(rows, axis=1, return_inverse=True)
        return np.array([value_of(*row) for row in found.T.tolist()], dtype=np.int64)[inverse.ravel()]
    # One number per row, each column a digit of its own base.
    code, base = np.zeros(np.broadcast_shapes(*(column.shape for column in given)), dtype=np.int64), 1
    for column, (least, shift, count) in zip(given, digits, strict=True):
        if count > 1:
            code += ((column - least) >> shift) * base
            base *= count
    flat = code.ravel()
    dense = span <= DENSE * flat.size + KEPT_RESULTS
    if dense:
        present = np.zeros(span, dtype=bool)
        present[flat] = True
        different = np.flatnonzero(present)
    else:
        different, inverse = np.unique(flat, return_inverse=True)
    key = (tuple(digits), different.tobytes())
    values = recent.get(key)
    if values is None:
        rest, columns = different, []
        for least, shift, count in digits:
            rest, digit = np.divmod(rest, count)
            columns.append(((digit << shift) + least).tolist())
        if len(recent) >= KEPT_SETS:
            recent.clear()
        values = np.array([value_of(*row) for row in zip(*columns, strict=True)], dtype=np.int64)
        recent[key] = values
    if not dense:
        return values[inverse.ravel()]
    table = np.zeros(span, dtype=np.int64)
    table[different] = values
    return table[flat]


def walk_graph(plan: GraphPlan, batch: int, cells: int, window_cells: int = 0, sequences: int = 1) -> int:
    """Buffer of one graph [bytes].

    Parameters
    ----------
    plan
        The graph.
    batch
        Tokens of a physical batch.
    cells, window_cells
        Cells of the full and of the windowed layers' cache.
    sequences
        Sequences that have a state of their own.

    References
    ----------
    https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-alloc.c

    Examples
    --------
    Two tensors of 100 and 50 bytes per token are alive, the first is freed, and one of 120 does not fit in its place.

    >>> steps = ((ALLOCATE, 0), (ALLOCATE, 1), (FREE_LOCAL, 0), (ALLOCATE, 2))
    >>> start = Block(steps, ((100, 0, 0, 0, 0), (50, 0, 0, 0, 0), (120, 0, 0, 0, 0)), ())
    >>> walk_graph(GraphPlan(start, (), (), 1), 10, 4096)
    2700
    """

    def bytes_of(size: Size) -> int:
        token, cell, narrow, sequence, alone = size
        total = batch * (token + cell * cells + narrow * window_cells) + sequence * sequences + alone * cells
        return -(-total // plan.alignment) * plan.alignment

    free: list[Place] = [(0, ENDLESS)]
    shared, top = _walk(plan.start, [bytes_of(size) for size in plan.start.sizes], free, [], [])
    sizes = [[bytes_of(size) for size in block.sizes] for block in plan.blocks]
    carried: list[Place] = []
    seen: dict[tuple[int, tuple[Place, ...], tuple[Place, ...]], tuple[list[Place], list[Place]]] = {}
    for number in plan.order:
        state = (number, tuple(free), tuple(carried))
        after = seen.get(state)
        if after is None:
            block = plan.blocks[number]
            own, high = _walk(block, sizes[number], free, carried, shared)
            top = max(top, high)
            carried = [(carried if kind == FREE_CARRIED else own)[index] for kind, index in block.kept]
            seen[state] = list(free), carried
        else:
            free, carried = list(after[0]), after[1]
    return top


def _walk(
    block: Block, sizes: list[int], free: list[Place], carried: list[Place], shared: list[Place]
) -> tuple[list[Place], int]:
    """Places (offset, size) of a block's own tensors, and the highest end; ``free`` is changed."""
    own: list[Place] = []
    top = 0
    for kind, index in block.steps:
        if kind == ALLOCATE:
            size = sizes[index]
            # The smallest of the blocks below the end that fits, the last of equal ones.
            best, least = len(free) - 1, ENDLESS
            for at in range(best):
                room = free[at][1]
                if size <= room <= least:
                    best, least = at, room
            offset, room = free[best]
            own.append((offset, size))
            if offset + size > top:
                top = offset + size
            if room == size:
                del free[best]
            else:
                free[best] = (offset + size, room - size)
        else:
            places = own if kind == FREE_LOCAL else carried if kind == FREE_CARRIED else shared
            _give_back(free, places[index])
    return own, top


def _give_back(free: list[Place], place: Place) -> None:
    """Add a freed place to the first free block that it touches, and that to its neighbour, as ggml does.

    A tensor without elements leaves a block without bytes, which may keep two neighbours apart for good.
    """
    offset, size = place
    end = offset + size
    for at, (start, room) in enumerate(free):
        if start + room == offset:
            size += room
            if at < len(free) - 1 and start + size == free[at + 1][0]:
                size += free[at + 1][1]
                del free[at + 1]
            free[at] = (start, size)
            return
        if end == start:
            size += room
            if at and sum(free[at - 1]) == offset:
                offset, before = free[at - 1]
                free[at - 1] = (offset, before + size)
                del free[at]
            else:
                free[at] = (offset, size)
            return
    at = 0
    while at < len(free) and free[at][0] < offset:
        at += 1
    free.insert(at, place)


def read_block(text: str, size_of: Callable[[str], Size], carried: int = 0) -> Block:
    """A block out of words, where the block before left ``carried`` tensors.

    ``+size`` allocates, ``-3`` frees an own tensor, ``-c0`` one that the block before left, ``-g3`` an input.

    Examples
    --------
    >>> block = read_block("+E +2*E -c0 -0", lambda size: (4, 0, 0, 0, 0), 2)
    >>> block.steps, block.kept
    (((0, 0), (0, 1), (2, 0), (1, 0)), ((2, 1), (1, 1)))
    """
    steps: list[tuple[int, int]] = []
    sizes: list[Size] = []
    for word in text.split():
        if word.startswith("+"):
            steps.append((ALLOCATE, len(sizes)))
            sizes.append(size_of(word[1:]))
        elif word.startswith("-c"):
            steps.append((FREE_CARRIED, int(word[2:])))
        elif word.startswith("-g"):
            steps.append((FREE_SHARED, int(word[2:])))
        else:
            steps.append((FREE_LOCAL, int(word[1:])))
    left = [(FREE_CARRIED, index) for index in range(carried)]
    left += [(FREE_LOCAL, index) for index in range(len(sizes))]
    return Block(tuple(steps), tuple(sizes), tuple(step for step in left if step not in steps))
