"""Detectors and other networks without a trace: their work from the totals that their authors publish."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.kernels.operator_totals import spread_totals, total_from_siblings
from willitrun.kernels.operator_work import OPERATOR_CLASSES, WORK_COLUMNS
from willitrun.records.models import Model
from willitrun.records.traces import OperatorTrace

__all__ = ["TOTALS", "totals_peak", "totals_trace", "widened_by_totals"]

FloatArray = NDArray[np.float64]

TOTALS = "totals"
"""``tool`` of a trace that nobody made: its classes are spread from published totals."""
_CALIBRATION = "vision-totals"


def totals_trace(catalog: Catalog, model: Model, image_size: int) -> OperatorTrace | None:
    """A stand-in for the trace of a network of which MACs and parameters are published; None without them.

    What no card publishes (activation elements, kernels, the peak of live elements) follows the law of traced
    convolutional networks, see ``accuracy/vision/totals.py``.
    """
    vision = model.vision
    if vision is None or vision.macs is None or model.parameters is None:
        return None
    area = (image_size / vision.image_size) ** 2
    return _spread(
        catalog, model.id, float(model.parameters), vision.macs * area, image_size, vision.activations, area
    )


@lru_cache(maxsize=512)
def _spread(
    catalog: Catalog, name: str, parameters: float, macs: float, size: int, stated: float | None, area: float
) -> OperatorTrace:
    law = catalog.calibrations[_CALIBRATION].coefficients

    def told(quantity: str) -> float:
        return float(total_from_siblings(law, quantity, macs, parameters, float(size)))

    activations = told("activations") if stated is None else stated * area
    work = spread_totals(
        macs, activations, parameters, told("operators"), passes=told("streamed") / activations
    )
    columns = {column: getattr(work, column)[0] for column in WORK_COLUMNS}
    classes = {
        kind: {column: float(values[i]) for column, values in columns.items()}
        for i, kind in enumerate(OPERATOR_CLASSES)
        if any(values[i] for values in columns.values())
    }
    return OperatorTrace(
        architecture=name,
        image_size=size,
        parameters=round(parameters),
        macs=macs,
        operators=round(told("operators")),
        peak_elements=round(told("peak_elements")),
        peak_autocast_bytes=round(told("peak_autocast_bytes")),
        classes=classes,
        tool=TOTALS,
    )


def totals_peak(catalog: Catalog) -> tuple[float, float]:
    """Factors (low, high) of the peak of live activations that the law leaves open."""
    found = catalog.calibrations[_CALIBRATION].intervals["peak_elements"]
    return found["low"], found["high"]


def widened_by_totals(
    intervals: Mapping[str, Mapping[str, float]], task: str, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Factors of intervals, wider by what published totals leave open: logarithms add in quadrature.

    Examples
    --------
    >>> one = np.ones(1)
    >>> low, high = widened_by_totals({"eager/no-trace": {"low": 0.5, "high": 2.0}}, "eager-launch@board", one, one)
    >>> low.round(6).tolist(), high.round(6).tolist()
    ([0.5], [2.0])
    """
    name = task.partition("@")[0].removesuffix("-launch")
    found = intervals.get(f"{name}/no-trace") or intervals["eager/no-trace"]
    return (
        np.exp(-np.hypot(np.log(low), math.log(found["low"]))),
        np.exp(np.hypot(np.log(high), math.log(found["high"]))),
    )
