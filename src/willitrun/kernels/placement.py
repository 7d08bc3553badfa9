"""What lies where, and whether it fits: closed forms over devices, on arrays.

Rows are scenarios; the last axis, where there is one, is the device (padded with zero capacity where a row
has fewer). The same code judges one scenario and a million: a column is a line of rows, shape (n,), or a side
of a grid, (machines, 1) or (1, loads), whose columns only grow to the whole grid where both sides matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import as_code, as_float, ceiled, exists, floored, maximum, minimum, where
from willitrun.kernels.host_layers import enough_layers, layers_on_host, output_on_host
from willitrun.kernels.layer_shelf import LayerParts
from willitrun.kernels.splits import (
    LAYER_SPLIT,
    TENSOR_SPLIT,
    Split,
    all_devices,
    any_device,
    by_device,
    capacity_of,
    ceil_div,
    is_alone,
    sum_devices,
)

__all__ = [
    "MINIMUM_HEADROOM_BYTES",
    "TIERS",
    "Demand",
    "Layout",
    "Room",
    "best_format",
    "can_offload",
    "less_headroom",
    "place",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

TIERS = ("will-not-run", "offload", "tight", "comfortable", "unknown")
"""Tier codes are the positions in this tuple, in order of goodness; `unknown` stands outside."""

WILL_NOT_RUN, OFFLOAD, TIGHT, COMFORTABLE, UNKNOWN = range(5)

HEADROOM_DIVISOR = 20
MINIMUM_HEADROOM_BYTES = 256 * 2**20

OFFLOAD_NONE, OFFLOAD_LAYERS, OFFLOAD_EXPERTS, OFFLOAD_EXPERTS_ONLY = range(4)
"""What a runtime can keep in the host's memory: nothing, whole layers, experts before whole layers, experts alone."""


@frozen(eq=False)
class Demand:
    """What the model needs, all int64 [bytes] of shape (n,), or sides of a grid, unless stated.

    ``repeating`` are the weights inside layers (experts included), ``experts`` those of them that are routed,
    ``output`` the output matrix, ``embedding`` what stays on the host (or joins the device where memory is
    one). ``activation_*`` and ``overhead_*`` are per device, shape (n, devices) or (n, 1) (a grid's device axis is its last too).
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
    kv_windowed: IntArray | None = None
    """What of the cache is of layers that see a window; None where it lies evenly over layers."""
    layer_numbers: IntArray | None = None
    """Numbers of the models on `willitrun.kernels.layer_shelf.LAYERS`; None where all layers are the same."""


@frozen(eq=False)
class Room:
    """What the machine offers. ``available`` is int64 of shape (n, devices), 0 where there is no device."""

    available: IntArray
    host_available: IntArray
    strategy: IntArray
    offload: IntArray
    unified: BoolArray
    """Host and device share one memory."""
    gpu_layers: IntArray
    """llama.cpp's ``-ngl``: layers on the devices with the output matrix as one more; -1 where the engine decides."""
    cpu_moe_layers: IntArray
    """Layers with their experts on the host, or -1 where the engine decides."""
    shares: tuple[float, ...] | None = None
    """Parts of the layers of each device as told (llama.cpp's ``--tensor-split``); None: in proportion to the room."""
    output_last: bool = False
    """The engine moves the output matrix to a device after all layers (llama.cpp until the end of 2025), not before."""
    counts_output: bool = False
    """The engine divides layers over devices with the output matrix as one more (llama.cpp)."""


