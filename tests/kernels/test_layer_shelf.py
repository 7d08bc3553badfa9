"""Layers that differ: what lies where is the sum over those layers, on the host and on each device."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.kernels.test_placement import demand, everything, moved, room

from willitrun.kernels.layer_shelf import LAYERS, PARTS, Layer, LayerShelf
from willitrun.kernels.placement import OFFLOAD_EXPERTS, OFFLOAD_LAYERS, Demand, place
from willitrun.kernels.splits import share

MIB = 2**20
amounts = st.integers(1, 4096 * MIB)
layers = st.lists(
    st.tuples(amounts, st.just(0) | amounts, st.sampled_from([0, 1024]), st.just(0), st.sampled_from([0, 7])),
    min_size=1,
    max_size=40,
)


def of_layers(found: list[Layer], **changes: int) -> Demand:
    weights = sum(dense + experts for dense, experts, *_ in found)
    asked = demand(
        repeating=weights,
        experts=sum(layer[1] for layer in found),
        n_moe_layers=sum(layer[1] > 0 for layer in found),
        n_layers=len(found),
        kv_cache=1024 * MIB if any(layer[2] for layer in found) else 0,
        state=70 * MIB if any(layer[4] for layer in found) else 0,
        embedding=0,
        **changes,
    )
    number = LAYERS.add(tuple(found))
    return replace(asked, layer_numbers=np.array([number]), kv_windowed=np.zeros(1, dtype=np.int64))


@given(st.lists(layers, min_size=2, max_size=4))
def test_rows_of_one_model_are_those_of_a_block_of_many(models: list[list[Layer]]) -> None:
    numbers = np.array([LAYERS.add(tuple(found)) for found in models])
    counts = np.array([len(found) for found in models])
    for part in PARTS:
        together = LAYERS.first(part, numbers, counts)
        alone = [LAYERS.first(part, numbers[[row]], counts[[row]]).item() for row in range(len(models))]
        assert together.tolist() == alone


@given(
    st.integers(0, 2**45),
    st.lists(st.integers(0, 80), min_size=1, max_size=300),
    st.integers(1, 80),
)
def test_shares_are_whole_whatever_is_left(total: int, counts: list[int], of: int) -> None:
    for whole in (total, total // of * of):
        found = share(np.array([whole]), np.array(counts), np.array([of] * len(counts)))
        assert found.tolist() == [whole * count // of for count in counts]


def test_a_shelf_that_grows_keeps_what_it_has() -> None:
    shelf = LayerShelf()
    models = [tuple((k * m, k, 1, 0, 0) for k in range(1, m)) for m in range(2, 90)]
    numbers = [shelf.add(model) for model in models]  # type: ignore[arg-type]
    for model, number in zip(models, numbers, strict=True):
        sums = [0, *accumulate(layer[0] for layer in model)]
        counts = np.arange(len(model) + 1)
        assert shelf.first("dense", np.int64(number), counts).tolist() == sums
        for count, amount in enumerate(sums):
            assert shelf.least("dense", np.int64(number), np.int64(amount)) == count


@given(layers, st.integers(0, 42))
def test_told_layers_are_summed(found: list[Layer], gpu_layers: int) -> None:
    asked = of_layers(found)
    placed = place(asked, room(2**50, gpu_layers=gpu_layers))
    host = max(len(found) + 1 - gpu_layers, 0)
    assert int(placed.host_layers[0]) == min(host, len(found))
    weights = sum(dense + experts for dense, experts, *_ in found[:host])
    if not gpu_layers:
        weights += int(asked.output[0])
    kept = [layer for layer in found if layer[2]]
    cache = int(asked.kv_cache[0]) * sum(layer[2] > 0 for layer in found[:host]) // max(len(kept), 1)
    states = [layer for layer in found if layer[4]]
    state = int(asked.state[0]) * sum(layer[4] > 0 for layer in found[:host]) // max(len(states), 1)
    assert int(placed.host[0]) == weights + cache + state
    assert moved(placed, asked) == everything(asked)


@given(layers, st.integers(0, 45))
def test_experts_of_the_first_blocks_are_summed(found: list[Layer], cpu_moe_layers: int) -> None:
    # --n-cpu-moe names blocks from the first on, whether they have experts or not.
    placed = place(of_layers(found), room(2**50, offload=OFFLOAD_EXPERTS, cpu_moe_layers=cpu_moe_layers))
    assert int(placed.host[0]) == sum(layer[1] for layer in found[:cpu_moe_layers])


@given(layers, st.integers(1, 64 * 1024 * MIB), st.sampled_from([OFFLOAD_LAYERS, OFFLOAD_EXPERTS]))
def test_no_more_layers_leave_than_must(found: list[Layer], size: int, offload: int) -> None:
    asked = of_layers(found, activation=0, overhead=0, output=0)
    placed = place(asked, room(size, offload=offload, host=2**50))
    assert moved(placed, asked) == everything(asked)
    layers_away, experts_away = int(placed.host_layers[0]), int(placed.host_moe_layers[0])
    if layers_away < len(found):
        assert int(placed.total.sum()) <= size
    if experts_away and not layers_away:
        fewer = place(asked, room(2**50, offload=offload, cpu_moe_layers=experts_away - 1, host=2**50))
        assert int(fewer.total.sum()) > size
    if layers_away and not experts_away:
        fewer = place(asked, room(2**50, gpu_layers=len(found) + 2 - layers_away, host=2**50))
        assert int(fewer.total.sum()) > size


@given(layers, st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(1, 41))
def test_devices_hold_the_runs_that_llama_cpp_gives_them(
    found: list[Layer], parts: list[int], gpu_layers: int
) -> None:
    asked = of_layers(found, output=0, activation=0, overhead=0)
    told = replace(
        room(*[2**50] * len(parts), gpu_layers=gpu_layers),
        shares=tuple(float(part) for part in parts),
        counts_output=True,
    )
    placed = place(asked, told)
    # get_layer_buft_list of llama-model.cpp, in the single floats of that program.
    splits = np.cumsum(np.array(parts, dtype=np.float32))
    splits /= splits[-1]
    start = max(len(found) + 1 - gpu_layers, 0)
    acting = min(gpu_layers, len(found) + 1)
    expected = [0] * len(parts)
    for number, (dense, experts, *_) in enumerate(found[start:]):
        device = bisect_right(splits.tolist(), float(np.float32(number) / np.float32(acting)))
        expected[device] += dense + experts
    assert placed.weights[0].tolist() == expected


def test_layers_of_a_log_of_eight_cards() -> None:
    # Mistral 7B with 33 of 33 layers over eight cards: caches of 10, 8, 8, 8, 8, 8, 8 and 6 MiB.
    # https://github.com/ggml-org/llama.cpp/issues/5619
    asked = of_layers([(100 * MIB, 0, 1024, 0, 0)] * 32)
    asked = replace(asked, kv_cache=np.array([64 * MIB]))
    placed = place(asked, replace(room(*[24 * 1024 * MIB] * 8, gpu_layers=33), counts_output=True))
    assert (placed.kv_cache[0] // MIB).tolist() == [10, 8, 8, 8, 8, 8, 8, 6]
