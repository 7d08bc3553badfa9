"""What servers choose by the size of a card where nobody says, and what a share of free memory comes to."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.kernels.elementwise import maximum, where
from willitrun.kernels.weights import as_int64

__all__ = [
    "pool_of_share",
    "sglang_default_limits",
    "sglang_static_share",
    "share_for_pool",
    "vllm_default_limits",
]

Int64Array = NDArray[np.int64]

GIB = 2**30
ROOMY_CARD_BYTES = 70 * GIB
"""From this size on vLLM's server takes larger scheduler defaults."""
LARGEST_CARD_BYTES = 160 * GIB
"""From this size on it takes steps of 16,384 tokens since 0.28: https://github.com/vllm-project/vllm/pull/51726"""


def vllm_default_limits(
    device_bytes: ArrayLike,
    *,
    version: tuple[int, int],
    context_tokens: ArrayLike,
    small_steps: ArrayLike = False,
) -> tuple[Int64Array, Int64Array]:
    """``max_num_seqs`` and ``max_num_batched_tokens`` of vLLM's server where nobody sets them.

    256 sequences, 1,024 on cards of 70 GiB and more since 0.9; 2,048 tokens per step, 8,192 on such cards, 16,384 on
    those of 160 GiB since 0.28, and before chunked prefill (0.8) at least the whole context.

    Parameters
    ----------
    device_bytes
        Memory of one card [bytes].
    version
        Major and minor version.
    context_tokens
        Length of a sequence.
    small_steps
        Cards that have the memory and keep the small defaults: the A100, and GB10.

    References
    ----------
    ``EngineArgs.get_batch_defaults`` of vLLM 0.33.0 and 0.11.0 (vllm/engine/arg_utils.py)

    Examples
    --------
    >>> [int(limit) for limit in vllm_default_limits(80 * 2**30, version=(0, 11), context_tokens=8192)]
    [1024, 8192]
    >>> a100 = vllm_default_limits(80 * 2**30, version=(0, 11), context_tokens=8192, small_steps=True)
    >>> [int(limit) for limit in a100]
    [256, 2048]
    """
    size = as_int64(device_bytes)
    roomy = (size >= ROOMY_CARD_BYTES) & ~np.asarray(small_steps, dtype=np.bool_)
    sequences = where(roomy & (version >= (0, 9)), 1024, 256)
    batched = where(roomy, 8192, 2048)
    if version >= (0, 28):
        largest = size >= LARGEST_CARD_BYTES
        sequences, batched = where(largest, 1024, sequences), where(largest, 16384, batched)
    if version < (0, 8):
        batched = maximum(batched, as_int64(context_tokens))
    return as_int64(sequences), as_int64(batched)


_MIB = 2**20
# Cards below so many MiB; sequences in a captured decode step on fewer than four cards and from four on; tokens of a
# prefill step.
_SGLANG_TIERS = (
    (20 * 1024, 8, 8, 2048),
    (35 * 1024, 48, 160, 4096),
    (60 * 1024, 32, 160, 4096),
    (160 * 1024, 256, 512, 8192),
)
_SGLANG_LARGEST = (512, 512, 16384)


def sglang_default_limits(device_bytes: ArrayLike, *, tensor: ArrayLike = 1) -> tuple[Int64Array, Int64Array]:
    """Sequences of SGLang's largest captured decode step, and tokens of its prefill steps, where nobody says.

    References
    ----------
    ``handle_gpu_memory_settings`` of SGLang 0.5.23 (srt/arg_groups/memory_hook.py)

    Examples
    --------
    >>> [int(limit) for limit in sglang_default_limits(24 * 2**30)]
    [48, 4096]
    """
    mib = as_int64(device_bytes) // _MIB
    many = as_int64(tensor) >= 4
    few, wide, chunk = _SGLANG_LARGEST
    sequences, batched = where(many, wide, few), as_int64(chunk) + 0 * mib
    for below, few, wide, chunk in reversed(_SGLANG_TIERS):
        inside = mib < below
        sequences = where(inside, where(many, wide, few), sequences)
        batched = where(inside, chunk, batched)
    return as_int64(sequences + 0 * mib), as_int64(batched)


