"""The walk of ggml's allocator against one that follows its source, and against what a sum says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from willitrun.kernels.ggml_paths import CompiledGraph
from willitrun.kernels.ggml_shelf import GraphShelf
from willitrun.kernels.ggml_walk import (
    ALLOCATE,
    FREE_LOCAL,
    Block,
    GraphPlan,
    read_block,
    walk_graph,
)

EMPTY = Block((), (), ())


def _reference(steps: list[tuple[int, int]], sizes: list[int]) -> int:
    """ggml_dyn_tallocr of ggml-alloc.c, one chunk, as it is written there."""
    blocks, top = [[0, 1 << 62]], 0
    places: dict[int, tuple[int, int]] = {}
    for kind, index in steps:
        if kind == ALLOCATE:
            size = sizes[index]
            best, best_size = -1, 1 << 63
            for i in range(len(blocks) - 1):
                if size <= blocks[i][1] <= best_size:
                    best, best_size = i, blocks[i][1]
            block = blocks[best]
            places[index] = block[0], size
            block[0] += size
            block[1] -= size
            if block[1] == 0:
                blocks.remove(block)
            top = max(top, sum(places[index]))
            continue
        offset, size = places.pop(index)
        for i, block in enumerate(blocks):
            if block[0] + block[1] == offset:
                block[1] += size
                if i < len(blocks) - 1 and block[0] + block[1] == blocks[i + 1][0]:
                    block[1] += blocks.pop(i + 1)[1]
                break
            if offset + size == block[0]:
                block[0], block[1] = offset, block[1] + size
                if i > 0 and sum(blocks[i - 1]) == block[0]:
                    blocks[i - 1][1] += blocks.pop(i)[1]
                break
        else:
            i = 0
            while i < len(blocks) and blocks[i][0] < offset:
                i += 1
            blocks.insert(i, [offset, size])
    return top


@st.composite
def _programs(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[int]]:
    sizes = draw(st.lists(st.integers(0, 9), min_size=1, max_size=30))
    steps: list[tuple[int, int]] = []
    live: list[int] = []
    for index in range(len(sizes)):
        steps.append((ALLOCATE, index))
        live.append(index)
        for _ in range(draw(st.integers(0, len(live)))):
            steps.append((FREE_LOCAL, live.pop(draw(st.integers(0, len(live) - 1)))))
    return steps, sizes


@given(_programs(), st.integers(1, 512))
def test_walk_does_what_the_source_says(program: tuple[list[tuple[int, int]], list[int]], batch: int) -> None:
    steps, sizes = program
    start = Block(tuple(steps), tuple((size, 0, 0, 0, 0, 0, 0) for size in sizes), ())
    walked = walk_graph(GraphPlan(start, (), (), 1), batch, 0)
    assert walked == _reference(steps, [size * batch for size in sizes])
    alive = most = 0
    for kind, index in steps:
        alive += sizes[index] if kind == ALLOCATE else -sizes[index]
        most = max(most, alive)
    assert most * batch <= walked <= sum(sizes) * batch


def test_a_hole_is_more_than_what_is_alive() -> None:
    # 4 and 2 lie below each other; 5 does not fit where 4 was, so 4 are lost.
    start = read_block(
        "+a +b -0 +c",
        {"a": (4, 0, 0, 0, 0, 0, 0), "b": (2, 0, 0, 0, 0, 0, 0), "c": (5, 0, 0, 0, 0, 0, 0)}.__getitem__,
    )
    assert walk_graph(GraphPlan(start, (), (), 1), 1, 0) == 11


def test_blocks_walked_again_are_the_same_as_all_of_them_at_once() -> None:
    sizes = {
        "r": (4, 0, 0, 0, 0, 0, 0),
        "m": (0, 1, 0, 0, 0, 0, 0),
        "s": (7, 0, 0, 0, 0, 0, 0),
        "n": (0, 0, 1, 0, 0, 0, 0),
        "k": (0, 0, 0, 3, 0, 0, 0),
    }
    start = read_block("+r +m +n", sizes.__getitem__)
    first = read_block("+r +s -g0 +r -0 -1", sizes.__getitem__)
    more = read_block("+r +s +k -c0 +r -0 -1 -2", sizes.__getitem__, len(first.kept))
    blocks = (first, more)
    few = walk_graph(GraphPlan(start, blocks, (0, *[1] * 12), 1), 16, 64, 32, 2)
    text = "+r +m +n +r +s -0 +r -3 -4"
    previous, count = 5, 6
    for _ in range(12):
        text += f" +r +s +k -{previous} +r -{count} -{count + 1} -{count + 2}"
        previous, count = count + 3, count + 4
    every = read_block(text, sizes.__getitem__)
    assert walk_graph(GraphPlan(every, (), (), 1), 16, 64, 32, 2) == few


def test_sizes_are_padded_to_the_alignment() -> None:
    start = Block(((ALLOCATE, 0), (ALLOCATE, 1)), ((0, 0, 0, 1, 0, 0, 0), (0, 0, 0, 1, 0, 0, 0)), ())
    assert walk_graph(GraphPlan(start, (), (), 128), 512, 512) == 256


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4096), st.booleans()), min_size=1, max_size=9))
def test_arrays_are_rows_and_unknown_graphs_are_zero(rows: list[tuple[int, int, bool]]) -> None:
    shelf = GraphShelf()
    plan = GraphPlan(Block(((ALLOCATE, 0),), ((4, 2, 0, 0, 0, 0, 0),), ()), (), (), 1)
    assert shelf.add("one", lambda card, flash: plan if card else None) == 1
    assert shelf.add("none", lambda card, flash: None) == 2
    numbers, cells, cards = (np.array(column) for column in zip(*rows, strict=True))
    rest = {"batch": 8, "window_cells": 0, "sequences": 1, "flash": True}
    together = shelf.buffers(numbers, cells=cells, card=cards, **rest)
    alone = [shelf.buffers(n, cells=c, card=k, **rest).item() for n, c, k in rows]
    assert together.tolist() == alone
    assert together.tolist() == [8 * (4 + 2 * c) if n == 1 and k else 0 for n, c, k in rows]


@given(
    st.lists(st.tuples(st.sampled_from((1, 2**40)), st.sampled_from((0, 7, 2**44))), min_size=1, max_size=6)
)
def test_rows_far_apart_are_still_told_apart(rows: list[tuple[int, int]]) -> None:
    shelf = GraphShelf()
    plan = GraphPlan(Block(((ALLOCATE, 0),), ((0, 1, 1, 1, 0, 0, 0),), ()), (), (), 1)
    number = shelf.add("one", lambda card, flash: plan)
    cells, narrow = (np.array(column) for column in zip(*rows, strict=True))
    together = shelf.buffers(
        number, batch=1, cells=cells, window_cells=narrow, sequences=1, card=True, flash=True
    )
    assert together.tolist() == [c + n + 1 for c, n in rows]


@given(_programs(), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=40, max_size=60))
def test_compiled_paths_come_to_what_a_walk_does(
    program: tuple[list[tuple[int, int]], list[int]], loads: list[tuple[int, int]]
) -> None:
    steps, widths = program
    # Sizes grow with the batch, with the cells or with the sequences: their order changes from load to load.
    sizes = tuple((w if w % 3 else 0, w % 4, 0, 5 * w if w % 3 == 0 else 0, 0, 0, w % 2) for w in widths)
    plan = GraphPlan(Block(tuple(steps), sizes, ()), (), (), 4, chosen=20)
    graph = CompiledGraph(plan)
    rows = np.array([(batch, cells, 0, 1 + cells % 3) for batch, cells in loads])
    walked = [walk_graph(plan, batch, cells, 0, 1 + cells % 3) for batch, cells in loads]
    assert graph.buffers(rows).tolist() == walked
    assert graph.buffers(rows).tolist() == walked
    assert [graph.buffer(*row) for row in rows.tolist()] == walked


def test_pairs_of_tokens_are_reserved_for_one_sequence_as_well() -> None:
    plan = GraphPlan(read_block("+u", {"u": (0, 0, 0, 0, 0, 4, 0)}.__getitem__), (), (), 1)
    graph = CompiledGraph(plan)
    assert walk_graph(plan, 512, 0, 0, 4) == 4 * 512 * 128
    assert graph.buffer(512, 0, 0, 4) == graph.buffer(512, 0, 0, 1) == 4 * 512 * 512
    assert graph.buffers(np.array([[512, 0, 0, 4]])).tolist() == [4 * 512 * 512]


def test_a_path_is_not_taken_beyond_what_float64_holds() -> None:
    start = read_block("+a +b -0 +a", {"a": (0, 1, 0, 0, 0, 0, 0), "b": (0, 3, 0, 0, 0, 0, 0)}.__getitem__)
    plan = GraphPlan(start, (), (), 1)
    graph = CompiledGraph(plan)
    loads = [(8, 100 + n, 0, 1) for n in range(40)] + [(1, 2**52 + 1, 0, 1)]
    walked = [walk_graph(plan, *load) for load in loads]
    assert [graph.buffer(*load) for load in loads] == walked
    assert graph.buffers(np.array(loads)).tolist() == walked
