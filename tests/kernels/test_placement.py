"""Placement: bytes conserved, devices and host told apart, tiers at their margins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.kernels.placement import (
    HEADROOM_DIVISOR,
    LAYER_SPLIT,
    MINIMUM_HEADROOM_BYTES,
    OFFLOAD_EXPERTS,
    OFFLOAD_LAYERS,
    OFFLOAD_NONE,
    TENSOR_SPLIT,
    TIERS,
    Demand,
    Layout,
    Room,
    place,
)

GIB = 2**30


def demand(**changes: int) -> Demand:
    """A dense 8B-like model; keyword arguments replace fields."""
    values: dict[str, int] = {
        "repeating": 4 * GIB, "experts": 0, "output": GIB // 2, "embedding": GIB // 4, "n_layers": 32,
        "n_moe_layers": 0, "kv_cache": GIB, "state": 0, "host_buffer": 0, "kv_heads": 8,
    }  # fmt: skip
    per_device = {"activation": GIB // 4, "overhead": GIB // 4}
    spread = changes.pop("spread", 0)
    for name in per_device:
        per_device[name] = changes.pop(name, per_device[name])
    values |= changes
    columns = {name: np.array([value], dtype=np.int64) for name, value in values.items()}
    for name, value in per_device.items():
        columns[name] = np.array([[value]], dtype=np.int64)
        columns[f"{name}_low"] = np.array([[value - spread]], dtype=np.int64)
        columns[f"{name}_high"] = np.array([[value + spread]], dtype=np.int64)
    return Demand(**columns, weights_low=np.ones(1), weights_high=np.ones(1))


def room(*devices: int, host: int = 64 * GIB, offload: int = OFFLOAD_LAYERS, strategy: int = LAYER_SPLIT,
         unified: bool = False, gpu_layers: int = -1, cpu_moe_layers: int = -1) -> Room:  # fmt: skip
    """A machine by its devices' available bytes."""

    def one(value: int) -> np.ndarray:
        return np.array([value], dtype=np.int64)

    return Room(
        available=np.array([devices], dtype=np.int64),
        host_available=one(host),
        strategy=one(strategy),
        offload=one(offload),
        unified=np.array([unified]),
        gpu_layers=one(gpu_layers),
        cpu_moe_layers=one(cpu_moe_layers),
    )


def tier(found: Layout) -> str:
    return TIERS[int(found.tier[0])]


def moved(found: Layout, asked: Demand) -> int:
    """Everything that lies anywhere, less what every device needs for itself."""
    fixed = int(found.activation.sum() + found.overhead.sum())
    return int(found.total.sum()) - fixed + int(found.host[0]) - int(asked.host_buffer[0])


def everything(asked: Demand) -> int:
    return int(asked.repeating[0] + asked.output[0] + asked.embedding[0] + asked.kv_cache[0] + asked.state[0])


