"""What lies where, and whether it fits: closed forms over devices, on arrays.

Rows are scenarios; the second axis, where there is one, is the device (padded with zero capacity where a row
has fewer). The same code judges one scenario and a million.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MINIMUM_HEADROOM_BYTES", "TIERS", "Demand", "Layout", "Room", "place"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

TIERS = ("will-not-run", "offload", "tight", "comfortable", "unknown")
"""Tier codes are the positions in this tuple, in order of goodness; `unknown` stands outside."""

WILL_NOT_RUN, OFFLOAD, TIGHT, COMFORTABLE, UNKNOWN = range(5)

HEADROOM_DIVISOR = 20
MINIMUM_HEADROOM_BYTES = 256 * 2**20

LAYER_SPLIT, TENSOR_SPLIT = range(2)

OFFLOAD_NONE, OFFLOAD_LAYERS, OFFLOAD_EXPERTS = range(3)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Demand:
    """What the model needs, all int64 [bytes] of shape (n,) unless stated.

    ``repeating`` are the weights inside layers (experts included), ``experts`` those of them that are routed,
    ``output`` the output matrix, ``embedding`` what stays on the host (or joins the device where memory is
    one). ``activation_*`` and ``overhead_*`` are per device, shape (n, devices) or (n, 1).
    ``kv_copies`` multiplies the cache under tensor parallelism where ranks outnumber KV heads.
    """

    repeating: IntArray
    experts: IntArray
    output: IntArray
    embedding: IntArray
    n_layers: IntArray
    n_moe_layers: IntArray
    kv_cache: IntArray
    state: IntArray
    activation: IntArray
    activation_low: IntArray
    activation_high: IntArray
    overhead: IntArray
    overhead_low: IntArray
    overhead_high: IntArray
    weights_low: FloatArray
    weights_high: FloatArray
    """Factors around the weights of formats that have no exact rule (1.0 where exact)."""
    host_buffer: IntArray
    kv_heads: IntArray


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Room:
    """What the machine offers. ``available`` is int64 of shape (n, devices), 0 where there is no device."""

    available: IntArray
    host_available: IntArray
    strategy: IntArray
    offload: IntArray
    unified: BoolArray
    """Host and device share one memory."""
    gpu_layers: IntArray
    """Layers on the devices, or -1 where the engine decides."""
    cpu_moe_layers: IntArray
    """Layers with their experts on the host, or -1 where the engine decides."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Layout:
    """Bytes by device, shape (n, devices) unless stated, and the tier, shape (n,)."""

    weights: IntArray
    kv_cache: IntArray
    state: IntArray
    activation: IntArray
    overhead: IntArray
    total: IntArray
    total_low: IntArray
    total_high: IntArray
    host: IntArray
    host_high: IntArray
    host_layers: IntArray
    host_moe_layers: IntArray
    host_dense_fraction: FloatArray
    host_expert_fraction: FloatArray
    tier: IntArray
    out_of_host: BoolArray
    """It would have to lie on the host, and the host has too little."""


