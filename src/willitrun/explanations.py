"""Verdicts and estimates taken apart: every number with its equation, its inputs and its sources."""

from __future__ import annotations

from typing import Any

from willitrun.catalog import Catalog, load_catalog
from willitrun.estimators.evidence import nearest_measurement
from willitrun.intervals import Interval
from willitrun.records.explanations import Explanation, Step
from willitrun.records.presentation import format_field, format_interval
from willitrun.records.results import MemoryEstimate, SpeedEstimate, Term, Verdict
from willitrun.sensitivities import find_sensitivities

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
    result: Verdict | MemoryEstimate | SpeedEstimate,
    *,
    model: Any = None,
    machine: Any = None,
    catalog: Catalog | None = None,
) -> Explanation:
    """Take a verdict or an estimate apart.

    Parameters
    ----------
    result
        What `assess`, `estimate_memory` or `estimate_speed` returned. Its terms are shown as they are:
        nothing of them is computed again.
    model, machine
        The subjects of a verdict. They are needed only to ask what would change it, and only where its inputs do
        not name them fully: a model of your own, a described or detected host.
    catalog
        Where the titles and addresses of sources are looked up.

    Returns
    -------
    Explanation
        Steps in reading order; the values of a section's terms sum to its total exactly. ``sensitivities`` come
        from asking the engine again with one thing changed.

    Examples
    --------
    >>> from willitrun import assess
    >>> found = explain(assess("llama-3.1-8b", "rtx-4090", quantization="q4_k_m"))
    >>> any("memory bandwidth" in effect.change for effect in found.sensitivities)
    True
    """
    catalog = catalog or load_catalog()
    if isinstance(result, Verdict):
        return _explain_verdict(result, catalog, model, machine)
    steps = _memory_steps(result) if isinstance(result, MemoryEstimate) else _speed_steps(result, catalog)
    return Explanation(title=result.summary(), steps=tuple(steps), citations=_citations(steps, catalog))


def _explain_verdict(verdict: Verdict, catalog: Catalog, model: Any, machine: Any) -> Explanation:
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
        steps += _speed_steps(verdict.speed, catalog)
        steps += _nearest_steps(verdict, catalog)
    effects, why = find_sensitivities(verdict, catalog, model=model, machine=machine)
    if why and verdict.feasible:
        steps.append(Step(title="What would change it", text=f"Not computed: {why}"))
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
        sensitivities=effects,
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


def _speed_steps(speed: SpeedEstimate, catalog: Catalog) -> list[Step]:
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
    steps.append(_interval_step(speed, catalog))
    return steps


def _interval_step(speed: SpeedEstimate, catalog: Catalog) -> Step:
    """What the interval rests on: how near the case is to the calibration, and how often such intervals held."""
    task, _, level = speed.support.rpartition("/")
    text = f"Evidence: {speed.evidence}; {_SUPPORT.get(level, 'no calibration says more')}."
    cites: tuple[str, ...] = ()
    for name in dict.fromkeys(
        cite for term in speed.terms for cite in term.cites if cite in catalog.calibrations
    ):
        record = catalog.calibrations[name]
        found = record.intervals.get(f"{task}/{level}")
        if found is None:
            continue
        text += f" What was measured lay between {found['low']:.2f} and {found['high']:.2f} times such a prediction"
        if "n" in found:
            text += f" on {found['n']:.0f} configurations"
        if "coverage" in found:
            text += f"; {found['coverage']:.0%} of cases that the fit had not seen lay inside"
        text += "."
        cites = (name,)
        break
    return Step(title="What the interval rests on", text=text, cites=cites)


def _nearest_steps(verdict: Verdict, catalog: Catalog) -> list[Step]:
    """The measurement that lies nearest, with its distance in words."""
    head = verdict.speed.headline() if verdict.speed is not None else None
    devices = verdict.inputs.accelerators
    if head is None or not devices:
        return []
    load = verdict.inputs.workload
    near = nearest_measurement(
        catalog,
        model=verdict.inputs.model,
        accelerator=devices[0],
        count=len(devices),
        metric=head[0],
        runtime=verdict.inputs.runtime.get("name"),
        quantization=verdict.inputs.quantization,
        **{name: load.get(name) for name in ("precision", "execution", "layout", "image_size", "batch_size")},
    )
    if near.measurement is None:
        return [Step(title="Nearest measurement", text="None of this model on this device is catalogued.")]
    row = near.measurement
    setup = ", ".join(
        str(value)
        for value in (
            row.runtime,
            row.quantization,
            row.precision,
            row.execution,
            row.batch_size and f"batch {row.batch_size}",
        )
        if value
    )
    return [
        Step(
            title="Nearest measurement",
            text=f"{format_field(head[0], row.value)} ({near.level.replace('-', ' ')}: {setup}), {row.source_url}",
            value=row.value,
        )
    ]


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
