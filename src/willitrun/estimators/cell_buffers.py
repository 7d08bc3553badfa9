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
from willitrun.kernels.elementwise import exists, minimum, where
from willitrun.kernels.llm_block import Cache, IntArray
from willitrun.kernels.llm_ground import LlmGround
from willitrun.kernels.overheads import MemoryRange, scale_range
from willitrun.kernels.placement import layers_on_host, output_on_host
from willitrun.kernels.splits import by_device, is_alone, sum_devices

__all__ = ["CellBuffers", "cell_buffers"]

CALIBRATION, BUFFERS = "memory", "compute-buffer.llama.cpp"
FORK = "ik_llama.cpp"


def cell_buffers(ground: LlmGround, available: IntArray, request: Request) -> CellBuffers:
    """What decides the buffers of a block beside its loads; ``request`` stands for the runtime and the catalog."""
    factors = request.catalog.calibrations[CALIBRATION].intervals[BUFFERS]
    return CellBuffers(
        ground,
        available,
        flash_attention=request.runtime.flash_attention is not False,
        era=FORKED if request.profile.id == FORK else graph_era(_build(request)),
        factors=(factors["low"], factors["best"], factors["high"]),
    )


def _build(request: Request) -> int | None:
    """llama.cpp's build number; None where the version is none or says something else."""
    text = (request.runtime.version or "").lstrip("b")
    return int(text) if text.isdigit() else None


@frozen(eq=False)
class CellBuffers:
    """llama.cpp's compute buffer per device: the last one holds the output, several work as a pipeline.

    Attributes
    ----------
    ground, available
        The block without its loads, and its room [bytes].
    flash_attention, era
        How the runtime builds its graphs.
    factors
        Low, best and high factors around what the graphs say.
    """

    ground: LlmGround
    available: IntArray
    flash_attention: bool
    era: GraphEra
    factors: tuple[float, float, float]

    def of(self, cache: Cache) -> MemoryRange:
        """Buffers of every device of every row."""
        spills = self._spills(cache.kv)
        if not (self._experts and exists(spills)):
            return self._range(self._resident, cache)
        streaming = self._range(self._streaming, cache)
        if not exists(~spills):
            return streaming
        # Two buffers of the loads, and which of them on the grid, instead of a buffer for every place of it.
        resident, spilled = self._range(self._resident, cache), by_device(spills)
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

    def _range(self, buffers: GraphBuffers, cache: Cache) -> MemoryRange:
        sequences = _ONE if self.ground.policy.unified else by_device(cache.sequences)
        best = buffers.of(by_device(self._attended(cache)), by_device(cache.window_cells), sequences)
        return scale_range(best, *self.factors)

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
    def _experts(self) -> bool:
        return exists(self.ground.models["largest_expert_bytes"])

    @derived
    def _resident(self) -> GraphBuffers:
        return self._graphs(0)

    @derived
    def _streaming(self) -> GraphBuffers:
        return self._graphs(by_device(self.ground.models["largest_expert_bytes"]))

    def _graphs(self, streamed_layer_bytes: ArrayLike) -> GraphBuffers:
        ground, available = self.ground, self.available
        policy, models, machines = ground.policy, ground.models, ground.machines
        holds_output: ArrayLike = True
        pipeline: ArrayLike = False
        if not is_alone(available):
            present = available > 0
            devices = available.shape[-1]
            last = devices - 1 - np.argmax(present[..., ::-1], axis=-1)
            holds_output = np.arange(devices) == last[..., None]
            pipeline = (present.sum(axis=-1) > 1)[..., None]
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

    def _spills(self, kv_cache: IntArray) -> NDArray[np.bool_]:
        """Whether experts lie on the host, told or because they must, which leaves a copy of the largest of their tensors.

        So does an output matrix that lies there: a batch of 32 tokens or more is computed on the card.
        """
        if self.ground.policy.offload != OFFLOADS_EXPERTS:
            return self._told
        return self._told | ((kv_cache > self._room_for_cache) & self._may_spill)

    @derived
    def _told(self) -> NDArray[np.bool_]:
        policy, models, machines = self.ground.policy, self.ground.models, self.ground.machines
        told, told_moe = self.ground.parallelism.gpu_layers, self.ground.parallelism.cpu_moe_layers
        left = layers_on_host(models["n_layers"], told, output_last=policy.output_last) > 0
        told_left = (told >= 0) & left & ~machines["unified"] & ~machines["on_host"]
        found: NDArray[np.bool_] = told_left | (told_moe > 0)
        return found

    @derived
    def _may_spill(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = ~self.ground.machines["unified"] & (
            self.ground.parallelism.cpu_moe_layers < 0
        )
        return found

    @derived
    def _room_for_cache(self) -> IntArray:
        """What weights leave of the devices [bytes]."""
        models = self.ground.models
        room: IntArray = sum_devices(self.available) - models["repeating"] - models["output"]
        return room


OFFLOADS_EXPERTS = 2
_ONE: IntArray = np.int64(1)  # type: ignore[assignment]
