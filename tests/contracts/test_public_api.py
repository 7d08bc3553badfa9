"""The public names and signatures are a promise."""

from __future__ import annotations

import inspect

import pytest

import willitrun

NAMES = {
    "AmbiguousNameError", "Answer", "Catalog", "CatalogError", "CatalogInvalidError", "CheckpointError", "CorruptCheckpointError",
    "Diagnosis", "Explanation", "Interval", "InvalidWorkloadError", "Machine", "MemoryEstimate", "MissingDataError",
    "MissingExtraError", "Model", "Placement", "PlanTable", "Reason", "Runtime", "SpeedEstimate", "Term", "UnitError",
    "UnknownIdError", "UnsupportedArchitectureError", "UnsupportedFormatError", "Verdict", "WillItRunError", "Workload",
    "__version__", "ask", "assess", "best_quantization", "best_runtime", "calibrate", "chips", "compare", "cost",
    "describe_machine", "describe_model", "detect", "diagnose", "doctor", "effective_memory",
    "estimate_memory", "estimate_speed", "explain", "largest_batch", "largest_concurrency", "largest_context",
    "load_catalog", "plan", "plan_batch", "plan_rows", "plan_serving", "recommend", "scan", "score", "show_versions", "smallest_machine",
}  # fmt: skip

SIGNATURES = {
    "ask": ("question", "machine catalog"),
    "assess": ("model machine workload", "quantization runtime placement memory catalog"),
    "estimate_memory": ("model machine workload", "quantization runtime placement catalog"),
    "estimate_speed": ("model machine workload", "quantization runtime placement catalog"),
    "calibrate": ("measurements", "catalog"),
    "describe_machine": ("spec", "catalog"),
    "describe_model": ("ref", "catalog"),
    "detect": ("", "probes timeout_s"),
    "diagnose": ("text", "machine catalog"),
    "load_catalog": ("", "overlays"),
    "plan": ("", "models machines workloads quantizations runtimes placements catalog"),
}


def test_names_are_frozen() -> None:
    assert set(dir(willitrun)) == NAMES
    assert set(willitrun.__all__) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_loads(name: str) -> None:
    assert getattr(willitrun, name) is not None


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_signatures(name: str) -> None:
    positional, keywords = SIGNATURES[name]
    parameters = inspect.signature(getattr(willitrun, name)).parameters.values()
    found = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert found == positional.split()
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert named[: len(keywords.split())] == keywords.split()


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name != "__version__"))
def test_documented(name: str) -> None:
    assert inspect.getdoc(getattr(willitrun, name))


def test_no_public_function_is_called_like_a_module() -> None:
    from pathlib import Path

    modules = {
        path.stem for path in Path(willitrun.__path__[0]).iterdir() if path.suffix == ".py" or path.is_dir()
    }
    assert not modules & NAMES


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'asess'"):
        willitrun.asess  # noqa: B018