@given(
    st.lists(st.integers(GIB // 2, 48 * GIB), min_size=1, max_size=6),
    st.integers(1, 80),
    st.integers(1, 90 * GIB),
    st.integers(0, 40 * GIB),
    st.sampled_from([OFFLOAD_NONE, OFFLOAD_LAYERS, OFFLOAD_EXPERTS]),
    st.booleans(),
)
def test_no_byte_is_lost(
    devices: list[int], layers: int, weights: int, cache: int, offload: int, mixture: bool
) -> None:
    experts = {"experts": weights * 9 // 10, "n_moe_layers": layers} if mixture else {}
    asked = demand(repeating=weights, n_layers=layers, kv_cache=cache, **experts)
    found = place(asked, room(*devices, offload=offload))
    assert moved(found, asked) == everything(asked)
    assert (found.total >= 0).all()
    assert 0 <= int(found.host_layers[0]) <= layers
    if tier(found) in ("comfortable", "tight"):
        assert int(found.host_layers[0]) == 0
        assert int(found.host_moe_layers[0]) == 0
        assert (found.total[0] <= np.array(devices)).all()


def test_comfortable_leaves_five_percent_at_the_high_end() -> None:
    need = int(place(demand(), room(64 * GIB)).total.sum())
    edge = need * HEADROOM_DIVISOR // (HEADROOM_DIVISOR - 1) + 1
    assert edge - need > MINIMUM_HEADROOM_BYTES
    assert tier(place(demand(), room(edge + HEADROOM_DIVISOR))) == "comfortable"
    assert tier(place(demand(), room(edge - HEADROOM_DIVISOR))) == "tight"
    assert tier(place(demand(), room(need))) == "tight"
    assert tier(place(demand(), room(need - 1))) == "offload"
    assert tier(place(demand(), room(need - 1, offload=OFFLOAD_NONE))) == "will-not-run"
    assert tier(place(demand(spread=GIB), room(edge + HEADROOM_DIVISOR))) == "tight"


def test_small_devices_keep_256_mib() -> None:
    small = {
        "repeating": GIB // 4,
        "output": 0,
        "embedding": 0,
        "kv_cache": 0,
        "activation": 0,
        "overhead": 0,
    }
    need = GIB // 4
    assert tier(place(demand(**small), room(need + MINIMUM_HEADROOM_BYTES))) == "comfortable"
    assert tier(place(demand(**small), room(need + MINIMUM_HEADROOM_BYTES - 1))) == "tight"


def test_offload_moves_experts_first_and_no_more_than_needed() -> None:
    mixture = demand(repeating=20 * GIB, experts=16 * GIB, n_moe_layers=32)
    found = place(mixture, room(16 * GIB, offload=OFFLOAD_EXPERTS))
    assert tier(found) == "offload"
    assert int(found.host_layers[0]) == 0
    assert int(found.host_moe_layers[0]) == 12
    one_less = place(mixture, room(16 * GIB, offload=OFFLOAD_EXPERTS, cpu_moe_layers=11))
    assert int(one_less.host_layers[0]) > 0, (
        "eleven layers of experts are not enough: a whole layer has to follow"
    )


def test_a_full_host_is_told_apart() -> None:
    found = place(demand(repeating=40 * GIB), room(8 * GIB, host=16 * GIB))
    assert tier(found) == "will-not-run"
    assert bool(found.out_of_host[0])


def test_unified_memory_has_no_offload_and_counts_the_embedding() -> None:
    shared = place(demand(), room(64 * GIB, unified=True, offload=OFFLOAD_NONE))
    own = place(demand(), room(64 * GIB))
    assert int(shared.total.sum()) - int(own.total.sum()) == GIB // 4
    assert tier(place(demand(), room(4 * GIB, unified=True, offload=OFFLOAD_NONE))) == "will-not-run"


def test_cards_do_not_pool() -> None:
    # Two cards of 4 GiB are not one of 8: each needs its own buffers and whole layers.
    need = int(place(demand(), room(64 * GIB)).total.sum())
    half = need // 2
    assert tier(place(demand(), room(half, need - half, offload=OFFLOAD_NONE))) == "will-not-run"


def test_layers_follow_memory_and_tensors_are_equal() -> None:
    uneven = place(demand(), room(24 * GIB, 8 * GIB))
    assert int(uneven.kv_cache[0, 0]) == pytest.approx(0.75 * GIB, rel=0.05)
    equal = place(demand(), room(24 * GIB, 24 * GIB, strategy=TENSOR_SPLIT))
    assert int(equal.weights[0, 0]) == int(equal.weights[0, 1])


def test_ranks_beyond_kv_heads_hold_copies() -> None:
    four = place(demand(kv_heads=2), room(*[24 * GIB] * 4, strategy=TENSOR_SPLIT))
    assert int(four.kv_cache.sum()) == 2 * GIB


def test_given_layers_are_heeded() -> None:
    found = place(demand(), room(24 * GIB, gpu_layers=17))
    assert int(found.host_layers[0]) == 16
    assert tier(found) == "offload"
    assert float(found.host_dense_fraction[0]) == 0.5


@pytest.mark.parametrize(
    ("gpu_layers", "output_last", "host_layers", "output_moves"),
    [
        (33, False, 0, False), (32, False, 1, False), (1, False, 32, False), (0, False, 32, True), (99, False, 0, False),
        (33, True, 0, False), (32, True, 0, True), (1, True, 31, True), (0, True, 32, True), (99, True, 0, False),
    ],
)  # fmt: skip
def test_ngl_counts_the_output_matrix(
    gpu_layers: int, output_last: bool, host_layers: int, output_moves: bool
) -> None:
    asked = demand(embedding=0)
    found = place(asked, replace(room(24 * GIB, gpu_layers=gpu_layers), output_last=output_last))
    assert int(found.host_layers[0]) == host_layers
    layer = int(asked.repeating[0]) // 32 + int(asked.kv_cache[0]) // 32
    assert int(found.host[0]) == host_layers * layer + (int(asked.output[0]) if output_moves else 0)
    assert tier(found) == ("offload" if host_layers or output_moves else "comfortable")


def test_rows_are_judged_like_single_ones() -> None:
    sizes = [6 * GIB, 8 * GIB, 12 * GIB]
    base = demand()
    many = Room(
        available=np.array(sizes, dtype=np.int64)[:, None],
        **{
            name: np.repeat(getattr(room(0), name), len(sizes), axis=0)
            for name in ("host_available", "strategy", "offload", "unified", "gpu_layers", "cpu_moe_layers")
        },
    )
    together = place(base, many)
    for row, size in enumerate(sizes):
        alone = place(base, room(size))
        assert int(together.tier[row]) == int(alone.tier[0])
        assert int(together.total[row].sum()) == int(alone.total[0].sum())
