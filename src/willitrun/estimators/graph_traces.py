"""The operator trace of a request's network, its work, and what residuals have learnt of its shape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from willitrun.catalog import Catalog
from willitrun.catalog.trace_sizes import resize_trace
from willitrun.errors import MissingDataError
from willitrun.estimators.graph_devices import device_generation, fuses_attention
from willitrun.estimators.graph_rates import VISION
from willitrun.estimators.graph_totals import TOTALS, totals_trace
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.requests import Request
from willitrun.kernels.operator_residuals import (
    RESIDUAL_OF_PROFILE,
    ResidualTable,
    resolve_residuals,
    work_features,
)
from willitrun.kernels.operator_work import OperatorWork
from willitrun.records.models import Model
from willitrun.records.traces import OperatorTrace

__all__ = ["find_trace", "residual_of", "residuals_of", "trace_family", "trace_work", "work_of"]


def find_trace(request: Request) -> OperatorTrace:
    """The trace of the request's network at its image size: its own, else the catalog's, else what published totals say.

    Raises
    ------
    MissingDataError
        Nobody has traced it.
    """
    vision = request.model.vision
    found = None
    if vision is not None:
        size = request.workload.image_size or vision.image_size
        if vision.trace is not None:
            found = resize_trace(vision.trace, size)
        elif vision.architecture is not None:
            found = request.catalog.traces.find(vision.architecture, size)
        if found is None:
            found = totals_trace(request.catalog, request.model, size)
    if found is None:
        raise MissingDataError(
            f"{request.model.name}: no operator trace of its architecture.",
            hint="Trace it with willitrun.interop.modules.model_from_module (extra 'torch') or "
            "willitrun.interop.onnx_graphs.model_from_onnx (extra 'onnx').",
        )
    return found


@lru_cache(maxsize=4096)
def trace_work(
    catalog: Catalog, architecture: str, image_size: int, *, fused_attention: bool = True
) -> OperatorWork | None:
    """Work of a network that the catalog has traced, None where it has not."""
    trace = catalog.traces.find(architecture, image_size)
    if trace is None:
        return None
    return OperatorWork.from_summary(trace.classes, fused_attention=fused_attention)


def work_of(request: Request, trace: OperatorTrace) -> OperatorWork:
    """Work of the request's trace under its software; that of the catalog's traces is kept between calls."""
    vision, runtime = request.model.vision, request.runtime
    fused = runtime.name != "pytorch" or fuses_attention(runtime.version)
    if vision is None or vision.trace is not None or trace.tool == TOTALS:
        return OperatorWork.from_summary(trace.classes, fused_attention=fused)
    work = trace_work(request.catalog, trace.architecture, trace.image_size, fused_attention=fused)
    assert work is not None
    return work


def trace_family(catalog: Catalog, model: Model, trace: OperatorTrace) -> str:
    """Family of a traced network by which residuals are learnt: its trace's own, else the catalog's."""
    if model.vision is not None and model.vision.trace is not None:
        return trace.family
    return catalog.traces.family(trace.architecture) or ""


def residual_of(request: Request, view: MachineView, trace: OperatorTrace, profile: str) -> float:
    """Learnt log ratio of measured to predicted time of a trace's shape; zero away from data."""
    if trace.tool == TOTALS:
        return 0.0
    generation, vision = device_generation(request, view), request.model.vision
    if vision is None or vision.trace is None:
        key = (trace.architecture, trace.image_size, profile, generation)
        return _known_residual(request.catalog, *key)
    work = work_of(request, trace)
    return float(residuals_of(request.catalog, work, [trace.family], profile, [generation])[0, 0])


def residuals_of(
    catalog: Catalog, work: OperatorWork, families: Sequence[str], profile: str, generations: Sequence[str]
) -> np.ndarray:
    """Learnt log ratios of rows of work on generations of devices, (rows, generations)."""
    table, execution = _residuals(catalog), RESIDUAL_OF_PROFILE[profile]
    return table.log_ratios(work_features(work), families, execution, generations)


@lru_cache(maxsize=8)
def _residuals(catalog: Catalog) -> ResidualTable:
    return resolve_residuals(catalog.calibrations[VISION].residuals)


@lru_cache(maxsize=4096)
def _known_residual(
    catalog: Catalog, architecture: str, image_size: int, profile: str, generation: str
) -> float:
    work = trace_work(catalog, architecture, image_size)
    assert work is not None
    family = catalog.traces.family(architecture) or ""
    return float(residuals_of(catalog, work, [family], profile, [generation])[0, 0])
