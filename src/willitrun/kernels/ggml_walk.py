"""ggml's graph allocator, walked: the buffer that a graph needs where freed memory is used again as it is found.

A graph allocates its tensors one after the other into the smallest free block that they fit in, else at the end, and
frees each one after its last use. What lies free between live tensors is lost, so the buffer is more than the largest
sum of tensors that are alive together, and how much more depends on which block came to lie where. Layers of one kind
do the same, so a walk is a few blocks in the order of the layers, and a block that starts where an equal one started
before ends where that ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from willitrun.frozen import derived, frozen

if TYPE_CHECKING:
    from willitrun.kernels.ggml_paths import Amount

__all__ = [
    "ENDLESS",
    "Block",
    "GraphPlan",
    "Size",
    "lay_blocks",
    "load_factors",
    "read_block",
    "spread_inputs",
    "walk_graph",
]

ALLOCATE, FREE_LOCAL, FREE_CARRIED, FREE_SHARED = range(4)
ENDLESS = 1 << 62
PER_LAYER = "+@"
"""Before the size of tensors that llama.cpp takes before the layers, one for each that frees one (``ggml_new_tensor``)."""

Size = tuple[int, int, int, int, int, int, int]
"""Bytes of a tensor per factor of `load_factors`."""
N = TypeVar("N", int, "Amount")
"""Bytes: numbers, or amounts that remember what they were compared with."""


@frozen
class Block:
    """What one layer, or the part before the first one, does to the allocator.

    Attributes
    ----------
    steps
        Pairs of what is done and to which tensor: ``ALLOCATE`` the next own one, or free an own one, one that the
        block before left, or one from before the first layer.
    sizes
        Of the own tensors [bytes].
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
    chosen
        Cells that one token attends to at most where an indexer chooses them; 0 where none does.
    """

    start: Block
    blocks: tuple[Block, ...]
    order: tuple[int, ...]
    alignment: int
    chosen: int = 0

    def sizes(self) -> tuple[Size, ...]:
        """The different sizes of its tensors."""
        parts = (self.start, *self.blocks)
        return tuple(dict.fromkeys(size for part in parts for size in part.sizes))

    @derived
    def pairs_tokens(self) -> bool:
        """Whether tensors hold a number for each pair of a sequence's tokens."""
        return any(size[5] for size in self.sizes())


