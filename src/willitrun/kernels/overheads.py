"""What runtimes take beside weights, cache and activations: calibrated ranges, and vLLM's own budget.

Every calibrated number is an argument; they live in ``catalogs/calibrations/memory.toml``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import as_float, ceiled, floored, maximum, rounded, where
from willitrun.kernels.weights import as_int64

__all__ = [
    "MemoryRange",
    "add_ranges",
    "scale_range",
    "vllm_activation_peak",
    "vllm_kv_pool",
    "vllm_kv_tokens",
    "vllm_weight_extras",
]

Int64Array = NDArray[np.int64]


@frozen(eq=False)
class MemoryRange:
    """Low, best and high estimate of a number of bytes, as int64 arrays of one shape."""

    low: Int64Array
    best: Int64Array
    high: Int64Array

    @classmethod
    def exact(cls, value: ArrayLike) -> MemoryRange:
        """A range of zero width."""
        array = as_int64(value)
        return cls(array, array, array)


def _factor(value: ArrayLike) -> float | NDArray[np.float64]:
    return value if isinstance(value, float) else np.asarray(value, dtype=np.float64)


def scale_range(value: ArrayLike, low: ArrayLike, best: ArrayLike, high: ArrayLike) -> MemoryRange:
    """Bytes with calibrated factors around them.

    The low end is rounded down and the high end up, so that a range never shrinks by rounding.

    Examples
    --------
    >>> scale_range(1000, 0.9, 1.0, 1.1005).high.item()
    1101
    """
    base = as_float(as_int64(value))
    return MemoryRange(
        floored(base * _factor(low)), rounded(base * _factor(best)), ceiled(base * _factor(high))
    )


def add_ranges(*parts: MemoryRange) -> MemoryRange:
    """Sum of independent ranges: best estimates add, half-widths add in quadrature.

    The interval of a sum of endpoints would be far too wide; this one is right for independent errors, and
    totals with a calibration of their own use that instead.
    """
    best = sum((part.best for part in parts), start=np.int64(0))
    below = np.sqrt(sum((_square(part.best - part.low) for part in parts), start=np.float64(0)))
    above = np.sqrt(sum((_square(part.high - part.best) for part in parts), start=np.float64(0)))
    return MemoryRange(as_int64(best - ceiled(below)), as_int64(best), as_int64(best + ceiled(above)))


def _square(values: Int64Array) -> NDArray[np.float64]:
    width = as_float(values)
    return width * width


def vllm_activation_peak(
    vocabulary: ArrayLike,
    hidden: ArrayLike,
    feed_forward: ArrayLike,
    *,
    max_num_seqs: ArrayLike,
    max_num_batched_tokens: ArrayLike,
    tensor: ArrayLike = 1,
    sampler_bytes: ArrayLike,
    forward_copies: ArrayLike,
    base_bytes: ArrayLike,
) -> Int64Array:
    """Activation peak of vLLM's profiling run on one accelerator [bytes].

    The larger of the sampler on ``max_num_seqs`` rows of logits and of one forward pass over
    ``max_num_batched_tokens``, plus a constant:
    ``max(V S sampler_bytes, T (2 F / t + forward_copies E) 2) + base``.

    Parameters
    ----------
    vocabulary, hidden, feed_forward
        Widths of the model [elements].
    max_num_seqs, max_num_batched_tokens
        Scheduler limits: rows of logits, tokens of a step.
    tensor
        Tensor-parallel ranks, which share the feed-forward width; logits are gathered whole.
    sampler_bytes
        Bytes per logit in the sampler; depends on the version (calibrated).
    forward_copies
        Hidden-width tensors alive at once (calibrated).
    base_bytes
        Workspaces (calibrated).
    """
    logits = as_int64(vocabulary) * as_int64(max_num_seqs) * _factor(sampler_bytes)
    widths = 2 * as_int64(feed_forward) / as_int64(tensor) + _factor(forward_copies) * as_int64(hidden)
    forward = as_int64(max_num_batched_tokens) * widths * 2.0
    total = maximum(logits, forward) + _factor(base_bytes)
    return rounded(total)


def vllm_kv_pool(
    device_bytes: ArrayLike,
    *,
    utilization: ArrayLike,
    weights_bytes: ArrayLike,
    activation_bytes: ArrayLike,
    non_torch_bytes: ArrayLike,
    graph_bytes: ArrayLike = 0,
) -> Int64Array:
    """What vLLM leaves for the KV cache on one accelerator [bytes]; 0 where nothing is left.

    ``utilization x total - weights - activation peak - non-torch - graphs``. CUDA graphs were outside the
    budget before version 0.20: pass 0 then.

    Examples
    --------
    >>> vllm_kv_pool(80 * 2**30, utilization=0.9, weights_bytes=16 * 2**30, activation_bytes=2**30,
    ...     non_torch_bytes=2**28).item() // 2**30
    54
    """
    budget = np.floor(as_int64(device_bytes) * np.asarray(utilization, dtype=np.float64)).astype(np.int64)
    taken = (
        as_int64(weights_bytes)
        + as_int64(activation_bytes)
        + as_int64(non_torch_bytes)
        + as_int64(graph_bytes)
    )
    return np.asarray(maximum(budget - taken, 0), dtype=np.int64)


def vllm_kv_tokens(
    pool_bytes: ArrayLike, bytes_per_token: ArrayLike, *, block_tokens: ArrayLike = 16
) -> Int64Array:
    """Tokens that a pool holds, in whole blocks.

    Examples
    --------
    >>> vllm_kv_tokens(2**30, 131072).item()
    8192
    """
    block = as_int64(block_tokens)
    return np.asarray(as_int64(pool_bytes) // (as_int64(bytes_per_token) * block) * block, dtype=np.int64)


HIDDEN_MULTIPLE, EXPERT_MULTIPLE = 256, 128


def vllm_weight_extras(
    experts: ArrayLike, hidden: ArrayLike, expert_width: ArrayLike, rope: ArrayLike, *, tensor: ArrayLike = 1
) -> Int64Array:
    """What vLLM holds as weights beside those of the checkpoint, over all ranks [bytes].

    Its MXFP4 kernels (Marlin) take widths that are multiples of 256 and, on each rank, 128: zeros fill the experts up.
    Every rank has the tables of rotary positions whole. On Hopper, Triton's layouts pad 6-8 % in place of the 9 % of
    gpt-oss here.

    Parameters
    ----------
    experts
        Routed experts as the checkpoint stores them [bytes].
    hidden, expert_width
        Widths of an expert [elements]; an ``expert_width`` of 0 where nothing is filled up.
    rope
        Tables of rotary positions [bytes].
    tensor
        Tensor-parallel ranks.

    References
    ----------
    https://github.com/vllm-project/vllm/blob/007d50058a06dec0f82472d63c819244d460c40d/vllm/model_executor/layers/quantization/mxfp4.py

    Examples
    --------
    gpt-oss-20b, 24 layers of 32 experts in blocks of 17 bytes per 32 weights: 0.85 GiB more.

    >>> experts = 24 * 32 * 3 * 2880 * 2880 // 32 * 17
    >>> round(vllm_weight_extras(experts, 2880, 2880, 0).item() / 2**30, 2)
    0.85
    """
    height, width, ranks = as_int64(hidden), as_int64(expert_width), as_int64(tensor)
    part = -(-width // ranks)
    whole = maximum(height * width, 1)
    filled = (
        -(-height // HIDDEN_MULTIPLE)
        * HIDDEN_MULTIPLE
        * -(-part // EXPERT_MULTIPLE)
        * EXPERT_MULTIPLE
        * ranks
    )
    # In millionths: bytes of experts times elements of one would not fit.
    share = where(width > 0, (filled - height * width) * 1_000_000 // whole, 0)
    total: Int64Array = as_int64(experts) // 1_000_000 * share + as_int64(rope) * ranks
    return as_int64(total)
