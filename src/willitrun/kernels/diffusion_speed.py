"""Time of a diffusion pipeline from the times of its stages.

::

    t = encode + steps x denoise + decode + transfer

``encode``, ``denoise`` and ``decode`` are passes of the operator roofline (:mod:`willitrun.kernels.operators`),
the denoiser at the batch times the passes of classifier-free guidance; ``transfer`` moves offloaded weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen
from willitrun.kernels.operators import TERMS, ImageSpeed

__all__ = ["PIPELINE_TERMS", "PipelineSpeed", "offload_traffic", "time_pipeline"]

Array = NDArray[np.float64]

_DENOISER_TERMS = tuple(f"denoiser {name}" for name in TERMS[:4])
PIPELINE_TERMS = ("text encoding", *_DENOISER_TERMS, "decoding", "weight transfer")
"""Names of the addends of the time of one batch."""

# What a pipeline waits for, by operator term: the floor of kernels and the host's launches are one bound.
_BOUND_OF_TERM = ("compute", "memory-bandwidth", "launch", "launch")


@frozen
class PipelineSpeed:
    """Speed of one batch of images; arrays of shape (rows,), terms (rows, ``len(PIPELINE_TERMS)``).

    Attributes
    ----------
    seconds
        Time of one batch [s]; the terms sum to it.
    iterations_per_s
        Denoiser steps per second [1/s].
    terms
        Seconds by :data:`PIPELINE_TERMS`.
    bound
        What takes most of the time, by row.
    """

    seconds: Array
    iterations_per_s: Array
    terms: Array
    bound: tuple[str, ...]


def offload_traffic(
    offload: str,
    encoder_bytes: ArrayLike,
    denoiser_bytes: ArrayLike,
    vae_bytes: ArrayLike,
    *,
    steps: ArrayLike,
) -> Array:
    """Bytes of weights that cross the host link for one batch.

    Each component once where whole components move (``model``); the denoiser at every step where its layers do
    (``sequential`` and ``group``).

    References
    ----------
    https://huggingface.co/docs/diffusers/optimization/memory

    Examples
    --------
    >>> float(offload_traffic("model", 10, 20, 5, steps=30)), float(offload_traffic("sequential", 10, 20, 5, steps=30))
    (35.0, 615.0)
    """
    encoder, denoiser, vae = (
        np.asarray(v, dtype=np.float64) for v in (encoder_bytes, denoiser_bytes, vae_bytes)
    )
    match offload:
        case "none":
            return np.zeros_like(encoder + denoiser + vae)
        case "model":
            return encoder + denoiser + vae
        case "sequential" | "group":
            return encoder + vae + denoiser * np.asarray(steps, dtype=np.float64)
        case _:
            raise ValueError(f"unknown offload mode {offload!r}: none, model, sequential or group")


def time_pipeline(
    encode: Sequence[ImageSpeed],
    denoise: ImageSpeed,
    decode: ImageSpeed,
    *,
    steps: ArrayLike,
    transfer_s: ArrayLike = 0.0,
) -> PipelineSpeed:
    """Add the stages of a pipeline up.

    Parameters
    ----------
    encode
        One pass of each text encoder.
    denoise, decode
        One pass of the denoiser over the whole batch, guidance included, and of the VAE's decoder.
    steps
        Passes of the denoiser.
    transfer_s
        Time to move offloaded weights, not overlapped with work [s].
    """
    count = np.asarray(steps, dtype=np.float64)
    rows = len(denoise.seconds)
    terms = np.zeros((rows, len(PIPELINE_TERMS)))
    for speed in encode:
        terms[:, 0] += speed.seconds
    denoising = denoise.terms[:, : len(_DENOISER_TERMS)] * count.reshape(-1, 1)
    terms[:, 1:5] = denoising
    terms[:, 5] = decode.seconds
    terms[:, 6] = transfer_s
    seconds = terms.sum(axis=1)
    # The stage that takes longest names the bound: moving weights, or what the denoiser and decoder wait for.
    work = denoising + decode.terms[:, : len(_DENOISER_TERMS)]
    kinds = list(dict.fromkeys(_BOUND_OF_TERM))
    by_kind = np.stack(
        [
            sum((work[:, i] for i, k in enumerate(_BOUND_OF_TERM) if k == kind), np.zeros(rows))
            for kind in kinds
        ]
        + [terms[:, 6]],
        axis=1,
    )
    names = [*kinds, "host-memory"]
    bound = tuple(names[i] for i in by_kind.argmax(axis=1))
    step_s = denoising.sum(axis=1) / count
    return PipelineSpeed(seconds, 1.0 / step_s, terms, bound)