def load_factors(
    plan: GraphPlan,
    batch: Any,
    cells: Any,
    window_cells: Any,
    sequences: Any,
    least: Callable[[Any, Any], Any],
) -> tuple[Any, ...]:
    """What the entries of a `Size` are multiplied with; numbers, or arrays with their ``least`` of two.

    Tokens, tokens x cells, tokens x windowed cells, sequences, cells, pairs of tokens of one sequence, and
    tokens x chosen cells. llama.cpp reserves as many tokens for every sequence (``graph_reserve``).

    Examples
    --------
    >>> load_factors(GraphPlan(Block((), (), ()), (), (), 1, chosen=2048), 512, 1024, 0, 3, min)
    (513, 525312, 0, 3, 1024, 87723, 525312)
    """
    batch = -(-batch // sequences) * sequences
    return (
        batch,
        batch * cells,
        batch * window_cells,
        sequences,
        cells,
        batch * (batch // sequences),
        batch * least(cells, plan.chosen),
    )


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
    >>> start = Block(steps, tuple((size, 0, 0, 0, 0, 0, 0) for size in (100, 50, 120)), ())
    >>> walk_graph(GraphPlan(start, (), (), 1), 10, 4096)
    2700
    """

    factors = load_factors(plan, batch, cells, window_cells, sequences, min)

    def bytes_of(size: Size) -> int:
        total: int = sum(width * factor for width, factor in zip(size, factors, strict=True))
        return -(-total // plan.alignment) * plan.alignment

    return max(lay_blocks(plan, {size: bytes_of(size) for size in plan.sizes()}, 0, ENDLESS), default=0)


def lay_blocks(plan: GraphPlan, bytes_of: Mapping[Size, N], zero: N, endless: N) -> Iterator[N]:
    """Ends of all tensors of a graph, in order; equal blocks that start alike are laid once.

    Parameters
    ----------
    plan
        The graph.
    bytes_of
        Bytes of every size of its tensors.
    zero, endless
        Where the buffer starts, and room without end behind it, as the same kind of number.
    """
    free: list[tuple[N, N]] = [(zero, endless)]
    shared = _walk(plan.start, bytes_of, free, [], [], endless)
    yield from map(_end, shared)
    carried: list[tuple[N, N]] = []
    seen: dict[object, tuple[list[tuple[N, N]], list[tuple[N, N]]]] = {}
    for number in plan.order:
        state = (number, tuple(free), tuple(carried))
        after = seen.get(state)
        if after is None:
            block = plan.blocks[number]
            own = _walk(block, bytes_of, free, carried, shared, endless)
            yield from map(_end, own)
            carried = [(carried if kind == FREE_CARRIED else own)[index] for kind, index in block.kept]
            seen[state] = list(free), carried
        else:
            free, carried = list(after[0]), after[1]


def _end(place: tuple[N, N]) -> N:
    offset, size = place
    return offset + size


def _walk(
    block: Block,
    bytes_of: Mapping[Size, N],
    free: list[tuple[N, N]],
    carried: list[tuple[N, N]],
    shared: list[tuple[N, N]],
    endless: N,
) -> list[tuple[N, N]]:
    """Places (offset, size) of a block's own tensors; ``free`` is changed."""
    own: list[tuple[N, N]] = []
    for kind, index in block.steps:
        if kind == ALLOCATE:
            size = bytes_of[block.sizes[index]]
            # The smallest of the blocks below the end that fits, the last of equal ones.
            best, least = len(free) - 1, endless
            for at in range(best):
                room = free[at][1]
                if size <= room <= least:
                    best, least = at, room
            offset, room = free[best]
            own.append((offset, size))
            if room == size:
                del free[best]
            else:
                free[best] = (offset + size, room - size)
        else:
            places = own if kind == FREE_LOCAL else carried if kind == FREE_CARRIED else shared
            _give_back(free, places[index])
    return own


def _give_back(free: list[tuple[N, N]], place: tuple[N, N]) -> None:
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
            if at and _end(free[at - 1]) == offset:
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


def spread_inputs(start: str, layers: Sequence[str]) -> tuple[str, list[str]]:
    """The words before the layers and those of each layer, with a tensor for every layer that frees a `PER_LAYER` one.

    Examples
    --------
    >>> spread_inputs("+E +@J +1 -0", ["+E -g1", "+F", "+E -g1 -g2"])
    ('+E +J +J +1 -0', ['+E -g1', '+F', '+E -g2 -g3'])
    """
    if PER_LAYER not in start:
        return start, list(layers)
    taken = [word for word in start.split() if word.startswith("+")]
    users = [
        [word.startswith(PER_LAYER) and f"-g{number}" in layer.split() for layer in layers]
        for number, word in enumerate(taken)
    ]
    counts = [sum(uses) if word.startswith(PER_LAYER) else 1 for word, uses in zip(taken, users, strict=True)]
    places = [sum(counts[:number]) for number in range(len(counts))]
    spread: list[str] = []
    number = 0
    for word in start.split():
        if word.startswith("+"):
            spread += ["+" + word.removeprefix(PER_LAYER).removeprefix("+")] * counts[number]
            number += 1
        else:
            spread.append(f"-{places[int(word[1:])]}")

    def place(layer: int, found: re.Match[str]) -> str:
        number = int(found[1])
        return f"-g{places[number] + sum(users[number][:layer])}"

    return " ".join(spread), [
        re.sub(r"-g(\d+)", partial(place, layer), text) for layer, text in enumerate(layers)
    ]


def read_block(text: str, size_of: Callable[[str], Size], carried: int = 0) -> Block:
    """A block out of words, where the block before left ``carried`` tensors.

    ``+size`` allocates, ``-3`` frees an own tensor, ``-c0`` one that the block before left, ``-g3`` an input.

    Examples
    --------
    >>> block = read_block("+E +2*E -c0 -0", lambda size: (4, 0, 0, 0, 0, 0, 0), 2)
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