def sglang_static_share(
    device_bytes: ArrayLike, *, tensor: ArrayLike = 1, pipeline: ArrayLike = 1
) -> NDArray[np.float64]:
    """Share of the memory that is free before loading which SGLang gives to weights and KV pool where nobody says.

    ``1 - reserve / card``: 512 MiB, 1.5 MiB per token of a prefill step, an eighth of a GiB per rank, 2 MiB per
    sequence of a captured decode step and 8 MiB per captured prefill step; 10 GiB at least on cards above 60 GiB.

    References
    ----------
    ``handle_gpu_memory_settings`` and ``reserve_for_graph_mb`` of SGLang 0.5.23 (srt/arg_groups/memory_hook.py)

    Examples
    --------
    >>> [round(float(sglang_static_share(size * 2**30)), 3) for size in (16, 24, 80, 141)]
    [0.752, 0.704, 0.83, 0.904]
    """
    mib = as_int64(device_bytes) / _MIB
    sequences, chunk = sglang_default_limits(device_bytes, tensor=tensor)
    ranks = as_int64(tensor) * as_int64(pipeline)
    reserve = 512 + 1.5 * chunk + ranks * 128 + 2 * sequences + 8 * _captured_prefill_steps(chunk)
    reserve = np.where(mib > 60 * 1024, np.maximum(reserve, 10 * 1024), reserve)
    return np.asarray(np.round((mib - reserve) / mib, 3), dtype=np.float64)


def _captured_prefill_steps(chunk: Int64Array) -> Int64Array:
    """How many lengths of a prefill step are captured up to the longest."""
    lengths = np.concatenate(
        [
            np.arange(4, 33, 4),
            np.arange(48, 257, 16),
            np.arange(288, 513, 32),
            np.arange(576, 1025, 64),
            np.arange(1280, 4097, 256),
            np.arange(4608, 16385, 512),
        ]
    )
    return np.searchsorted(lengths, chunk, side="right").astype(np.int64)


def pool_of_share(
    free_bytes: ArrayLike, *, share: ArrayLike, beside_bytes: ArrayLike, within_bytes: ArrayLike
) -> Int64Array:
    """KV pool of a server whose share is one of free memory [bytes]: ``share (free - beside) - within``; 0 at least.

    Parameters
    ----------
    free_bytes
        What is free on a card before the server starts.
    share
        ``--mem-fraction-static`` of SGLang, ``free_gpu_memory_fraction`` of TensorRT-LLM.
    beside_bytes
        What is taken before the share is counted: the context in SGLang; weights and activations too in TensorRT-LLM.
    within_bytes
        What the share holds beside the pool: weights in SGLang, nothing in TensorRT-LLM.

    Examples
    --------
    >>> pool_of_share(80 * 2**30, share=0.9, beside_bytes=20 * 2**30, within_bytes=0).item() // 2**30
    54
    """
    rest = maximum(as_int64(free_bytes) - as_int64(beside_bytes), 0)
    whole = np.floor(np.asarray(rest, dtype=np.float64) * np.asarray(share, dtype=np.float64)).astype(
        np.int64
    )
    return as_int64(maximum(whole - as_int64(within_bytes), 0))


def share_for_pool(
    free_bytes: ArrayLike, *, pool_bytes: ArrayLike, beside_bytes: ArrayLike, within_bytes: ArrayLike
) -> NDArray[np.float64]:
    """The least share, in thousandths, whose pool holds so much; 1 where none does. See `pool_of_share`.

    Examples
    --------
    >>> float(share_for_pool(24 * 2**30, pool_bytes=2 * 2**30, beside_bytes=2**29, within_bytes=16 * 2**30))
    0.766
    """
    rest = np.maximum(as_int64(free_bytes) - as_int64(beside_bytes), 1)
    least = np.ceil(1000 * (as_int64(pool_bytes) + as_int64(within_bytes)) / rest) / 1000
    return np.asarray(np.minimum(least, 1.0), dtype=np.float64)