@frozen(eq=False)
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
    tier: NDArray[np.int8]
    out_of_host: BoolArray
    """It would have to lie on the host, and the host has too little."""


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
    available = room.available
    present = available > 0
    alone = is_alone(available)
    # One device that every row has is the common case: nothing to mask, nothing to divide.
    whole_room = alone and not exists(~present)

    def on_devices(values: IntArray) -> IntArray:
        return values if whole_room else where(present, values, 0)

    activation, overhead = on_devices(demand.activation), on_devices(demand.overhead)
    fixed = activation + overhead
    left_over = available - fixed
    embedding_on_device = where(room.unified, demand.embedding, 0)
    windowed = demand.kv_windowed
    if alone:
        kv, capacity, slack = demand.kv_cache, sum_devices(left_over), _NONE
        whole = demand.repeating + demand.output + kv + demand.state + embedding_on_device
    else:
        count = maximum(present.sum(axis=-1), 1)
        tensor = room.strategy == TENSOR_SPLIT
        kv = demand.kv_cache
        capacity = left_over.sum(axis=-1) if room.shares is None else capacity_of(left_over, room.shares)
        if exists(tensor):
            # KV heads cannot be cut: ranks beyond them hold copies.
            copies = where(tensor, ceil_div(count, maximum(minimum(demand.kv_heads, count), 1)), 1)
            kv = kv * copies
            windowed = None if windowed is None else windowed * copies
            least = where(present, left_over, np.iinfo(np.int64).max // 2**16).min(axis=-1)
            capacity = where(tensor, least * count, capacity)
        whole = demand.repeating + demand.output + kv + demand.state + embedding_on_device
        layer_bytes = ceil_div(demand.repeating + kv + demand.state, demand.n_layers)
        # Whole layers don't divide evenly: the slack of a split is up to one layer per further device.
        slack = where(room.strategy == LAYER_SPLIT, (count - 1) * layer_bytes, 0)
    parts = LayerParts(
        demand.repeating, demand.experts, demand.n_layers, demand.n_moe_layers, demand.layer_numbers
    )
    host = _to_host(demand, room, parts, kv, windowed, maximum(whole - capacity, 0), slack)

    weights_device = demand.repeating + demand.output + embedding_on_device - host.weights
    split = Split(
        available,
        room.strategy,
        demand.n_layers,
        room.shares,
        begin=host.layers,
        without=host.output if room.counts_output else None,
    )
    weights = split.spread(weights_device, lambda count: parts.weights(count, host.moe_layers))
    kv_split = split.spread(kv - host.kv, lambda count: parts.cache(kv, windowed, count))
    state_split = split.spread(demand.state - host.state, lambda count: parts.state(demand.state, count))
    cached = kv_split + state_split
    stored = weights + cached
    total = stored + fixed
    low = on_devices(demand.activation_low + demand.overhead_low)
    high = on_devices(demand.activation_high + demand.overhead_high)
    # Formats with an exact rule have no range.
    ranged_low, ranged = exists(demand.weights_low != 1.0), exists(demand.weights_high != 1.0)
    low = low + (floored(weights * by_device(demand.weights_low)) + cached if ranged_low else stored)
    high = high + (ceiled(weights * by_device(demand.weights_high)) + cached if ranged else stored)

    # Sums of what no row or one side of a grid has come first: the fewest of them grow to the whole of it.
    host_bytes = (
        host.weights + host.kv + (host.state + (demand.embedding - embedding_on_device) + demand.host_buffer)
    )
    host_high = host_bytes
    if ranged:
        host_high = host_bytes + ceiled(host.weights * maximum(demand.weights_high - 1.0, 0.0))

    fits, roomy = total <= available, high <= less_headroom(available)
    if whole_room:
        fits, roomy = all_devices(fits), all_devices(roomy)
    else:
        fits = all_devices(fits | ~present) & any_device(present)
        roomy = all_devices(roomy | ~present)
    # Unified memory: what the host needs comes out of the same pool, and was counted on the device.
    host_fits = room.unified | (host_bytes <= room.host_available)
    host_roomy = room.unified | (host_high <= less_headroom(room.host_available))
    # Every tier asks for what the one below it does, and one thing more.
    runs = fits & host_fits
    stays = runs & ~host.moved
    tier = as_code(runs) + as_code(stays) + as_code(stays & roomy & host_roomy)
    return Layout(
        weights=weights,
        kv_cache=kv_split,
        state=state_split,
        activation=activation,
        overhead=overhead,
        total=total,
        total_low=minimum(low, total),
        total_high=maximum(high, total),
        host=host_bytes,
        host_high=host_high,
        host_layers=host.layers,
        host_moe_layers=host.moe_layers,
        host_dense_fraction=host.dense_fraction,
        host_expert_fraction=host.expert_fraction,
        tier=tier,
        out_of_host=fits & ~host_fits,
    )


_NONE: IntArray = np.int64(0)  # type: ignore[assignment]


def less_headroom(available: IntArray) -> IntArray:
    """What may be used of some room and still be comfortable."""
    result: IntArray = available - maximum(available // HEADROOM_DIVISOR, MINIMUM_HEADROOM_BYTES)
    return result


@frozen(eq=False)
class _HostPart:
    """What lies on the host: layers, layers with their experts, the output matrix, and bytes."""

    layers: IntArray
    moe_layers: IntArray
    moved: BoolArray
    output: BoolArray
    weights: IntArray
    kv: IntArray
    state: IntArray
    dense_fraction: FloatArray
    expert_fraction: FloatArray


def _zeros(like: NDArray[Any]) -> IntArray:
    """Zeros that broadcast against columns of rows: of their length, of length one per side of a grid, or the number."""
    if type(like) is not np.ndarray:
        return _NONE
    return np.zeros(like.shape if like.ndim == 1 else (1,) * like.ndim, dtype=np.int64)


def _to_host(
    demand: Demand,
    room: Room,
    parts: LayerParts,
    kv: IntArray,
    windowed: IntArray | None,
    excess: IntArray,
    slack: IntArray,
) -> _HostPart:
    """What has to move to the host, or was told to: experts first where the runtime can, then whole layers."""
    over = excess > 0
    given_moe, given_layers = room.cpu_moe_layers >= 0, room.gpu_layers >= 0
    if not (exists(over) or exists(given_moe) or exists(given_layers)):
        # What is zero everywhere need not grow to the whole of a grid.
        stays = _zeros(over)
        none = as_float(stays)
        return _HostPart(stays, stays, over, over, _NONE, _NONE, _NONE, none, none)
    if slack is not _NONE:
        excess = where(over, excess + slack, 0)
    n_layers, experts = demand.n_layers, demand.experts
    # Dense models have no experts to move: their columns need not grow to the whole of a grid.
    routed = exists(experts) or exists(demand.n_moe_layers)
    most = demand.n_moe_layers if demand.layer_numbers is None else n_layers
    host_moe = expert_host = _zeros(over)
    if routed:
        can_experts = (room.offload >= OFFLOAD_EXPERTS) & (demand.n_moe_layers > 0)
        host_moe = where(can_experts, parts.holding(excess), 0)
        if exists(given_moe):
            told = where(demand.n_moe_layers > 0, minimum(room.cpu_moe_layers, most), 0)
            host_moe = where(given_moe, told, host_moe)
        expert_host = parts.routed(host_moe)

    cached, stateful = exists(kv), exists(demand.state)

    def held(count: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Weights, cache and state of the first layers, experts that were moved before aside."""
        return (
            parts.weights(count, host_moe),
            parts.cache(kv, windowed, count) if cached else _NONE,
            parts.state(demand.state, count) if stateful else _NONE,
        )

    left = maximum(excess - expert_host, 0) if routed else excess
    each = ceil_div(demand.repeating - expert_host + kv + demand.state, n_layers)
    can_layers = (room.offload >= OFFLOAD_LAYERS) & (room.offload != OFFLOAD_EXPERTS_ONLY)
    layers, (weights, kv_host, state_host) = enough_layers(left, can_layers, n_layers, each, held)
    on_host = layers >= n_layers
    if exists(given_layers):
        told, last = room.gpu_layers, room.output_last
        layers = where(given_layers, layers_on_host(n_layers, told, output_last=last), layers)
        on_host = where(given_layers, output_on_host(n_layers, told, output_last=last), on_host)
        weights, kv_host, state_host = held(layers)
    output_host = where(on_host, demand.output, 0)
    moved = (layers > 0) | (on_host & (demand.output > 0))
    bytes_host = weights + output_host
    expert_fraction = as_float(expert_host)
    if routed:
        moved = moved | (expert_host > 0)
        bytes_host = expert_host + bytes_host
        both = expert_host + weights - parts.weights(layers, most)
        expert_fraction = where(experts > 0, as_float(both) / as_float(maximum(experts, 1)), 0.0)
    return _HostPart(
        layers=layers,
        moe_layers=host_moe,
        moved=moved,
        output=on_host,
        weights=bytes_host,
        kv=kv_host,
        state=state_host,
        dense_fraction=as_float(layers) / as_float(maximum(n_layers, 1)),
        expert_fraction=expert_fraction,
    )


def can_offload(offload: int, moe_layers: IntArray) -> bool | BoolArray:
    """Whether a runtime can keep part of a model in the host's memory: of every model, of none, or of those with experts.

    Examples
    --------
    >>> can_offload(OFFLOAD_LAYERS, np.array([0])), can_offload(OFFLOAD_EXPERTS_ONLY, np.array([0, 48])).tolist()
    (True, [False, True])
    """
    routed: BoolArray = moe_layers > 0
    return routed if offload == OFFLOAD_EXPERTS_ONLY else offload > OFFLOAD_NONE


def best_format(tiers: NDArray[np.integer[Any]]) -> IntArray:
    """Which of some formats to take where nobody chose one: the best tier, and in it the best format.

    Parameters
    ----------
    tiers
        Tier codes, formats from best to smallest along the first axis.

    Returns
    -------
    int64 array
        Place of the format for each row; the smallest where none runs.

    Examples
    --------
    >>> best_format(np.array([[OFFLOAD, WILL_NOT_RUN], [TIGHT, WILL_NOT_RUN], [TIGHT, UNKNOWN]])).tolist()
    [1, 2]
    """
    ranks = np.where(tiers == UNKNOWN, WILL_NOT_RUN, tiers)
    found = ranks.argmax(axis=0)
    return np.where(ranks.max(axis=0) == WILL_NOT_RUN, len(tiers) - 1, found).astype(np.int64)
