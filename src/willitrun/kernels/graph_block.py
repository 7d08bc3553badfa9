"""One block of image-model scenarios: memory, tier and speed in one pass of array calls, on lines of rows or on grids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import as_float, ceiled, constant, floored, minimum, where
from willitrun.kernels.operator_work import OperatorWork
from willitrun.kernels.operators import (
    DeviceRates,
    ImageLoad,
    ImageSpeed,
    OperatorCoefficients,
    predict_images,
)
from willitrun.kernels.placement import TIGHT, Demand, Layout, Room, place
from willitrun.kernels.splits import by_device, sum_devices

__all__ = ["GraphBlock", "GraphMemory", "assess_graphs", "graph_demand", "graph_load"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@frozen(eq=False)
class GraphMemory:
    """What a graph keeps in memory; int64 columns of shape (n,), or sides of a grid of any shape.

    ``peak_elements`` and ``peak_autocast_bytes`` are the largest sum of simultaneously live activations of
    one image under eager execution, in elements and, under autocast, in bytes.
    """

    parameters: IntArray
    buffers: IntArray
    weight_bytes: IntArray
    activation_bytes: IntArray
    peak_elements: IntArray
    peak_autocast_bytes: IntArray
    autocast: NDArray[np.bool_]
    batch: IntArray
    overhead: IntArray
    overhead_low: IntArray
    overhead_high: IntArray
    peak_low: NDArray[np.float64]
    """Low end of the live peak as a share of its best estimate [1]."""
    activation_high_share: NDArray[np.float64]
    """How much more than the live peak an allocator and workspaces may take [1]."""


@frozen(eq=False)
class GraphBlock:
    """Results of a block; what depends on one side of a grid only has that side's shape."""

    weights: IntArray
    activation: IntArray
    activation_low: IntArray
    activation_high: IntArray
    layout: Layout
    speed: ImageSpeed

    @property
    def fit(self) -> IntArray:
        """Index into `FIT_REASONS`: no graph is spread over the host."""
        return np.where(self.layout.tier >= TIGHT, self.layout.tier, 0)


def graph_demand(memory: GraphMemory) -> Demand:
    """Weights and live activations as a demand that lies on one device.

    Parameters times their bytes, buffers (running statistics) in 32 bits, and the live peak of one image times
    the batch; autocast adds the half-precision copies that are live with it.
    """
    zero, one = constant(np.int64(0), memory.batch), constant(np.float64(1.0), memory.batch)
    weights = memory.parameters * memory.weight_bytes + memory.buffers * 4
    plain = memory.peak_elements * memory.activation_bytes
    per_image = where(memory.autocast & (memory.peak_autocast_bytes > 0), memory.peak_autocast_bytes, plain)
    activation = per_image * memory.batch
    low = floored(activation * memory.peak_low)
    high = ceiled(activation * (1.0 + memory.activation_high_share))
    return Demand(
        repeating=weights,
        experts=zero,
        output=zero,
        embedding=zero,
        n_layers=zero + 1,
        n_moe_layers=zero,
        kv_cache=zero,
        state=zero,
        activation=by_device(activation),
        activation_low=by_device(low),
        activation_high=by_device(high),
        overhead=by_device(memory.overhead),
        overhead_low=by_device(memory.overhead_low),
        overhead_high=by_device(memory.overhead_high),
        weights_low=one,
        weights_high=one,
        host_buffer=zero,
        kv_heads=zero + 1,
    )


def graph_load(
    *,
    batch: IntArray,
    profile: NDArray[np.intp],
    act_bytes: IntArray,
    wide_bytes: IntArray,
    weight_bytes: IntArray,
    autocast: NDArray[np.bool_],
    image_size: IntArray,
    decode_images_per_s: FloatArray,
    log_residual: FloatArray,
) -> ImageLoad:
    """The load of passes over square RGB images that come from the host.

    Under autocast kernels read the half-precision copy of a weight.
    """
    return ImageLoad(
        batch=as_float(batch),
        profile=profile,
        act_bytes=as_float(act_bytes),
        wide_bytes=as_float(wide_bytes),
        weight_bytes=as_float(minimum(act_bytes, weight_bytes)),
        autocast=as_float(autocast),
        parameters=as_float(batch * 0) if batch.ndim < 2 else constant(np.float64(0.0), batch),
        input_bytes=as_float(3.0 * image_size * image_size * wide_bytes),
        decode_images_per_s=decode_images_per_s,
        log_residual=log_residual,
    )


def assess_graphs(
    memory: GraphMemory,
    available: IntArray,
    host_available: IntArray,
    unified: NDArray[np.bool_],
    work: OperatorWork,
    rates: DeviceRates,
    load: ImageLoad,
    coefficients: OperatorCoefficients,
) -> GraphBlock:
    """Memory, tier and speed of a block; one device per row, no offload."""
    demand = graph_demand(memory)
    minus = constant(np.int64(-1), memory.batch)
    room = Room(
        available=by_device(available),
        host_available=host_available,
        strategy=minus * 0,
        offload=minus * 0,
        unified=unified,
        gpu_layers=minus,
        cpu_moe_layers=minus,
    )
    return GraphBlock(
        weights=demand.repeating,
        activation=sum_devices(demand.activation),
        activation_low=sum_devices(demand.activation_low),
        activation_high=sum_devices(demand.activation_high),
        layout=place(demand, room),
        speed=predict_images(work, rates, load, coefficients),
    )
