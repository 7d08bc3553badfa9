"""Measurements near the graphs of a sweep, as arrays: evidence, factor and narrowing per network, device and batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.estimators.calibration_anchors import DeviceAnchors, Shift, device_anchors
from willitrun.estimators.calibration_rows import configuration_of
from willitrun.estimators.evidence import is_measured
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.requests import Request
from willitrun.estimators.support import LEVELS, model_family, support_of
from willitrun.frozen import frozen
from willitrun.planning.anchors import EVIDENCE
from willitrun.records.recipes import Workload

__all__ = ["GraphAnchors", "graph_anchors"]

FloatArray = NDArray[np.float64]
_UNSEEN = LEVELS.index("unseen-class")
_ESTIMATED, _CALIBRATED = EVIDENCE.index("estimated"), EVIDENCE.index("calibrated")


@frozen(eq=False)
class GraphAnchors:
    """Arrays of shape (networks, devices); evidence (networks, devices, batches), or one for all batches."""

    evidence: NDArray[np.int8]
    factor: FloatArray
    narrowing: FloatArray

    def take(self, down: slice, across: slice, deep: slice) -> GraphAnchors:
        """A box of the grid."""
        depth = deep if self.evidence.shape[-1] > 1 else slice(None)
        return GraphAnchors(
            self.evidence[down, across, depth], self.factor[down, across], self.narrowing[down, across]
        )


def graph_anchors(
    catalog: Catalog,
    networks: Sequence[Request],
    devices: Sequence[tuple[Request, MachineView]],
    levels: NDArray[np.int64],
    loads: Sequence[Workload],
) -> GraphAnchors:
    """Evidence and shifts of every network on every device. ``loads`` differ in their batch only."""
    shape = levels.shape
    evidence = np.where(levels == _UNSEEN, _ESTIMATED, _CALIBRATED).astype(np.int8)[..., None]
    factor, narrowing = np.ones(shape), np.ones(shape)
    families = [model_family(network) for network in networks]
    measured: dict[tuple[int, int], list[int]] = {}
    for across, (request, view) in enumerate(devices):
        ids = view.device_ids
        anchors = device_anchors(catalog, ids[0], len(ids), images=True) if len(set(ids)) == 1 else None
        if anchors is None:
            continue
        shifts: dict[str, Shift] = {}
        for down, (network, family) in enumerate(zip(networks, families, strict=True)):
            known = is_measured(catalog, network.model.id, ids[0], "images_per_s")
            if known or family not in shifts:
                moved = replace(
                    network, machine=request.machine, runtime=request.runtime, profile=request.profile
                )
                shift = anchors.shift("images", configuration_of(moved, ids[0], len(ids)))
                if known:
                    measured[down, across] = _evidence(moved, ids, anchors, loads)
                else:
                    # Networks that nobody measured here are alike but for their family.
                    shifts[family] = shift
            else:
                shift = shifts[family]
            factor[down, across], narrowing[down, across] = shift.factor, shift.narrowing
    if measured:
        evidence = np.repeat(evidence, len(loads), axis=2)
        for place, codes in measured.items():
            evidence[place] = codes
    return GraphAnchors(evidence, factor, narrowing)


def _evidence(
    request: Request, ids: tuple[str, ...], anchors: DeviceAnchors, loads: Sequence[Workload]
) -> list[int]:
    """Evidence by load: batches that nobody measured are all alike."""
    measured = {comparison.measurement.batch_size for comparison in anchors.comparisons}
    known: dict[int | None, int] = {}
    found = []
    for load in loads:
        batch = load.batch_size if load.batch_size in measured else None
        if batch not in known:
            support = support_of(replace(request, workload=load), ids, "vision-speed")
            known[batch] = EVIDENCE.index(support.evidence)
        found.append(known[batch])
    return found
