"""llama.cpp's compute buffers of a block: what its loads do not change is laid once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.estimators.ggml_graphs import GRAPHS
from willitrun.estimators.requests import Request
from willitrun.frozen import derived, frozen
from willitrun.kernels.compute_buffers import (
    FORKED,
    BufferShape,
    GraphBuffers,
    GraphEra,
    graph_era,
    host_buffer,
    output_buffer,
)
from willitrun.kernels.elementwise import exists, maximum, minimum, where
from willitrun.kernels.host_layers import layers_on_host, output_on_host
from willitrun.kernels.llm_block import Cache, IntArray
from willitrun.kernels.llm_ground import LlmGround
from willitrun.kernels.llm_levels import build_number
from willitrun.kernels.overheads import MemoryRange, scale_range
from willitrun.kernels.splits import by_device, ceil_div, is_alone, sum_devices

__all__ = ["CellBuffers", "cell_buffers"]

CALIBRATION, BUFFERS = "memory", "compute-buffer.llama.cpp"
PARTLY_ON_HOST = f"{BUFFERS}.partial"
FORK = "ik_llama.cpp"
WITHOUT_EVENTS = ("sycl", "metal", "cpu")


def cell_buffers(ground: LlmGround, available: IntArray, overhead: IntArray, request: Request) -> CellBuffers:
    """What decides the buffers of a block beside its loads; ``request`` stands for the runtime and the catalog."""
    intervals = request.catalog.calibrations[CALIBRATION].intervals
    resident, streaming = (
        (found["low"], found["best"], found["high"])
        for found in (intervals[BUFFERS], intervals[PARTLY_ON_HOST])
    )
    return CellBuffers(
        ground,
        available,
        overhead,
        flash_attention=request.runtime.flash_attention is not False,
        era=FORKED if request.profile.id == FORK else graph_era(build_number(request.runtime.version or "")),
        pipelines=request.runtime.backend not in WITHOUT_EVENTS and request.profile.id != FORK,
        factors=resident,
        streaming_factors=streaming,
    )


@frozen(eq=False)
class CellBuffers:
    """llama.cpp's compute buffer per device: the last one holds the output, several work as a pipeline.

    Attributes
    ----------
    ground, available, overhead
        The block without its loads, its room, and what the runtime itself takes of it [bytes].
    flash_attention, era
        How the runtime builds its graphs.
    pipelines
        Whether copies of inputs are kept for a pipeline over devices: the backend needs events (CUDA, ROCm and Vulkan
        have them), and ik_llama.cpp keeps one copy (https://github.com/ikawrakow/ik_llama.cpp/pull/751).
    factors
        Low, best and high factors around what the graphs say, of a model that lies on devices as a whole and, as
        ``streaming_factors``, of one that does not.
    """

    ground: LlmGround
    available: IntArray
    overhead: IntArray
    flash_attention: bool
    era: GraphEra
    pipelines: bool
    factors: tuple[float, float, float]
    streaming_factors: tuple[float, float, float]

    def of(self, cache: Cache) -> MemoryRange:
        """Buffers of every device of every row."""
        load = (
            by_device(self._attended(cache)),
            by_device(cache.window_cells),
            by_device(cache.sequences),
        )
        walked = self._resident.walk(*load)
        resident = scale_range(self._resident.of(*load, _ZERO, walked=walked), *self.factors)
        spills = self._spills(cache, resident.best)
        if not exists(spills):
            return resident
        # Two buffers of the loads, and which of them on the grid, instead of a buffer for every place of it.
        copied, spilled = by_device(self._copied(cache)), by_device(spills)
        streaming = scale_range(self._streaming.of(*load, copied, walked=walked), *self.streaming_factors)
        return MemoryRange(
            where(spilled, streaming.low, resident.low),
            where(spilled, streaming.best, resident.best),
            where(spilled, streaming.high, resident.high),
        )

    def on_host(self, cache: Cache) -> IntArray:
        """Inputs and logits in host memory [bytes]."""
        cells = self._attended(cache)
        batch = self.ground.policy.n_ubatch
        total: IntArray = host_buffer(self._flat, cells, n_ubatch=batch) + output_buffer(
            self._flat, sequences=cache.sequences
        )
        return total

    def _attended(self, cache: Cache) -> IntArray:
        """Cells that a batch attends to: encoders attend over the batch itself."""
        cells = cache.cells
        if self._encodes is None:
            return cells
        return where(self._encodes, minimum(cells, self.ground.policy.n_ubatch), cells)

    @derived
    def _encodes(self) -> NDArray[np.bool_] | None:
        """Which rows compute no logits; None where all do."""
        encoders: NDArray[np.bool_] = self.ground.models["has_output"] <= 0
        return encoders if exists(encoders) else None

    @derived
    def _flat(self) -> BufferShape:
        models = self.ground.models
        return BufferShape(models["vocab_size"], models["hidden_size"], models["heads"], models["head_total"],
                           models["feed_forward"], models["has_output"])  # fmt: skip

    @derived
    def _resident(self) -> GraphBuffers:
        return self._graphs(0, pipeline=self.pipelines)

    @derived
    def _streaming(self) -> GraphBuffers:
        models = self.ground.models
        largest = maximum(models["largest_expert_bytes"], models["largest_dense_bytes"])
        # Only a model that lies on devices as a whole is worked on as a pipeline.
        return self._graphs(by_device(largest), pipeline=False)

    def _graphs(self, streamed_layer_bytes: ArrayLike, *, pipeline: ArrayLike) -> GraphBuffers:
        ground, available = self.ground, self.available
        policy, models, machines = ground.policy, ground.models, ground.machines
        holds_output: ArrayLike = True
        if is_alone(available):
            pipeline = False
        else:
            present = available > 0
            devices = available.shape[-1]
            last = devices - 1 - np.argmax(present[..., ::-1], axis=-1)
            holds_output = np.arange(devices) == last[..., None]
            pipeline = pipeline and (present.sum(axis=-1) > 1)[..., None]
        told = ground.parallelism.gpu_layers
        output = output_on_host(models["n_layers"], told, output_last=policy.output_last)
        output = output & (told >= 0) & ~machines["unified"] & ~machines["on_host"]
        return GraphBuffers(
            ground.buffer_shape,
            n_ubatch=policy.n_ubatch,
            flash_attention=self.flash_attention,
            holds_output=holds_output,
            pipeline=pipeline,
            streamed_bytes=by_device(where(output, models["output"], 0)),
            streamed_layer_bytes=streamed_layer_bytes,
            era=self.era,
            single_buffer=by_device(machines["on_host"]),
            graphs=GRAPHS,
        )

    def _spills(self, cache: Cache, resident: IntArray) -> NDArray[np.bool_]:
        """Whether layers or experts lie on the host, told or because they must.

        A batch of 32 tokens or more is computed on the card for them, which leaves a copy of the largest of their
        tensors, and of the cache of a layer.
        """
        if self.ground.policy.n_ubatch < COMPUTED_ON_CARD:
            return self._nowhere
        if self.ground.policy.offload == OFFLOADS_NOTHING:
            return self._told
        over = cache.kv + cache.state + sum_devices(self._present(resident)) > self._room
        found: NDArray[np.bool_] = self._told | (over & self._may_spill)
        return found

    def _copied(self, cache: Cache) -> IntArray:
        """Cache of the largest layer [bytes], where layers lie on the host and not only experts."""
        models = self.ground.models
        windowed = cache.windowed if cache.windowed is not None else 0 * cache.kv
        full = ceil_div(cache.kv - windowed, models["n_full_kv_layers"])
        largest = maximum(full, ceil_div(windowed, models["n_windowed_kv_layers"]))
        return where(self._told_layers | (models["experts"] <= 0), largest, 0)

    def _present(self, amounts: IntArray) -> IntArray:
        if is_alone(self.available):
            return amounts
        return where(self.available > 0, amounts, 0)

    @derived
    def _nowhere(self) -> NDArray[np.bool_]:
        nowhere: NDArray[np.bool_] = self._told & False
        return nowhere

    @derived
    def _elsewhere(self) -> NDArray[np.bool_]:
        """Which rows have memory of the host beside that of a device."""
        found: NDArray[np.bool_] = ~self.ground.machines["unified"] & ~self.ground.machines["on_host"]
        return found

    @derived
    def _told_layers(self) -> NDArray[np.bool_]:
        """Which rows were told to leave layers, or the output matrix, on the host."""
        told = self.ground.parallelism.gpu_layers
        left = layers_on_host(
            self.ground.models["n_layers"], told, output_last=self.ground.policy.output_last
        )
        found: NDArray[np.bool_] = (told >= 0) & (left > 0) & self._elsewhere
        return found

    @derived
    def _told(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self._told_layers | (
            (self.ground.parallelism.cpu_moe_layers > 0) & self._elsewhere
        )
        return found

    @derived
    def _may_spill(self) -> NDArray[np.bool_]:
        """Which rows were told nothing: the engine moves what does not fit."""
        told = self.ground.parallelism
        found: NDArray[np.bool_] = (told.cpu_moe_layers < 0) & (told.gpu_layers < 0) & self._elsewhere
        return found

    @derived
    def _room(self) -> IntArray:
        """What weights and the runtime itself leave of the devices [bytes]."""
        models = self.ground.models
        free = sum_devices(self._present(self.available - self.overhead))
        room: IntArray = free - models["repeating"] - self.ground.output
        return room


OFFLOADS_NOTHING = 0
COMPUTED_ON_CARD = 32
"""Tokens from which a batch is computed on the card though weights lie on the host (``offload_op`` of ggml-cuda)."""
_ZERO: IntArray = np.int64(0)  # type: ignore[assignment]
