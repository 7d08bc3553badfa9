"""Will this model run on this machine, and how fast?

>>> import willitrun
>>> verdict = willitrun.assess("llama-3.1-8b", "rtx-4090", quantization="q4_k_m")
>>> verdict.tier
'comfortable'

The names below are loaded on first use (PEP 562), so that importing the package costs next to nothing.
"""

from __future__ import annotations

from willitrun._version import __version__

# A constant that type checkers take for true: importing `typing` would double the cost of this import.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from willitrun.answers import ask
    from willitrun.catalog import Catalog, load_catalog
    from willitrun.checkpoints.descriptions import describe_model
    from willitrun.checkups import doctor
    from willitrun.comparisons import compare
    from willitrun.costs import cost
    from willitrun.diagnostics import Diagnosis, diagnose
    from willitrun.errors import (
        AmbiguousNameError,
        CatalogError,
        CatalogInvalidError,
        CheckpointError,
        CorruptCheckpointError,
        InvalidWorkloadError,
        MissingDataError,
        MissingExtraError,
        UnitError,
        UnknownIdError,
        UnsupportedArchitectureError,
        UnsupportedFormatError,
        WillItRunError,
    )
    from willitrun.estimators.calibration import calibrate
    from willitrun.estimators.inverse import (
        best_quantization,
        largest_batch,
        largest_concurrency,
        largest_context,
        smallest_machine,
    )
    from willitrun.estimators.memory import estimate_memory
    from willitrun.estimators.speed import estimate_speed
    from willitrun.explanations import explain
    from willitrun.hardware.descriptions import describe_machine
    from willitrun.hardware.detection import detect
    from willitrun.intervals import Interval
    from willitrun.planning.batches import plan_batch
    from willitrun.planning.labels import chips
    from willitrun.planning.plans import plan, plan_rows
    from willitrun.planning.pools import effective_memory
    from willitrun.planning.runtime_choices import best_runtime
    from willitrun.planning.scans import scan
    from willitrun.planning.scores import score
    from willitrun.planning.serving import plan_serving
    from willitrun.planning.tables import PlanTable
    from willitrun.recommendations import recommend
    from willitrun.records.answers import Answer
    from willitrun.records.explanations import Explanation
    from willitrun.records.machines import Machine
    from willitrun.records.models import Model
    from willitrun.records.recipes import Placement, Runtime, Workload
    from willitrun.records.results import MemoryEstimate, Reason, SpeedEstimate, Term, Verdict
    from willitrun.verdicts import assess
    from willitrun.versions import show_versions

_EXPORTS = {
    "ask": "answers",
    "Answer": "records.answers",
    "Catalog": "catalog",
    "load_catalog": "catalog",
    "describe_model": "checkpoints.descriptions",
    "Diagnosis": "diagnostics",
    "diagnose": "diagnostics",
    "doctor": "checkups",
    **dict.fromkeys(
        (
            "AmbiguousNameError",
            "CatalogError",
            "CatalogInvalidError",
            "CheckpointError",
            "CorruptCheckpointError",
            "InvalidWorkloadError",
            "MissingDataError",
            "MissingExtraError",
            "UnitError",
            "UnknownIdError",
            "UnsupportedArchitectureError",
            "UnsupportedFormatError",
            "WillItRunError",
        ),
        "errors",
    ),
    **dict.fromkeys(
        ("best_quantization", "largest_batch", "largest_concurrency", "largest_context", "smallest_machine"),
        "estimators.inverse",
    ),
    "calibrate": "estimators.calibration",
    "estimate_memory": "estimators.memory",
    "estimate_speed": "estimators.speed",
    "explain": "explanations",
    "describe_machine": "hardware.descriptions",
    "detect": "hardware.detection",
    "Interval": "intervals",
    "compare": "comparisons",
    "cost": "costs",
    "recommend": "recommendations",
    "chips": "planning.labels",
    "best_runtime": "planning.runtime_choices",
    "effective_memory": "planning.pools",
    "scan": "planning.scans",
    "score": "planning.scores",
    "PlanTable": "planning.tables",
    "plan": "planning.plans",
    "plan_batch": "planning.batches",
    "plan_rows": "planning.plans",
    "plan_serving": "planning.serving",
    "Machine": "records.machines",
    "Model": "records.models",
    "Placement": "records.recipes",
    "Runtime": "records.recipes",
    "Workload": "records.recipes",
    "Explanation": "records.explanations",
    "MemoryEstimate": "records.results",
    "Reason": "records.results",
    "SpeedEstimate": "records.results",
    "Term": "records.results",
    "Verdict": "records.results",
    "assess": "verdicts",
    "show_versions": "versions",
}

__all__ = [
    "AmbiguousNameError",
    "Answer",
    "Catalog",
    "CatalogError",
    "CatalogInvalidError",
    "CheckpointError",
    "CorruptCheckpointError",
    "Diagnosis",
    "Explanation",
    "Interval",
    "InvalidWorkloadError",
    "Machine",
    "MemoryEstimate",
    "MissingDataError",
    "MissingExtraError",
    "Model",
    "Placement",
    "PlanTable",
    "Reason",
    "Runtime",
    "SpeedEstimate",
    "Term",
    "UnitError",
    "UnknownIdError",
    "UnsupportedArchitectureError",
    "UnsupportedFormatError",
    "Verdict",
    "WillItRunError",
    "Workload",
    "__version__",
    "ask",
    "assess",
    "best_quantization",
    "best_runtime",
    "calibrate",
    "chips",
    "compare",
    "cost",
    "describe_machine",
    "describe_model",
    "detect",
    "diagnose",
    "doctor",
    "effective_memory",
    "estimate_memory",
    "estimate_speed",
    "explain",
    "largest_batch",
    "largest_concurrency",
    "largest_context",
    "load_catalog",
    "plan",
    "plan_batch",
    "plan_rows",
    "plan_serving",
    "recommend",
    "scan",
    "score",
    "show_versions",
    "smallest_machine",
]


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'willitrun' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"willitrun.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
