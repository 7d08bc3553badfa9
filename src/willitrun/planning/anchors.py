"""Measurements near the slots of a sweep, as columns: evidence, factors and narrowing per slot and load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from willitrun.estimators.calibration_rows import phase_of
from willitrun.estimators.support import Support, support_of
from willitrun.planning.axes import Slot, Unit
from willitrun.records.recipes import Workload

__all__ = ["EVIDENCE", "AnchorColumns", "anchor_columns"]

EVIDENCE = ("estimated", "calibrated", "measured-near", "measured")
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AnchorColumns:
    """Columns of shape (slots, loads), or of rows once taken; narrowing has a trailing axis for low and high."""

    evidence: NDArray[np.int8]
    output_factor: FloatArray
    output_narrowing: FloatArray
    prefill_factor: FloatArray
    prefill_narrowing: FloatArray
    anchored: bool
    """Whether any factor differs from 1: powers of millions of rows cost more than their prediction."""

    def take(self, slot: NDArray[np.int64], load: NDArray[np.int64]) -> AnchorColumns:
        """Rows by slot and load."""
        if self.evidence.shape[1] == 1:
            load = np.zeros_like(load)
        return AnchorColumns(
            self.evidence[slot, load],
            self.output_factor[slot, load],
            self.output_narrowing[slot, load],
            self.prefill_factor[slot, load],
            self.prefill_narrowing[slot, load],
            self.anchored,
        )


def anchor_columns(unit: Unit, slots: Sequence[Slot]) -> AnchorColumns:
    """The columns of some slots of a unit; one load stands for all where no slot has measurements."""
    anchored = any(slot.anchored for slot in slots)
    loads = unit.workloads if anchored else unit.workloads[:1]
    shape = (len(slots), len(loads))
    evidence = np.zeros(shape, dtype=np.int8)
    shifts = np.tile(np.array([1.0, 1.0, 1.0, 1.0]), (*shape, 1))
    for i, slot in enumerate(slots):
        if not slot.anchored:
            evidence[i] = EVIDENCE.index(slot.evidence)
            continue
        known: dict[int, tuple[int, tuple[float, ...]]] = {}
        for j, load in enumerate(loads):
            # Nothing else of a load decides which measurements are near.
            if load.concurrency not in known:
                known[load.concurrency] = _near(slot, load)
            evidence[i, j], shifts[i, j] = known[load.concurrency]
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
