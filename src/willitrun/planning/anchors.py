"""Measurements near the slots of a sweep, as columns: evidence, factors and narrowing per slot and load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from willitrun.estimators.calibration_rows import phase_of
from willitrun.estimators.support import Support, support_of
from willitrun.frozen import frozen
from willitrun.planning.axes import Slot, Unit
from willitrun.records.recipes import Workload

__all__ = ["EVIDENCE", "AnchorColumns", "anchor_columns"]

EVIDENCE = ("estimated", "calibrated", "measured-near", "measured")
FloatArray = NDArray[np.float64]


@frozen
class AnchorColumns:
    """Columns of shape (lines, loads) or (lines, 1); narrowing has a trailing axis for low and high."""

    evidence: NDArray[np.int8]
    output_factor: FloatArray
    output_narrowing: FloatArray
    prefill_factor: FloatArray
    prefill_narrowing: FloatArray
    anchored: bool
    """Whether any factor differs from 1: powers of millions of rows cost more than their prediction."""


def anchor_columns(lines: Sequence[tuple[Unit, Slot]], rows: slice) -> AnchorColumns:
    """The columns of some lines of a grid; one load stands for all where no slot has measurements."""
    anchored = any(slot.anchored for _, slot in lines)
    shape = (len(lines), rows.stop - rows.start if anchored else 1)
    evidence = np.zeros(shape, dtype=np.int8)
    shifts = np.ones((*shape, 4))
    for i, (unit, slot) in enumerate(lines):
        if not slot.anchored:
            evidence[i] = EVIDENCE.index(slot.evidence)
            continue
        # Nothing else of a load decides which measurements are near.
        loads = unit.loads.workloads[rows]
        known: dict[int, tuple[int, tuple[float, ...]]] = {}
        for load in loads:
            if load.concurrency not in known:
                known[load.concurrency] = _near(slot, load)
        found = [known[load.concurrency] for load in loads]
        evidence[i] = [code for code, _ in found]
        shifts[i] = [shift for _, shift in found]
    return AnchorColumns(
        evidence, shifts[..., 0], shifts[..., 1, None], shifts[..., 2], shifts[..., 3, None], anchored
    )


def _near(slot: Slot, load: Workload) -> tuple[int, tuple[float, ...]]:
    assert slot.prepared is not None
    request = replace(slot.request, workload=load)
    support: Support = support_of(request, slot.prepared.machine.device_ids, "llm-speed")
    output = support.shift(phase_of("decode_tokens_per_s", load.concurrency))
    prefill = support.shift("prefill")
    return EVIDENCE.index(support.evidence), (
        output.factor,
        output.narrowing,
        prefill.factor,
        prefill.narrowing,
    )
