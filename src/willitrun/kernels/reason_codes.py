"""Reason codes as numbers: why a row has its tier, and what dominates its memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.elementwise import maximum, where
from willitrun.kernels.placement import COMFORTABLE, OFFLOAD, TIGHT, Layout
from willitrun.kernels.splits import sum_devices

__all__ = ["DOMINANCE_REASONS", "FIT_REASONS", "dominance_codes", "fit_codes"]

IntArray = NDArray[np.int64]
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

KV_SHARE = 0.4
"""From this share of the total on, the cache decides rather than the weights."""


def fit_codes(layout: Layout, *, can_offload: bool, unified: BoolArray) -> IntArray:
    """Index into `FIT_REASONS` per row."""
    codes = where(layout.tier >= OFFLOAD, layout.tier, 0)
    refused = (layout.tier < OFFLOAD) & ~layout.out_of_host
    codes = where(layout.out_of_host, 4, codes)
    result: IntArray = where(refused & (not can_offload) & ~unified, 5, codes)
    return result


def dominance_codes(layout: Layout) -> IntArray:
    """Index into `DOMINANCE_REASONS` per row: what to change where memory is short, or where the cache is
    larger than the weights."""
    total = sum_devices(layout.total)
    kv = sum_devices(layout.kv_cache)
    weights = sum_devices(layout.weights)
    short = layout.tier <= TIGHT
    cache = (kv > KV_SHARE * maximum(total, 1)) & (short | (kv > weights))
    result: IntArray = where(cache, 1, where(short & (layout.tier != COMFORTABLE), 2, 0))
    return result
