"""Runtime overhead and compute buffers of a request's runtime, from the memory calibration."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from willitrun.estimators.cell_buffers import CALIBRATION, CellBuffers, cell_buffers
from willitrun.estimators.llm_policies import ENGINES
from willitrun.estimators.requests import Request
from willitrun.kernels.activations import eager_transformer_peak
from willitrun.kernels.columns import Columns
from willitrun.kernels.elementwise import exists, maximum, minimum, where
from willitrun.kernels.llm_block import Buffers, Cache, IntArray
from willitrun.kernels.llm_ground import LlmGround
from willitrun.kernels.llm_levels import level_code
from willitrun.kernels.overheads import (
    MemoryRange,
    add_ranges,
    scale_range,
    vllm_activation_peak,
)
from willitrun.kernels.server_defaults import sglang_default_limits, vllm_default_limits
from willitrun.kernels.splits import by_device, count_devices
from willitrun.records.calibrations import Calibration

__all__ = [
    "CALIBRATION",
    "GRAPHS_IN_BUDGET",
    "allocator_slack",
    "block_buffers",
    "borrowed_from",
    "device_overhead",
    "outside_budget",
    "runtime_overhead",
    "server_version",
]

# Engines that allocate like another one.
_LIKE = {"llamafile": "llama.cpp", "sglang": "vllm", "tensorrt-llm": "vllm", "transformers": "pytorch", "diffusers": "pytorch",
         "comfyui": "pytorch", "exllama": "pytorch", "onnxruntime": "pytorch", "tensorrt": "pytorch",
         "openvino": "pytorch", "mlx": "llama.cpp"}  # fmt: skip
SAMPLER_CHANGED = (0, 12)
"""First version of vLLM whose sampler needs about 16 instead of 38 bytes per logit."""
SYMMETRIC_MEMORY = (0, 12)
"""First version of vLLM whose logs show the buffers of all-reduces over symmetric memory, which are on by default
and for Hopper and Blackwell servers only: https://github.com/vllm-project/vllm/pull/24111"""
NEWEST = (10**6, 0)


def _engine(request: Request) -> str:
    engine = ENGINES.get(request.profile.id, request.profile.id)
    return _LIKE.get(engine, engine)


def borrowed_from(request: Request) -> str | None:
    """Server whose buffers stand for this runtime's: nobody published load logs of SGLang or TensorRT-LLM to fit."""
    return (
        "vLLM" if _engine(request) == "vllm" != ENGINES.get(request.profile.id, request.profile.id) else None
    )


def _range(calibration: Calibration, key: str) -> tuple[int, int, int]:
    found = calibration.intervals[key]
    return int(found["low"]), int(found["best"]), int(found["high"])


def runtime_overhead(request: Request, *, host: bool, ranks: str = "single") -> tuple[int, int, int]:
    """Low, best and high estimate of what the runtime itself takes on one device [bytes].

    The device context by engine and system; a host that computes itself, and Metal, hold no more than a
    process does. vLLM adds what its libraries hold, by ``ranks`` (single, parallel or parallel.symmetric), and CUDA
    graphs unless execution is eager.
    """
    calibration = request.catalog.calibrations[CALIBRATION]
    engine = _engine(request)
    machine = request.machine
    system = machine.host.system if machine is not None else "linux"
    if host or request.runtime.backend == "metal":
        return _range(calibration, "context.llama.cpp.macos")
    place = "windows" if system == "windows" else "linux"
    if engine == "llama.cpp":
        return _range(calibration, f"context.llama.cpp.{place}")
    context = _range(calibration, f"context.pytorch.{place}")
    if engine != "vllm":
        return context
    parts = [MemoryRange(*(np.int64(v) for v in context))]  # type: ignore[arg-type]
    parts.append(MemoryRange(*(np.int64(v) for v in _range(calibration, f"non-torch.vllm.{ranks}"))))  # type: ignore[arg-type]
    if not request.runtime.enforce_eager:
        parts.append(MemoryRange(*(np.int64(v) for v in _range(calibration, "graphs.vllm"))))  # type: ignore[arg-type]
    total = add_ranges(*parts)
    return int(total.low), int(total.best), int(total.high)


GRAPHS_IN_BUDGET = (0, 21)
"""First version of vLLM that books CUDA graphs inside its memory budget, as its own log says:
https://github.com/vllm-project/vllm/pull/38284"""


