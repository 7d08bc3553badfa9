"""How much memory a model takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import MissingDataError
from willitrun.estimators.evaluation import evaluate_one
from willitrun.estimators.requests import complete_request
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.machines import Machine
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.results import MemoryEstimate

__all__ = ["REFERENCE_MACHINE", "estimate_memory"]

REFERENCE_MACHINE: dict[str, Any] = {
    "name": "one accelerator with memory to spare",
    "accelerators": ["nvidia-h200-sxm-141gb"] * 16,
    "host": {"ram": "4 TiB"},
}
"""Where memory is estimated when nobody names a machine: large enough that nothing is offloaded."""


def estimate_memory(
    model: Any,
    machine: Any = None,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    catalog: Catalog | None = None,
) -> MemoryEstimate:
    """Memory of a model under a workload, by part and by device [bytes].

    Parameters
    ----------
    model
        Anything `describe_model` takes.
    machine
        Anything `describe_machine` takes; None estimates on one accelerator without limit.
    workload, quantization, runtime, placement
        As for `willitrun.assess`.

    Returns
    -------
    MemoryEstimate
        Weights and cache exact where a rule gives them; the terms sum to the total exactly.

    Raises
    ------
    MissingDataError
        No source gives a field that is needed; the message names record and field.

    Examples
    --------
    An 8B at 131,072 tokens needs 16 GiB of cache alone:

    >>> from willitrun import Workload
    >>> found = estimate_memory("llama-3.1-8b", workload=Workload(context_tokens=131072), quantization="q4_k_m")
    >>> found.kv_cache_bytes.best / 2**30
    16.0
    """
    catalog = catalog or load_catalog()
    request = complete_request(
        model,
        _reference_machine(catalog) if machine is None else machine,
        workload,
        quantization=quantization,
        runtime=runtime,
        placement=placement or ("single" if machine is None else None),
        catalog=catalog,
    )
    if machine is None and request.model.transformer is not None:
        # No machine, no offload: everything is counted on the accelerator.
        layers = request.model.transformer.num_hidden_layers + 1
        given = request.placement
        # What follows from a placement is kept by its identity: a new one per call would derive everything anew.
        pinned = request.catalog.memo("pinned-placements").get(
            (given,), layers, lambda: given.model_copy(update={"gpu_layers": layers, "cpu_moe_layers": 0})
        )
        request = replace(request, placement=pinned)
    found = evaluate_one(request)
    estimate = found.memory_estimate()
    if estimate is None:
        raise MissingDataError(found.reasons[0].message, hint="")
    return estimate


def _reference_machine(catalog: Catalog) -> Machine:
    return catalog.memo("machines").get(
        (), "reference", lambda: describe_machine(REFERENCE_MACHINE, catalog=catalog)
    )
