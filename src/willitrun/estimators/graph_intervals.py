"""Intervals of images per second: which class of spread a case belongs to, and its factors, for one row or many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.estimators.graph_devices import device_class, used_accelerator
from willitrun.estimators.graph_rates import VISION
from willitrun.estimators.graph_totals import widened_by_totals
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.requests import Request
from willitrun.estimators.support import LEVELS, interval_factors
from willitrun.kernels.operator_residuals import RESIDUAL_OF_PROFILE
from willitrun.records.calibrations import Calibration

__all__ = ["interval_key", "interval_task", "narrowed", "spread_factors", "spread_kind"]

FloatArray = NDArray[np.float64]


def interval_task(profile: str, *, launch: bool, kind: str = "") -> str:
    """Key of a calibration's intervals: what residuals are learnt by, apart where the host takes a share of the time, and
    apart for kinds of device (`device_class`) that can be foretold less well than NVIDIA's cards.

    Engines have one interval: they hand whole graphs to the device, and where the host has a share of their time,
    measurements spread no wider.

    >>> interval_task("eager-nhwc", launch=False), interval_task("eager", launch=True)
    ('eager', 'eager-launch')
    >>> interval_task("engine", launch=True, kind="nvidia-board"), interval_task("eager", launch=False, kind="amd")
    ('engine@board', 'eager@other')
    """
    name = RESIDUAL_OF_PROFILE[profile].removesuffix("-nhwc")
    if name == "cpu":
        return name
    if launch and name == "eager":
        name += "-launch"
    if kind == "nvidia-board":
        return f"{name}@board"
    return name if not kind or kind.startswith("nvidia") else f"{name}@other"


def interval_key(calibration: Calibration, profile: str, *, launch: bool, kind: str) -> str:
    """Key of the calibration's intervals: the execution, apart where the host takes a share of it and by kind of device.

    A kind without measurements of this execution takes the interval of all.
    """
    task = interval_task(profile, launch=launch, kind=kind)
    return task if f"{task}/unseen-device" in calibration.intervals else task.partition("@")[0]


def spread_kind(request: Request, view: MachineView) -> str:
    """Kind of device (`device_class`) by which spreads are told apart; empty for a host that computes itself."""
    return "" if view.row.on_host else device_class(used_accelerator(request, view).accelerator)


def spread_factors(catalog: Catalog, profile: str, kind: str) -> FloatArray:
    """Low and high factors on a kind of device, shape (2, levels, 2): first by whether the host takes a share of the time.

    NaN where nothing of the kind was measured.
    """
    return catalog.remember(
        ("spread-factors", profile, kind),
        lambda: _spread_factors(catalog.calibrations[VISION], profile, kind),
    )


def _spread_factors(calibration: Calibration, profile: str, kind: str) -> FloatArray:
    found = np.full((2, len(LEVELS), 2), np.nan)
    for launch in (False, True):
        key = interval_key(calibration, profile, launch=launch, kind=kind)
        if any(name.startswith(f"{key}/") for name in calibration.intervals):
            found[int(launch)] = interval_factors(calibration, key)
    return found


def narrowed(
    catalog: Catalog,
    profile: str,
    factors: FloatArray,
    narrowing: FloatArray | float,
    from_totals: NDArray[np.bool_] | bool,
) -> FloatArray:
    """Factors (..., 2) as measurements near by narrow them, and as work that is spread from totals widens them."""
    found: FloatArray = factors**narrowing
    if np.any(from_totals):
        task = interval_task(profile, launch=False)
        intervals = catalog.calibrations[VISION].intervals
        wider = np.stack(widened_by_totals(intervals, task, found[..., 0], found[..., 1]), axis=-1)
        found = np.where(np.asarray(from_totals)[..., None], wider, found)
    return found