def _ceil_div(numerator: IntArray, denominator: IntArray) -> IntArray:
    safe = np.maximum(denominator, 1)
    result: IntArray = -(-numerator // safe)
    return result


def _prefix_layers(weights: IntArray, layers: IntArray) -> IntArray:
    """Split ``layers`` over devices in proportion to ``weights`` by cumulative rounding, exactly summing."""
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    # Shares as floats are safe: they only choose which whole layer goes where.
    bounds = np.rint(np.cumsum(weights / total, axis=1) * layers[:, None]).astype(np.int64)
    bounds[:, -1] = layers
    result: IntArray = np.diff(bounds, axis=1, prepend=0)
    return result


def _share(total: IntArray, count: IntArray, of: IntArray) -> IntArray:
    """``total * count / of`` without overflow or loss: whole parts first, then the remainder."""
    safe = np.maximum(of, 1)
    whole, rest = total // safe, total % safe
    result: IntArray = whole * count + (rest * count) // safe
    return result


def place(demand: Demand, room: Room) -> Layout:
    """Place a model on devices and host, and judge the fit.

    Layer split gives whole layers in proportion to available memory (the llama.cpp rule); tensor split gives
    equal shares; offload moves experts first where the runtime can, then whole layers. A row with
    ``gpu_layers`` or ``cpu_moe_layers`` >= 0 is placed as told.

    Returns
    -------
    Layout
        Per-device bytes whose sum over devices and host is the whole demand, and the tier: `comfortable`
        where the high end leaves 5 % (256 MiB at least) free on every device, `tight` where the best
        estimate fits, `offload` where it fits with part of it on the host.
    """
    n = np.broadcast_shapes(demand.repeating.shape, room.host_available.shape, (room.available.shape[0],))[0]
    devices = room.available.shape[1]
    available = np.broadcast_to(room.available, (n, devices))
    present = available > 0
    count = np.maximum(present.sum(axis=1), 1)
    tensor = room.strategy == TENSOR_SPLIT
    fixed = np.where(present, demand.activation + demand.overhead, 0)

    # KV heads cannot be cut: ranks beyond them hold copies.
    copies = np.where(tensor, _ceil_div(count, np.maximum(np.minimum(demand.kv_heads, count), 1)), 1)
    kv = demand.kv_cache * copies
    embedding_on_device = np.where(room.unified, demand.embedding, 0)

    whole = demand.repeating + demand.output + kv + demand.state + embedding_on_device
    left_over = available - fixed
    capacity = np.where(
        tensor,
        np.where(present, left_over, np.iinfo(np.int64).max // 2**16).min(axis=1) * count,
        left_over.sum(axis=1),
    )
    layer_bytes = _ceil_div(demand.repeating + kv + demand.state, demand.n_layers)
    # Whole layers don't divide evenly: the slack of a split is up to one layer per further device.
    slack = np.where(room.strategy == LAYER_SPLIT, (count - 1) * layer_bytes, 0)
    excess = np.maximum(whole - capacity, 0)
    excess = np.where(excess > 0, excess + slack, 0)

    can_layers = room.offload >= OFFLOAD_LAYERS
    can_experts = (room.offload == OFFLOAD_EXPERTS) & (demand.n_moe_layers > 0)
    expert_layer = _ceil_div(demand.experts, demand.n_moe_layers)
    auto_moe = np.where(can_experts, np.minimum(_ceil_div(excess, expert_layer), demand.n_moe_layers), 0)
    given_moe = room.cpu_moe_layers >= 0
    host_moe = np.where(given_moe, np.minimum(room.cpu_moe_layers, demand.n_moe_layers), auto_moe)
    expert_host = _share(demand.experts, host_moe, demand.n_moe_layers)

    left = np.maximum(excess - expert_host, 0)
    rest_layer = _ceil_div(demand.repeating - expert_host + kv + demand.state, demand.n_layers)
    auto_layers = np.where(can_layers, np.minimum(_ceil_div(left, rest_layer), demand.n_layers), 0)
    given_layers = room.gpu_layers >= 0
    host_layers = np.where(given_layers, np.maximum(demand.n_layers - room.gpu_layers, 0), auto_layers)

    rest = demand.repeating - expert_host
    layers_host = _share(rest, host_layers, demand.n_layers)
    kv_host = _share(kv, host_layers, demand.n_layers)
    state_host = _share(demand.state, host_layers, demand.n_layers)
    # The output matrix follows the last layer; only a model entirely on the host leaves it there too.
    output_host = np.where(host_layers >= demand.n_layers, demand.output, 0)

    weights_device = rest - layers_host + demand.output - output_host + embedding_on_device
    kv_device = kv - kv_host
    state_device = demand.state - state_host
    weights = _spread(weights_device, available, room.strategy, demand.n_layers - host_layers, demand.output)
    kv_split = _spread(kv_device, available, room.strategy, demand.n_layers - host_layers, None)
    state_split = _spread(state_device, available, room.strategy, demand.n_layers - host_layers, None)
    activation = np.where(present, demand.activation, 0)
    overhead = np.where(present, demand.overhead, 0)
    total = weights + kv_split + state_split + activation + overhead
    low = (
        np.floor(weights * demand.weights_low[:, None]).astype(np.int64)
        + kv_split
        + state_split
        + np.where(present, demand.activation_low + demand.overhead_low, 0)
    )
    high = (
        np.ceil(weights * demand.weights_high[:, None]).astype(np.int64)
        + kv_split
        + state_split
        + np.where(present, demand.activation_high + demand.overhead_high, 0)
    )

    on_host = expert_host + layers_host + output_host + kv_host + state_host
    host = on_host + np.where(room.unified, 0, demand.embedding) + demand.host_buffer
    moved = (host_moe > 0) | (host_layers > 0)
    host_high = host + np.ceil(
        (expert_host + layers_host + output_host) * np.maximum(demand.weights_high - 1.0, 0.0)
    ).astype(np.int64)

    margin = np.maximum(available // HEADROOM_DIVISOR, MINIMUM_HEADROOM_BYTES)
    fits = np.where(present, total <= available, True).all(axis=1) & present.any(axis=1)
    roomy = np.where(present, high <= available - margin, True).all(axis=1)
    # Unified memory: what the host needs comes out of the same pool, and was counted on the device.
    host_fits = room.unified | (host <= room.host_available)
    host_roomy = room.unified | (
        host_high
        <= room.host_available - np.maximum(room.host_available // HEADROOM_DIVISOR, MINIMUM_HEADROOM_BYTES)
    )
    tier = np.where(
        fits & host_fits,
        np.where(moved, OFFLOAD, np.where(roomy & host_roomy, COMFORTABLE, TIGHT)),
        WILL_NOT_RUN,
    )
    return Layout(
        weights=weights,
        kv_cache=kv_split,
        state=state_split,
        activation=activation,
        overhead=overhead,
        total=total,
        total_low=np.minimum(low, total),
        total_high=np.maximum(high, total),
        host=host,
        host_high=host_high,
        host_layers=host_layers,
        host_moe_layers=host_moe,
        host_dense_fraction=host_layers / np.maximum(demand.n_layers, 1),
        host_expert_fraction=np.where(
            demand.experts > 0,
            (expert_host + _share(demand.experts - expert_host, host_layers, demand.n_layers))
            / np.maximum(demand.experts, 1),
            0.0,
        ),
        tier=tier,
        out_of_host=fits & ~host_fits,
    )


def _spread(
    amount: IntArray, available: IntArray, strategy: IntArray, layers: IntArray, output: IntArray | None
) -> IntArray:
    """Divide an amount over devices by strategy; the parts sum to it exactly."""
    n, devices = available.shape
    amount = np.broadcast_to(amount, (n,))
    if devices == 1:
        return amount[:, None].copy()
    present = available > 0
    count = np.maximum(present.sum(axis=1), 1)
    layers = np.broadcast_to(np.maximum(layers, 1), (n,))
    by_layer = _prefix_layers(available, layers)
    in_layers = amount if output is None else np.maximum(amount - output, 0)
    split = _share(in_layers[:, None], by_layer, layers[:, None])
    last = devices - 1 - np.argmax(present[:, ::-1], axis=1)
    rows = np.arange(n)
    split[rows, last] += amount - split.sum(axis=1)
    equal = np.where(present, (amount // count)[:, None], 0)
    equal[rows, last] += amount - equal.sum(axis=1)
    tensor = np.broadcast_to(strategy, (n,))[:, None] == TENSOR_SPLIT
    result: IntArray = np.where(tensor, equal, split)
    return result
