"""Will it run, and how fast? The verdict, with reasons, remedies, links and commands."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from willitrun._version import __version__
from willitrun.catalog import Catalog
from willitrun.commands import commands_of
from willitrun.estimators.evaluation import Evaluated, evaluate, evaluate_one
from willitrun.estimators.requests import Request, complete_request
from willitrun.estimators.speed import complete_speed
from willitrun.frozen import derived, frozen
from willitrun.kernels.placement import TIERS, best_format
from willitrun.records.presentation import format_field
from willitrun.records.recipes import Placement, Runtime, Workload, WorkloadProfile
from willitrun.records.results import Inputs, Link, Provenance, Reason, Remedy, Verdict

__all__ = ["assess", "best_comfortable", "workload_profile"]


def assess(
    model: Any,
    machine: Any = None,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    memory: str = "free",
    catalog: Catalog | None = None,
) -> Verdict:
    """Judge whether a model runs on a machine, and how fast.

    Parameters
    ----------
    model
        Anything `describe_model` takes: catalog id, Hub repository, path, mapping, `Model`.
    machine
        Anything `describe_machine` takes; None detects this machine.
    workload
        What is asked of the model; None takes the task's defaults, which the verdict lists.
    quantization
        Weight format; None takes the checkpoint's own, or the best GGUF format that is comfortable.
    runtime, placement
        A name, or a record with options.
    memory
        ``free``: what is free now on a detected machine (the nameplate less the system's reserve on a
        described one); ``idle``: as if no other process held memory; ``nameplate``: what is installed.

    Returns
    -------
    Verdict
        Truthy if feasible. Infeasible combinations are verdicts with a reason, never exceptions.

    Raises
    ------
    UnknownIdError, AmbiguousNameError
        A name leads nowhere, or to several records.
    InvalidWorkloadError
        The workload contradicts itself or the model's task.

    Examples
    --------
    >>> verdict = assess("llama-3.3-70b", "rtx-4090", quantization="q4_k_m")
    >>> verdict.tier in ("offload", "will-not-run")
    True
    """
    request = complete_request(
        model,
        machine,
        workload,
        quantization=quantization,
        runtime=runtime,
        placement=placement,
        memory=memory,
        catalog=catalog,
    )
    return judge(request)


def judge(request: Request) -> Verdict:
    """The verdict of a complete request: what decides it at once, what words it when somebody looks."""
    if request.quantization_open:
        request = best_comfortable(request)
    found = evaluate_one(request)
    practical, floor_reason = _practical(found)
    speed = complete_speed(found) if found.tier != "will-not-run" else None
    wording = _Wording(request, found, floor_reason)
    # Every part is a record of this library already: validating them again would double the cost of a verdict.
    return Verdict.model_defer(
        {
            "reasons": lambda: wording.reasons,
            "links": lambda: wording.links,
            "commands": partial(commands_of, found),
            "inputs": partial(_inputs, request, found),
            "provenance": partial(_provenance, request, found),
        },
        tier=found.tier,
        feasible=found.tier in ("comfortable", "tight", "offload"),
        practical=practical,
        memory=found.memory_estimate(),
        speed=speed,
        placement=found.placement,
        evidence=speed.evidence if speed is not None else "estimated",
        evidence_cites=found.cites,
        remedies=_remedies(found) if _wants_remedies(found, practical) else (),
    )


@frozen(eq=False)
class _Wording:
    """Reasons and links of a verdict: each refers to the other."""

    request: Request
    found: Evaluated
    floor_reason: Reason | None

    @derived
    def _unlinked(self) -> tuple[Reason, ...]:
        floor = () if self.floor_reason is None else (self.floor_reason,)
        told = (*self.request.blockers, *self.found.reasons, *floor, *self.request.notes)
        # What was tried in another way may fail for the same reason.
        return tuple({(reason.code, reason.message): reason for reason in reversed(told)}.values())[::-1]

    @derived
    def _linked(self) -> tuple[dict[str, tuple[str, ...]], tuple[Link, ...]]:
        from willitrun.links import verdict_links

        return verdict_links(self.request, self._unlinked)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why the verdict is what it is, with references to the catalog."""
        see, _ = self._linked
        return tuple(
            reason.model_copy(update={"see": see.get(reason.code, reason.see)}) for reason in self._unlinked
        )

    @property
    def links(self) -> tuple[Link, ...]:
        """Entries of the catalog that matter for this very verdict."""
        return self._linked[1]


