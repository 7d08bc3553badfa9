"""How fast a model runs."""

from __future__ import annotations

from typing import Any

from willitrun.catalog import Catalog
from willitrun.estimators.energy import energy_of
from willitrun.estimators.evaluation import Evaluated, evaluate_one
from willitrun.estimators.loading import load_time
from willitrun.estimators.requests import complete_request
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.results import SpeedEstimate

__all__ = ["complete_speed", "estimate_speed"]


def estimate_speed(
    model: Any,
    machine: Any,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    catalog: Catalog | None = None,
) -> SpeedEstimate:
    """Speed of a model on a machine, with calibrated 90 % intervals.

    Parameters
    ----------
    model, machine, workload, quantization, runtime, placement
        As for `willitrun.assess`.

    Returns
    -------
    SpeedEstimate
        Quantities that the task does not have are None; where nothing is modelled every one is, and
        ``notes`` say why. The terms sum to the step time exactly.

    Examples
    --------
    >>> speed = estimate_speed("llama-3.1-8b", "rtx-4090", quantization="q4_k_m")
    >>> speed.bound
    'memory-bandwidth'
    """
    request = complete_request(
        model,
        machine,
        workload,
        quantization=quantization,
        runtime=runtime,
        placement=placement,
        catalog=catalog,
    )
    found = evaluate_one(request)
    estimate = complete_speed(found)
    if estimate is None:
        return SpeedEstimate(notes=found.reasons)
    return estimate


def complete_speed(found: Evaluated) -> SpeedEstimate | None:
    """The speed of an evaluated request with what other facts of its machine add: energy of a unit, time to load."""
    speed = found.speed_estimate()
    if speed is None:
        return None
    added = {"energy_j_per_unit": energy_of(found, speed), "load_s": load_time(found)}
    known = {name: value for name, value in added.items() if value is not None}
    return speed.model_copy(update=known) if known else speed
