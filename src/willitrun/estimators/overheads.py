"""Runtime overhead and compute buffers of a request's runtime, from the calibrated ranges."""

from __future__ import annotations

import numpy as np

from willitrun.estimators.llm_policies import ENGINES
from willitrun.estimators.requests import Request
from willitrun.kernels.activations import eager_transformer_peak
from willitrun.kernels.columns import Columns
from willitrun.kernels.compute_buffers import BufferShape, device_buffer, host_buffer, output_buffer
from willitrun.kernels.llm_block import Buffers, IntArray, Parallelism, RuntimePolicy
from willitrun.kernels.overheads import MemoryRange, scale_range, vllm_activation_peak
from willitrun.records.knowledge import Calibration

__all__ = ["CALIBRATION", "block_buffers", "runtime_overhead"]

CALIBRATION = "runtime-overhead"
# Engines that allocate like another one.
_LIKE = {"sglang": "vllm", "tensorrt-llm": "vllm", "transformers": "pytorch", "diffusers": "pytorch",
         "comfyui": "pytorch", "exllama": "pytorch", "onnxruntime": "pytorch", "tensorrt": "pytorch",
         "openvino": "pytorch", "mlx": "llama.cpp"}  # fmt: skip


def _engine(request: Request) -> str:
    engine = ENGINES.get(request.profile.id, request.profile.id)
    return _LIKE.get(engine, engine)


def runtime_overhead(request: Request, *, host: bool) -> tuple[int, int, int]:
    """Low, best and high estimate of what the runtime itself takes on one device [bytes]."""
    levels = request.catalog.calibrations[CALIBRATION].levels
    engine = _engine(request)
    backend = "cpu" if host else request.runtime.backend or "cuda"
    table = levels["context.best"]
    key = f"{engine}/{backend}"
    if key not in table:
        key = (
            f"{engine}/cuda"
            if f"{engine}/cuda" in table and not host
            else "pytorch/cuda"
            if not host
            else "pytorch/cpu"
        )
    return int(levels["context.low"][key]), int(table[key]), int(levels["context.high"][key])


def block_buffers(
    policy: RuntimePolicy,
    models: Columns,
    machines: Columns,
    loads: Columns,
    parallelism: Parallelism,
    available: IntArray,
    request: Request,
) -> Buffers:
    """Activations and overhead of every device of every row of a block.

    ``request`` stands for the runtime, its options and the catalog, which all rows of a block share.
    """
    calibration = request.catalog.calibrations[CALIBRATION]
    low, best, high = runtime_overhead(request, host=bool(machines["on_host"][0]))
    n = len(models)
    column = np.ones((n, 1), dtype=np.int64)
    engine = _engine(request)
    extra = int(calibration.levels["tensor_parallel_extra"].get(f"{engine}/{request.runtime.backend}", 0))
    # Communication buffers come with the second rank.
    shared = np.where(parallelism.tensor > 1, extra, 0)[:, None]
    shape = BufferShape(
        vocabulary=models["vocab_size"][:, None],
        hidden=models["hidden_size"][:, None],
        heads=models["heads"][:, None],
        head_total=models["head_total"][:, None],
        feed_forward=models["feed_forward"][:, None],
        has_output=models["has_output"][:, None],
    )
    sequences = np.maximum(loads["concurrency"], policy.slots)
    host = np.zeros(n, dtype=np.int64)
    if policy.cache == "cells":
        cells = loads["context_tokens"] * np.where(policy.unified, sequences, 1)
        activation = MemoryRange.exact(_cells_buffer(policy, models, available, shape, cells, request))
        flat = BufferShape(models["vocab_size"], models["hidden_size"], models["heads"], models["head_total"],
                           models["feed_forward"], models["has_output"])  # fmt: skip
        host = host_buffer(flat, cells, n_ubatch=policy.n_ubatch) + output_buffer(flat, sequences=sequences)
        activation = scale_range(activation.best, 1.0, 1.0, 1.02)
    elif policy.cache == "pages":
        activation = _paged_activation(policy, models, parallelism, calibration, request)
    else:
        activation = _eager_activation(models, loads, sequences, calibration, request)
    return Buffers(
        activation=activation.best,
        activation_low=activation.low,
        activation_high=activation.high,
        overhead=best * column + shared,
        overhead_low=low * column + shared,
        overhead_high=high * column + shared,
        host=host,
    )


def _cells_buffer(
    policy: RuntimePolicy,
    models: Columns,
    available: IntArray,
    shape: BufferShape,
    cells: IntArray,
    request: Request,
) -> IntArray:
    """llama.cpp's compute buffer per device: the last one holds the output, several work as a pipeline."""
    present = available > 0
    count = present.sum(axis=1)
    devices = available.shape[1]
    last = devices - 1 - np.argmax(present[:, ::-1], axis=1)
    holds = np.arange(devices)[None, :] == last[:, None]
    flash = request.runtime.flash_attention is not False
    return device_buffer(
        shape,
        cells[:, None],
        n_ubatch=policy.n_ubatch,
        flash_attention=flash,
        holds_output=holds,
        pipeline=(count > 1)[:, None],
    )


def _paged_activation(
    policy: RuntimePolicy,
    models: Columns,
    parallelism: Parallelism,
    calibration: Calibration,
    request: Request,
) -> MemoryRange:
    numbers = calibration.coefficients
    peak = vllm_activation_peak(
        models["vocab_size"][:, None],
        models["hidden_size"][:, None],
        models["feed_forward"][:, None],
        max_num_seqs=request.runtime.max_num_seqs or int(numbers["vllm_max_num_seqs"]),
        max_num_batched_tokens=policy.microbatch_tokens,
        tensor=parallelism.tensor[:, None],
        sampler_bytes=numbers["vllm_sampler_bytes"],
        forward_copies=numbers["vllm_forward_copies"],
        base_bytes=numbers["vllm_base_bytes"],
    )
    return scale_range(peak, 0.6, 1.0, 1.4)


def _eager_activation(
    models: Columns, loads: Columns, sequences: IntArray, calibration: Calibration, request: Request
) -> MemoryRange:
    size = 4 if request.quantization is not None and request.quantization.id == "f32" else 2
    texts = np.maximum(sequences, request.workload.batch_size or 1)
    peak = eager_transformer_peak(
        loads["prompt_tokens"],
        sequences=texts,
        vocabulary=models["vocab_size"] * models["has_output"],
        hidden=models["hidden_size"],
        feed_forward=models["feed_forward"],
        heads=models["heads"],
        element_bytes=size,
    )[:, None]
    numbers = calibration.coefficients
    return scale_range(peak, 1.0, 1.0 + numbers["allocator_share"], 1.0 + numbers["allocator_share_high"])