def best_comfortable(request: Request) -> Request:
    """Nobody chose a format: the best of the ladder that is comfortable, else the best that fits at all."""
    from willitrun.estimators.defaults import GGUF_LADDER

    candidates = [request.with_quantization(request.catalog.quantizations[name]) for name in GGUF_LADDER]
    found = evaluate(candidates)
    chosen = int(best_format(np.array([TIERS.index(result.tier) for result in found])))
    none = _NONE_RUNS if candidates[chosen].blockers else _NONE_FITS
    return _noting_format(candidates[chosen], _WHY_THIS_FORMAT.get(found[chosen].tier, none))


_WHY_THIS_FORMAT = {
    "comfortable": "the best that is comfortable",
    "tight": "the best that fits",
    "offload": "the best that runs, with part of it in host memory",
}
_NONE_FITS = "the smallest of the ladder; none fits"
_NONE_RUNS = "the smallest of the ladder; none runs"


def _noting_format(request: Request, why: str) -> Request:
    from dataclasses import replace

    assert request.quantization is not None
    note = Reason.model_construct(
        code="assumed-quantization",
        message=f"Nobody named a weight format; {request.quantization.name} is {why}.",
        numbers={"quantization": request.quantization.id},
    )
    return replace(request, notes=(*request.notes, note))


def _practical(found: Evaluated) -> tuple[bool | None, Reason | None]:
    """Fast enough for the use? None where speed is unknown."""
    if found.tier in ("will-not-run", "unknown"):
        return (False if found.tier == "will-not-run" else None), None
    request = found.request
    profile = workload_profile(request)
    if profile is None:
        return None, None
    speed = found.speed_estimate()
    for name, floor in profile.floor.items():
        value = getattr(speed, name, None) if speed is not None else None
        if value is None:
            return None, None
        if value.best < floor:
            return False, Reason.model_construct(
                code="below-practical-floor",
                message=f"{format_field(name, value.best)} is below the {format_field(name, floor)} "
                f"that {profile.name} needs to be practical.",
                numbers={name: value.best, "floor": floor},
            )
    return True, None


def workload_profile(request: Request) -> WorkloadProfile | None:
    """The named workload whose floor decides what is practical; None where nobody named one for the task."""
    workloads = request.catalog.workloads
    if request.workload.use is not None:
        found: WorkloadProfile = workloads.resolve(request.workload.use)
        return found
    defaults = {
        "text-generation": "chat",
        "image-text-to-text": "vision-assistant",
        "image-classification": "classification",
        "object-detection": "detection",
    }
    name = defaults.get(request.model.task, request.model.task)
    return workloads.get(name)


def _remedies(found: Evaluated) -> tuple[Remedy, ...]:
    # What fits needs none: the search for them is loaded when a verdict wants it.
    from willitrun.estimators.remedies import find_remedies

    return find_remedies(found)


def _wants_remedies(found: Evaluated, practical: bool | None) -> bool:
    return found.tier in ("tight", "offload", "will-not-run") or practical is False


def _inputs(request: Request, found: Evaluated) -> Inputs:
    machine = request.machine
    return Inputs.model_construct(
        model=request.model.id,
        machine=machine.name if machine is not None else "any machine",
        accelerators=tuple(device.accelerator.id for device in machine.accelerators) if machine else (),
        workload={name: value for name, value in request.workload.stated().items() if value is not None},
        quantization=request.quantization.id if request.quantization else None,
        runtime=_given(request.runtime),
        placement=_given(found.placement),
        memory=request.memory,
        defaulted=request.defaulted,
    )


def _given(recipe: Runtime | Placement) -> dict[str, Any]:
    """The options that somebody chose, as JSON has them."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in recipe.stated().items()
        if value is not None
    }


def _provenance(request: Request, found: Evaluated) -> Provenance:
    catalog = request.catalog
    return catalog.memo("provenance").get(
        (),
        found.calibrations,
        lambda: Provenance.model_construct(
            package_version=__version__,
            catalog_version=catalog.version,
            catalog_digest=catalog.digest,
            methods={name: str(catalog.calibrations[name].fitted) for name in found.calibrations},
        ),
    )
