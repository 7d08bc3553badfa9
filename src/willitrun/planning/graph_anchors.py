"""Measurements near the graphs of a sweep, as arrays: evidence, and what they say of the terms of each network on each device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.estimators.calibration_anchors import DeviceAnchors, device_anchors
from willitrun.estimators.calibration_rows import configuration_of
from willitrun.estimators.evidence import is_measured
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.requests import Request
from willitrun.estimators.support import LEVELS, model_family, support_of
from willitrun.frozen import frozen
from willitrun.kernels.anchors import Reach, narrowing
from willitrun.kernels.operators import TERMS, ImageSpeed
from willitrun.planning.anchors import EVIDENCE
from willitrun.records.recipes import Workload

__all__ = ["GraphAnchors", "graph_anchors"]

FloatArray = NDArray[np.float64]
_UNSEEN = LEVELS.index("unseen-class")
_ESTIMATED, _CALIBRATED = EVIDENCE.index("estimated"), EVIDENCE.index("calibrated")


@frozen(eq=False)
class GraphAnchors:
    """Evidence of shape (networks, devices, batches), or one for all batches; what moves, and what that rests on.

    ``reach`` has (networks, devices) before its terms, None where no device has measurements; ``noise`` is the variance
    of a single one.
    """

    evidence: NDArray[np.int8]
    reach: Reach | None
    noise: float

    def take(self, down: slice, across: slice, deep: slice) -> GraphAnchors:
        """A box of the grid."""
        depth = deep if self.evidence.shape[-1] > 1 else slice(None)
        near = None
        if self.reach is not None and self.reach.moved[down, across].any():
            near = Reach(self.reach.moved[down, across], self.reach.explained[down, across], self.reach.prior)
        return GraphAnchors(self.evidence[down, across, depth], near, self.noise)

    def shift(self, speed: ImageSpeed, *, turned: bool) -> tuple[FloatArray, FloatArray] | None:
        """Factor of the rate and narrowing of rows; None where nothing moves. ``turned``: rows have loads before devices."""
        if self.reach is None:
            return None
        known = np.flatnonzero(self.reach.moved.any(axis=(0, 2)))
        axis = 2 if turned else 1
        whole = speed.seconds.shape
        shares = np.stack(
            [np.take(np.broadcast_to(share, whole), known, axis) for share in speed.shares], axis=-1
        )
        shares /= np.take(speed.seconds, known, axis)[..., None]
        beside = (slice(None), None, known) if turned else (slice(None), known, None)
        moved, explained = self.reach.moved[beside], self.reach.explained[beside]
        found = Reach(moved, explained, self.reach.prior).at(shares)
        factor, narrow = np.ones(whole), np.ones(whole)
        place = (slice(None),) * axis + (known,)
        factor[place], narrow[place] = np.exp(found.mean), narrowing(found, self.noise)
        return factor, narrow


def graph_anchors(
    catalog: Catalog,
    networks: Sequence[Request],
    devices: Sequence[tuple[Request, MachineView]],
    levels: NDArray[np.int64],
    loads: Sequence[Workload],
) -> GraphAnchors:
    """Evidence of every network on every device, and how measurements reach it. ``loads`` differ in their batch only."""
    shape = levels.shape
    evidence = np.where(levels == _UNSEEN, _ESTIMATED, _CALIBRATED).astype(np.int8)[..., None]
    terms = len(TERMS)
    moved, explained = np.zeros((*shape, terms)), np.zeros((*shape, terms, terms))
    prior, noise = 0.0, 1.0
    families = [model_family(network) for network in networks]
    measured: dict[tuple[int, int], list[int]] = {}
    for across, (request, view) in enumerate(devices):
        ids = view.device_ids
        anchors = device_anchors(catalog, ids[0], len(ids), images=True) if len(set(ids)) == 1 else None
        if anchors is None:
            continue
        reaches: list[Reach] = []
        of_family: dict[str, int] = {}
        lines = []
        for down, (network, family) in enumerate(zip(networks, families, strict=True)):
            known = is_measured(catalog, network.model.id, ids[0], "images_per_s")
            if known or family not in of_family:
                asked = replace(
                    network, machine=request.machine, runtime=request.runtime, profile=request.profile
                )
                found = anchors.reach("images", configuration_of(asked, ids[0], len(ids)))
                if found is None:
                    break  # nothing on the device may carry a verdict
                reaches.append(found)
                if known:
                    measured[down, across] = _evidence(asked, ids, anchors, loads)
                else:
                    # Networks that nobody measured here are alike but for their family.
                    of_family[family] = len(reaches) - 1
                lines.append(len(reaches) - 1)
            else:
                lines.append(of_family[family])
        if lines:
            prior, noise = reaches[0].prior, anchors.noise("images")
            moved[:, across] = np.concatenate([one.moved for one in reaches])[lines]
            explained[:, across] = np.concatenate([one.explained for one in reaches])[lines]
    if measured:
        evidence = np.repeat(evidence, len(loads), axis=2)
        for place, codes in measured.items():
            evidence[place] = codes
    return GraphAnchors(evidence, Reach(moved, explained, prior) if moved.any() else None, noise)


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
