"""Verdicts and estimates taken apart: every number with its equation, its inputs and its sources."""

from __future__ import annotations

from willitrun.catalog import Catalog, load_catalog
from willitrun.intervals import Interval
from willitrun.records.presentation import format_field, format_interval
from willitrun.records.results import Explanation, MemoryEstimate, SpeedEstimate, Step, Term, Verdict

__all__ = ["explain"]

_SUPPORT = {
    "near": "this device and model family are in the calibration data",
    "unseen-model": "the device is in the calibration data, the model's family is not",
    "unseen-device": "devices of this vendor and memory class are in the calibration data, this one is not",
    "unseen-class": "no device of this vendor or memory class is in the calibration data",
}
_BOUNDS = {
    "memory-bandwidth": "reading weights and cache from the accelerator's memory takes the longest",
    "compute": "arithmetic takes the longest",
    "launch": "starting kernels from the host takes longer than the work that they do",
    "interconnect": "moving activations between devices takes the longest",
    "host-memory": "the part that lies in host memory takes the longest",
    "input": "decoding and loading inputs takes the longest",
    "disk": "reading from disk takes the longest",
}


def explain(
    result: Verdict | MemoryEstimate | SpeedEstimate, *, catalog: Catalog | None = None
) -> Explanation:
    """Take a verdict or an estimate apart.

    Parameters
    ----------
    result
        What `assess`, `estimate_memory` or `estimate_speed` returned. Its terms are shown as they are:
        nothing is computed again.
    catalog
        Where the titles and addresses of sources are looked up.

    Returns
    -------
    Explanation
        Steps in reading order; the values of a section's terms sum to its total exactly.
    """
    catalog = catalog or load_catalog()
    if isinstance(result, Verdict):
        return _explain_verdict(result, catalog)
    steps = _memory_steps(result) if isinstance(result, MemoryEstimate) else _speed_steps(result)
    return Explanation(title=result.summary(), steps=tuple(steps), citations=_citations(steps, catalog))


def _explain_verdict(verdict: Verdict, catalog: Catalog) -> Explanation:
    inputs = verdict.inputs
    asked = [f"{name} = {value}" for name, value in inputs.workload.items()]
    steps = [
        Step(
            title="Question",
            text=f"{inputs.model} at {inputs.quantization or inputs.workload.get('precision')} on {inputs.machine} "
            f"with {inputs.runtime.get('name')}; {', '.join(asked)}."
            + (f" Not asked for, so assumed: {', '.join(inputs.defaulted)}." if inputs.defaulted else ""),
        )
    ]
    if verdict.memory is not None:
        steps += _memory_steps(verdict.memory)
        steps.append(_tier_step(verdict))
    if verdict.speed is not None:
        steps += _speed_steps(verdict.speed)
    steps += [
        Step(title=f"Reason {reason.code}", text=reason.message, see=reason.see) for reason in verdict.reasons
    ]
    methods = ", ".join(f"{kind} {digest}" for kind, digest in verdict.provenance.methods.items())
    steps.append(
        Step(
            title="Provenance",
            text=f"willitrun {verdict.provenance.package_version}, catalog {verdict.provenance.catalog_version} "
            f"({verdict.provenance.catalog_digest[:12]}), {methods or 'no calibration used'}.",
        )
    )
    return Explanation(
        title=verdict.sentence(),
        steps=tuple(steps),
        links=verdict.links,
        citations=_citations(steps, catalog),
    )


def _filled(term: Term) -> str:
    """The equation with the inputs' values behind it."""
    if not term.equation:
        return ""
    values = ", ".join(
        f"{name} = {format_field(name, value) if isinstance(value, int | float) else value}"
        for name, value in term.inputs.items()
    )
    return f"{term.equation}" + (f"   with {values}" if values else "")


def _term_steps(terms: tuple[Term, ...], section: str, total: float | None) -> list[Step]:
    steps = []
    for term in terms:
        field = "bytes" if term.unit == "B" else "_s"
        share = f" ({term.value / total:.0%})" if total else ""
        steps.append(
            Step(
                title=f"{section}: {term.name}",
                text=f"{format_field(field, term.value)}{share}, {term.evidence}.",
                equation=_filled(term),
                value=term.value,
                unit=term.unit,
                cites=term.cites,
            )
        )
    return steps


def _memory_steps(memory: MemoryEstimate) -> list[Step]:
    total = sum(term.value for term in memory.terms)
    steps = _term_steps(memory.terms, "Memory", total)
    steps.append(
        Step(
            title="Memory in total",
            text=f"{format_interval('total_bytes', memory.total_bytes)} on the accelerator, "
            f"{format_interval('host_bytes', memory.host_bytes)} on the host.",
            value=memory.total_bytes.best,
            unit="B",
        )
    )
    return steps


def _tier_step(verdict: Verdict) -> Step:
    assert verdict.memory is not None
    lines = []
    for device in verdict.memory.per_device:
        if device.available_bytes is not None:
            lines.append(
                f"{device.device}: {format_field('bytes', device.total_bytes.best)} (high end "
                f"{format_field('bytes', device.total_bytes.high)}) of {format_field('bytes', device.available_bytes)}"
            )
    return Step(
        title=f"Tier {verdict.tier}",
        text="; ".join(lines) or "no memory to compare with",
        equation="comfortable: high end <= available less 5 % (256 MiB at least); tight: best estimate fits",
    )


def _speed_steps(speed: SpeedEstimate) -> list[Step]:
    if speed.headline() is None:
        reason = speed.notes[0].message if speed.notes else "nothing of it is modelled yet"
        return [Step(title="Speed", text=f"Unknown: {reason}")]
    total = sum(term.value for term in speed.terms)
    steps = _term_steps(speed.terms, "Time", total)
    for name in SpeedEstimate.model_fields:
        value = getattr(speed, name)
        if isinstance(value, Interval):
            steps.append(Step(title=name, text=format_interval(name, value), value=value.best))
    if speed.bound is not None:
        steps.append(Step(title=f"Bound by {speed.bound}", text=f"{_BOUNDS[speed.bound].capitalize()}."))
    basis = _SUPPORT.get(speed.support.rpartition("/")[2], "")
    steps.append(
        Step(
            title="What the interval rests on",
            text=f"Evidence: {speed.evidence}" + (f"; {basis}." if basis else "."),
        )
    )
    return steps


def _citations(steps: list[Step], catalog: Catalog) -> dict[str, str]:
    found: dict[str, str] = {}
    for step in steps:
        for cite in step.cites:
            if cite in catalog.sources:
                source = catalog.sources[cite]
                found[cite] = f"{source.title}, {source.publisher}, {source.url}"
            elif cite in catalog.calibrations:
                calibration = catalog.calibrations[cite]
                found[cite] = f"fitted {calibration.fitted} on {calibration.n_configurations} configurations"
            else:
                found[cite] = cite
    return found
