"""`best_runtime`: which runtime suits a model on a machine, and why."""

from __future__ import annotations

from typing import Any

from willitrun.catalog import Catalog
from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.evaluation import Evaluated, evaluate_one
from willitrun.estimators.inverse import TIER_ORDER
from willitrun.estimators.llm_policies import ENGINES
from willitrun.estimators.requests import Request, complete_request
from willitrun.planning.scores import floors_of, is_practical
from willitrun.records.presentation import format_field
from willitrun.records.rankings import RuntimeCandidate, RuntimeChoice
from willitrun.records.recipes import Placement, RuntimeProfile, Workload
from willitrun.records.results import Reason

__all__ = ["best_runtime"]

_WIDTHS = {
    "16-bit": ("bf16", "f16"),
    "8-bit": ("q8_0", "mlx-8bit", "exl3-8.0", "exl2-8.0", "fp8", "int8"),
    "4-bit": ("q4_k_m", "mlx-4bit", "exl3-4.0", "exl2-4.0", "awq-int4", "gptq-int4", "nf4", "mxfp4"),
}
"""Formats by width, as runtimes have them: only like is compared with like."""


def best_runtime(
    model: Any,
    machine: Any = None,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    placement: str | Placement | None = None,
    memory: str = "free",
    catalog: Catalog | None = None,
) -> RuntimeChoice:
    """The runtime that suits a model on a machine, with all others and what speaks against them.

    Every runtime of the catalog that does the model's task is judged, all of them at weights of one width: the
    widest of 16, 8 and 4 bits at which some runtime is comfortable and fast enough. Better tier first, then fast
    enough, then calibrated on measurements of that runtime, then faster.

    Parameters
    ----------
    model, machine, workload, placement, memory, catalog
        As for `assess`.
    quantization
        A format that all runtimes must load; None compares formats of one width.

    Examples
    --------
    >>> best_runtime("llama-3.1-8b", "m3-max-40gpu:64 GiB", quantization="q4_k_m").runtime
    'llama.cpp'
    """
    base = complete_request(
        model,
        machine,
        workload,
        quantization=quantization,
        placement=placement,
        memory=memory,
        catalog=catalog,
    )
    catalog = base.catalog
    profiles = [profile for profile in catalog.runtimes.values() if base.model.task in profile.tasks]
    widths: dict[str, tuple[str | None, ...]] = _WIDTHS  # type: ignore[assignment]
    if quantization is not None or base.quantization is None or base.model.tensors is not None:
        widths = {quantization or "": (quantization,)}
    elif base.model.quantization not in _WIDTHS["16-bit"]:
        # Trained or published in fewer bits: wider weights hold nothing more.
        widths = {base.model.quantization: (base.model.quantization,)} | _widths_below(
            base.model.quantization
        )
    candidates: tuple[RuntimeCandidate, ...] = ()
    width = ""
    for name, names in widths.items():
        width = name
        found = [_at(base, profile, names, workload, placement, memory) for profile in profiles]
        candidates = tuple(sorted((_candidate(one) for one in found if one is not None), key=_key))
        if candidates and candidates[0].tier == "comfortable" and candidates[0].practical is not False:
            break
    first = candidates[0] if candidates else None
    if first is None or TIER_ORDER[first.tier] <= 0:
        message = (
            first.reason.message if first is not None and first.reason is not None else "Nothing does it."
        )
        return RuntimeChoice(
            runtime=None, quantization=None, width=width, why=(message,), candidates=candidates
        )
    return RuntimeChoice(
        runtime=first.runtime,
        quantization=first.quantization,
        width=width,
        why=_why(first, candidates[1] if len(candidates) > 1 else None, width),
        candidates=candidates,
    )


def _widths_below(own: str) -> dict[str, tuple[str | None, ...]]:
    return {
        name: tuple(f for f in formats if f != own) for name, formats in _WIDTHS.items() if name == "4-bit"
    }


def _at(
    base: Request,
    profile: RuntimeProfile,
    names: tuple[str | None, ...],
    workload: Workload | None,
    placement: Any,
    memory: str,
) -> Evaluated | None:
    """The runtime at the first of these formats that it loads, or what stands in the way of the first."""
    refused: Evaluated | None = None
    for name in names:
        if name is not None and name not in base.catalog.quantizations:
            continue
        try:
            request = complete_request(
                base.model,
                base.machine,
                workload,
                quantization=name,
                runtime=profile.id,
                placement=placement,
                memory=memory,
                catalog=base.catalog,
            )
        except InvalidWorkloadError:
            continue
        found = evaluate_one(request)
        if not request.blockers:
            return found
        # Of several refusals the one that is not about the format says more.
        if refused is None or request.blockers[0].code != "format-not-supported-by-runtime":
            refused = found
    return refused


def _candidate(found: Evaluated) -> RuntimeCandidate:
    request = found.request
    speed = found.speed_estimate() if found.tier not in ("will-not-run", "unknown") else None
    head = speed.headline() if speed is not None else None
    floors = floors_of(request)
    rates = {name: value.best for name in floors if (value := getattr(speed, name, None)) is not None}
    reasons: tuple[Reason, ...] = (*request.blockers, *found.reasons)
    return RuntimeCandidate(
        runtime=request.profile.id,
        backend=request.runtime.backend,
        quantization=request.quantization.id if request.quantization is not None else None,
        tier=found.tier,
        practical=is_practical(found.tier, rates, floors),
        headline=head[0] if head is not None else "",
        rate=head[1].best if head is not None else None,
        evidence=speed.evidence if speed is not None else "estimated",
        calibrated=_calibrated(request),
        reason=reasons[0] if reasons else None,
    )


def _calibrated(request: Request) -> bool:
    """Whether the speed calibration knows the runtime; image models are calibrated by way of execution."""
    if request.quantization is None:
        return True
    levels = request.catalog.calibrations["llm-speed"].levels
    engine = ENGINES.get(request.profile.id, request.profile.id)
    # A term in which a runtime does what the average does has no offset for it.
    return any(engine in offsets for key, offsets in levels.items() if key.endswith(".runtime"))


_EVIDENCE = ("measured", "measured-near", "calibrated", "estimated")


def _key(candidate: RuntimeCandidate) -> tuple[object, ...]:
    slower = candidate.headline in ("seconds_per_image", "training_step_s")
    rate = candidate.rate or 0.0
    return (
        -TIER_ORDER[candidate.tier],
        candidate.practical is not True,
        not candidate.calibrated,
        candidate.rate is None,
        rate if slower else -rate,
        _EVIDENCE.index(candidate.evidence),
        candidate.runtime,
    )


def _why(first: RuntimeCandidate, second: RuntimeCandidate | None, width: str) -> tuple[str, ...]:
    what = first.quantization or "the precision asked for"
    if width in _WIDTHS and first.quantization is not None:
        what += f" (compared at {width} weights)"
    found = [f"It is {first.tier} at {what}."]
    if first.rate is not None:
        found.append(f"{format_field(first.headline, first.rate)} ({first.evidence}).")
    if second is None:
        found.append("No other runtime of the catalog does this task.")
    elif second.tier != first.tier:
        found.append(f"{second.runtime}, the next, is {second.tier}.")
    elif second.rate is not None and first.headline == second.headline:
        format_ = "" if second.quantization == first.quantization else f" at {second.quantization}"
        found.append(f"{second.runtime}{format_} comes to {format_field(second.headline, second.rate)}.")
    if first.practical is False:
        found.append("It is below the floor of the workload all the same.")
    return tuple(found)
