"""Reason codes as numbers: why a row has its tier, and what dominates its memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.elementwise import as_code, exists, where
from willitrun.kernels.placement import OFFLOAD, TIGHT, Layout
from willitrun.kernels.splits import sum_devices

__all__ = ["DOMINANCE_REASONS", "FIT_REASONS", "dominance_codes", "fit_codes"]

CodeArray = NDArray[np.int8]
BoolArray = NDArray[np.bool_]

FIT_REASONS = (
    "does-not-fit",
    "needs-offload",
    "fits-tightly",
    "fits-comfortably",
    "out-of-host-memory",
    "no-cpu-offload-in-runtime",
)
DOMINANCE_REASONS = ("", "kv-cache-dominates", "weights-dominate")

DECIDING_SHARE = (2, 5)
"""From this share of the total on, as a fraction, the cache decides, else the weights."""


def fit_codes(layout: Layout, *, can_offload: bool | BoolArray, unified: BoolArray) -> CodeArray:
    """Index into `FIT_REASONS` per row: the tier's own code, and what it was for those that will not run."""
    codes: CodeArray = layout.tier
    if exists(layout.out_of_host):
        codes = where(layout.out_of_host, np.int8(4), codes)
    if can_offload is not True:
        short = (layout.tier < OFFLOAD) & ~layout.out_of_host & ~unified
        codes = where(short & ~np.asarray(can_offload), np.int8(5), codes)
    return codes


def dominance_codes(layout: Layout) -> CodeArray:
    """Index into `DOMINANCE_REASONS` per row: what to change where memory is short, or where the cache is
    larger than the weights."""
    total = sum_devices(layout.total)
    kv = sum_devices(layout.kv_cache)
    weights = sum_devices(layout.weights)
    part, whole = DECIDING_SHARE
    short = layout.tier <= TIGHT
    cache = (whole * kv > part * total) & (short | (kv > weights))
    # Where buffers take it all, neither decides.
    heavy = short & ~cache & (whole * weights > part * total)
    result: CodeArray = as_code(cache) + 2 * as_code(heavy)
    return result