def outside_budget(request: Request) -> int:
    """What a server takes beside its memory budget: the device context, and CUDA graphs before vLLM 0.21 [bytes]."""
    calibration = request.catalog.calibrations[CALIBRATION]
    system = request.machine.host.system if request.machine is not None else "linux"
    place = "windows" if system == "windows" else "linux"
    outside = int(calibration.intervals[f"context.pytorch.{place}"]["best"])
    if not _books_graphs(request) and not request.runtime.enforce_eager:
        outside += int(calibration.intervals["graphs.vllm"]["best"])
    return outside


def _books_graphs(request: Request) -> bool:
    """Whether graphs are inside the budget: since 0.21 of vLLM; a share of free memory never has them."""
    return request.profile.memory_share_of == "card" and server_version(request) >= GRAPHS_IN_BUDGET


PREFILL_CHUNK = 2048
"""``max_chunk_size`` of ExLlama and ``prefill_step_size`` of mlx-lm: https://github.com/turboderp-org/exllamav3,
https://github.com/ml-explore/mlx-lm"""

LEGACY_CACHE = (4, 36)
"""First version of transformers whose cache does not keep the previous step's copy alive."""

LAST_LOGITS = (4, 45)
"""First version of transformers that makes logits of the last position only."""


def allocator_slack(request: Request) -> tuple[float, float, float]:
    """What a caching allocator reserves beyond what is allocated: low, best, high share of the live tensors.

    Weights are allocated once and leave no holes; caches and activations come and go.
    """
    engine = ENGINES.get(request.profile.id, request.profile.id)
    legacy = engine == "transformers" and server_version(request) < LEGACY_CACHE
    stage = "generate" if legacy and request.workload.mode == "inference" else "forward"
    found = request.catalog.calibrations[CALIBRATION].intervals[f"slack.transformers.{stage}"]
    return found["low"], found["best"], found["high"]


def device_overhead(ground: LlmGround, request: Request) -> MemoryRange:
    """What the runtime itself takes on each device of each row; ``request`` stands for all rows of a block."""
    host = bool(ground.machines["on_host"].flat[0])
    alone, together, symmetric = (
        runtime_overhead(request, host=host, ranks=ranks)
        for ranks in ("single", "parallel", "parallel.symmetric")
    )
    many = (ground.parallelism.tensor > 1)[..., None]
    servers = _symmetric_memory(ground, request)[..., None]
    return MemoryRange(
        *(
            where(many, where(servers, c, b), a).astype(np.int64)
            for a, b, c in zip(alone, together, symmetric, strict=True)
        )
    )


def _symmetric_memory(ground: LlmGround, request: Request) -> NDArray[np.bool_]:
    """Which rows' ranks reduce over symmetric memory."""
    version = server_version(request) if borrowed_from(request) is None else NEWEST
    generation = ground.machines["generation"]
    hopper, blackwell = (level_code("generation", name) for name in ("hopper", "blackwell"))
    servers: NDArray[np.bool_] = (generation == hopper) | (generation == blackwell)
    return servers & (version >= SYMMETRIC_MEMORY)


