"""Bytes of a diffusion pipeline's parts: stored components, live activations, the largest layer [bytes]."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.kernels.weights import as_int64

__all__ = ["component_bytes", "largest_layer_range", "live_bytes_per_pixel"]

Int64Array = NDArray[np.int64]


def component_bytes(parameters: ArrayLike, block_weights: ArrayLike, block_bytes: ArrayLike) -> Int64Array:
    """Bytes of a component stored in blocks: ``ceil(parameters / block_weights) x block_bytes``.

    Examples
    --------
    >>> component_bytes(11_891_178_560, 1, 2).item()
    23782357120
    """
    return np.asarray(
        -(-as_int64(parameters) // as_int64(block_weights)) * as_int64(block_bytes), dtype=np.int64
    )


def live_bytes_per_pixel(
    peak_elements: ArrayLike, pixels: ArrayLike, element_bytes: ArrayLike
) -> NDArray[np.float64]:
    """Live activations of a traced denoiser or decoder per pixel and pass [B].

    The largest sum of simultaneously live tensors of one pass, over the pixels of the image, or of all frames of the
    video, that it makes.

    Examples
    --------
    >>> round(float(live_bytes_per_pixel(215_916_292, 1024 * 1024, 2)))
    412
    """
    live = as_int64(peak_elements) * as_int64(element_bytes)
    return np.asarray(live / as_int64(pixels), dtype=np.float64)


def largest_layer_range(
    stored_bytes: ArrayLike, matrices: ArrayLike
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Low, best and high estimate of a network's largest layer [bytes].

    A transformer block holds four attention matrices of width squared and two feed-forward matrices of four times
    that: the largest is twice the mean. Blocks that fuse both, and convolutions of the widest level, reach more.

    Parameters
    ----------
    stored_bytes
        Weights of the network as stored.
    matrices
        Matrix products and convolutions of one pass.
    """
    mean = as_int64(stored_bytes) // np.maximum(as_int64(matrices), 1)
    return mean, 2 * mean, 12 * mean