def block_buffers(
    ground: LlmGround,
    loads: Columns,
    available: IntArray,
    cache: Cache,
    overhead: MemoryRange,
    request: Request,
    cells: CellBuffers | None = None,
) -> Buffers:
    """Activations and overhead of every device of every row of a block.

    ``overhead`` is that of the runtime on each device, ``cells`` is what `cell_buffers` lays for llama.cpp, where the
    caller keeps it; ``request`` stands for the runtime, its options and the catalog, which all rows of a block share.
    """
    policy, models, kv_cache, sequences = ground.policy, ground.models, cache.kv, cache.sequences
    host_bytes = 0 * sequences
    if policy.cache == "cells":
        cells = cells or cell_buffers(ground, available, overhead.best, request)
        activation = cells.of(cache)
        host_bytes = cells.on_host(cache)
    elif policy.cache == "pages" and _engine(request) == "vllm":
        activation = _paged_activation(ground, loads, request)
    else:
        activation = _eager_activation(models, loads, sequences, kv_cache, request)
        devices = count_devices(available)
        live = by_device(kv_cache // devices) + activation.best
        least = by_device(kv_cache // devices) + activation.low
        low, best, high = allocator_slack(request)
        slack = scale_range(live, low, best, high)
        slack = MemoryRange(scale_range(least, low, best, high).low, slack.best, slack.high)
        weights = models["repeating"] + models["output"] + models["vision_bytes"]
        room = available - by_device(weights // devices) - live - overhead.best
        # An allocator gives back what it does not use before it fails: what is held beyond the live tensors
        # ends at the card's edge. Its high end does not, since holes may be too small to be of use.
        held = minimum(maximum(slack.best, 0), maximum(room, 0))
        overhead = add_ranges(overhead, MemoryRange(minimum(slack.low, held), held, slack.high))
    if exists(loads["image_patches"]):
        # Loaded for requests with pictures only.
        from willitrun.estimators.image_buffers import with_image_encoder

        activation = with_image_encoder(activation, models, loads, sequences, available, policy.cache)
    return Buffers(
        activation=activation.best,
        activation_low=activation.low,
        activation_high=activation.high,
        overhead=overhead.best,
        overhead_low=overhead.low,
        overhead_high=overhead.high,
        host=host_bytes,
    )


def server_version(request: Request) -> tuple[int, int]:
    """Major and minor version of the runtime; the newest where nobody says."""
    found = re.match(r"v?(\d+)\.(\d+)", request.runtime.version or "")
    return (int(found.group(1)), int(found.group(2))) if found else NEWEST


def _paged_activation(ground: LlmGround, loads: Columns, request: Request) -> MemoryRange:
    calibration = request.catalog.calibrations[CALIBRATION]
    models, machines = ground.models, ground.machines
    numbers, runtime = calibration.coefficients, request.runtime
    version = server_version(request) if _engine(request) == "vllm" else NEWEST
    each = machines["total_memory"] // maximum(machines["devices"], 1)
    if ENGINES.get(request.profile.id, request.profile.id) == "sglang":
        sequences, batched = sglang_default_limits(each, tensor=ground.parallelism.tensor)
    else:
        sequences, batched = vllm_default_limits(
            each, version=version, context_tokens=loads["context_tokens"], small_steps=machines["small_steps"]
        )
    old = version < SAMPLER_CHANGED
    peak = vllm_activation_peak(
        by_device(models["vocab_size"]),
        by_device(models["hidden_size"]),
        by_device(models["feed_forward"]),
        max_num_seqs=runtime.max_num_seqs or by_device(sequences),
        max_num_batched_tokens=runtime.max_num_batched_tokens or by_device(batched),
        tensor=by_device(ground.parallelism.tensor),
        sampler_bytes=numbers["vllm.sampler_bytes_before_0.12" if old else "vllm.sampler_bytes"],
        forward_copies=numbers["vllm.forward_copies"],
        base_bytes=numbers["vllm.activation_base_bytes"],
    )
    factors = calibration.intervals["activation.vllm"]
    return scale_range(peak, factors["low"], factors["best"], factors["high"])


def _eager_activation(
    models: Columns, loads: Columns, sequences: IntArray, kv_cache: IntArray, request: Request
) -> MemoryRange:
    engine = ENGINES.get(request.profile.id, request.profile.id)
    version = server_version(request) if engine == "transformers" else NEWEST
    # A runtime that prefills in chunks never sees more than one chunk at once. mlx-lm makes half-precision logits of
    # every position of the last: its tables of Qwen3 4B and 30B hold 0.6 GB beside weights, cache and stream
    # (https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/BENCHMARKS.md).
    mlx = engine == "mlx"
    chunked = request.profile.kv_policy == "pages"
    peak = eager_transformer_peak(
        minimum(loads["prompt_tokens"], PREFILL_CHUNK) if chunked or mlx else loads["prompt_tokens"],
        sequences=maximum(sequences, loads["texts"]),
        # Whoever reads texts only loads a model without its output matrix.
        vocabulary=where(models["reads_only"], 0, models["vocab_size"] * models["has_output"]),
        hidden=models["hidden_size"],
        feed_forward=models["feed_forward"],
        heads=models["heads"],
        gated=models["gated"],
        experts_used=models["n_experts_used"],
        element_bytes=models["element_bytes"],
        all_logits=mlx or version < LAST_LOGITS,
        float_logits=not mlx,
    )
    # Tuples of the step before stay alive while the new ones are joined. Every device of a layer split runs the
    # same pass, one after the other.
    doubled = maximum(peak, kv_cache)
    if version < LEGACY_CACHE and not chunked:
        return MemoryRange.exact(by_device(doubled))
    if engine != "transformers" or chunked:
        return MemoryRange.exact(by_device(peak))
    # Whether a prompt is fed in chunks is up to the caller: peaks that Qwen published for Qwen3 grow by the cache
    # alone. Where nobody says which version, models that bring their own code often keep the old cache.
    high = doubled if request.runtime.version is None else peak
    return MemoryRange(by_device(0 * peak), by_device(peak), by_device(high))
