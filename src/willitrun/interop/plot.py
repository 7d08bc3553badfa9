"""Pictures of results: charts of Vega-Lite that a notebook shows and that save as SVG, PNG or HTML (extra ``plot``).

A chart is drawn from a result as it is; no quantity is computed here but where a point lies on the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from willitrun.errors import InvalidWorkloadError, MissingExtraError
from willitrun.kernels.roofline import attainable_flop_per_s, workload_point
from willitrun.planning.tables import PlanTable
from willitrun.records.guides import GuideReport
from willitrun.records.recipes import Workload
from willitrun.records.results import Verdict
from willitrun.units import format_rate
from willitrun.verdicts import assess

__all__ = [
    "altair_module",
    "chart_data",
    "decode_against_context",
    "fit_heat_map",
    "guide_heat_map",
    "memory_bar",
    "roofline",
]

GIB = 2**30
TIER_COLOURS = {
    "comfortable": "#2e8b57",
    "tight": "#d9a400",
    "offload": "#e07b39",
    "will-not-run": "#b03a48",
    "unknown": "#9a9a9a",
}
_PALETTE = ("#3b6fb6", "#59a5a0", "#8f7ac0", "#e0a84e", "#b8b8b8", "#c46a7b", "#7d9c5b", "#5c5c5c")
WIDTH = 560


def altair_module() -> ModuleType:
    """altair, or an error that says how to get it."""
    try:
        import altair
    except ImportError as error:
        raise MissingExtraError("altair", "plot") from error
    found: ModuleType = altair
    return found


def chart_data(alt: Any, rows: Sequence[dict[str, Any]]) -> Any:
    """Rows as a chart takes them."""
    # Rows as they are: neither pandas nor a narrower is needed.
    return alt.Data(values=list(rows))


def memory_bar(*verdicts: Verdict, labels: Sequence[str] = ()) -> Any:
    """Memory by part, one bar per verdict, with a tick at what is available.

    Parameters
    ----------
    verdicts
        From `assess`. Those whose memory is unknown are left out.
    labels
        Names of the bars; default: model, format and machine.

    Returns
    -------
    altair.LayerChart

    Raises
    ------
    MissingExtraError
        altair is not installed.

    Examples
    --------
    >>> from willitrun import assess
    >>> chart = memory_bar(assess("llama-3.1-8b", "rtx-4090", quantization="q4_k_m"))  # doctest: +SKIP
    """
    alt = altair_module()
    parts: list[dict[str, Any]] = []
    rooms: list[dict[str, Any]] = []
    for number, verdict in enumerate(verdicts):
        if verdict.memory is None:
            continue
        name = labels[number] if number < len(labels) else _label(verdict)
        parts += [
            {"case": name, "part": term.name, "gib": term.value / GIB, "order": order}
            for order, term in enumerate(verdict.memory.terms)
            if term.value
        ]
        room = [device.available_bytes for device in verdict.memory.per_device]
        if room and None not in room:
            rooms.append({"case": name, "gib": sum(filter(None, room)) / GIB})
    order = list(dict.fromkeys(str(part["part"]) for part in parts))
    names = list(dict.fromkeys(str(part["case"]) for part in parts))
    height = alt.Step(34)
    bars = (
        alt.Chart(chart_data(alt, parts))
        .mark_bar()
        .encode(
            y=alt.Y("case:N", sort=names, title=None, axis=alt.Axis(labelLimit=260)),
            x=alt.X("gib:Q", title="memory [GiB]", stack="zero"),
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=order, range=list(_PALETTE[: len(order)])),
                legend=alt.Legend(title=None, orient="bottom", columns=2, labelLimit=240),
            ),
            order="order:Q",
        )
    )
    ticks = (
        alt.Chart(chart_data(alt, rooms))
        .mark_tick(color="black", thickness=3, size=30)
        .encode(y=alt.Y("case:N", sort=names), x="gib:Q")
    )
    title = alt.Title("What the memory is for", subtitle="black tick: what is available")
    return (bars + ticks).properties(width=WIDTH, height=height, title=title)


def _label(verdict: Verdict) -> str:
    inputs = verdict.inputs
    context = inputs.workload.get("context_tokens")
    batch = inputs.workload.get("batch_size")
    load = f", {context:,} tokens" if context else f", batch {batch}" if batch else ""
    return " ".join(filter(None, (inputs.model, inputs.quantization))) + load


def roofline(*verdicts: Verdict, labels: Sequence[str] = ()) -> Any:
    """The roofline of a device for one runtime and format, with the decode step of each verdict as a point.

    Parameters
    ----------
    verdicts
        Of language models on the same kind of device. The roof is that of the first.
    labels
        Names of the points; default: sequences in flight.

    Returns
    -------
    altair.LayerChart

    Raises
    ------
    InvalidWorkloadError
        A verdict has no decode step: its speed is unknown, or it is no language model.
    """
    alt = altair_module()
    points = []
    roofs = []
    for number, verdict in enumerate(verdicts):
        work = _decode_work(verdict)
        intensity, rate = workload_point(work["flop"], work["read_bytes"], work["step_s"])
        name = (
            labels[number]
            if number < len(labels)
            else f"{verdict.inputs.workload.get('concurrency', 1)} in flight"
        )
        points.append({"case": name, "intensity": float(intensity), "rate": float(rate) / 1e12})
        roofs.append((work["compute_flop_per_s"], work["memory_bytes_per_s"]))
    peak, bandwidth = roofs[0]
    ends = [0.25 * 2**step for step in range(15)]
    roof = [
        {"intensity": end, "rate": float(attainable_flop_per_s(end, peak, bandwidth)) / 1e12} for end in ends
    ]
    x = alt.X("intensity:Q", scale=alt.Scale(type="log"), title="operations per byte read [FLOP/byte]")
    y = alt.Y("rate:Q", scale=alt.Scale(type="log"), title="rate [TFLOP/s]")
    line = alt.Chart(chart_data(alt, roof)).mark_line(color="#444444", strokeWidth=2).encode(x=x, y=y)
    dots = (
        alt.Chart(chart_data(alt, points))
        .mark_point(filled=True, size=110)
        .encode(
            x=x, y=y, color=alt.Color("case:N", sort=None, legend=alt.Legend(title=None, orient="bottom"))
        )
    )
    title = alt.Title(
        "Where a decode step lies under the roof",
        subtitle=f"roof: {format_rate(bandwidth, 'B/s')} and {format_rate(peak, 'FLOP/s')}, {verdicts[0].inputs.machine}",
    )
    return (line + dots).properties(width=WIDTH, height=300, title=title)


def _decode_work(verdict: Verdict) -> dict[str, float]:
    inputs: dict[str, float] = {}
    if verdict.speed is not None:
        for term in verdict.speed.terms:
            for name, value in term.inputs.items():
                if isinstance(value, int | float):
                    inputs.setdefault(name, float(value))
        inputs["step_s"] = sum(term.value for term in verdict.speed.terms)
    if not {"flop", "read_bytes", "compute_flop_per_s", "memory_bytes_per_s"} <= set(inputs):
        raise InvalidWorkloadError(
            f"{verdict.inputs.model} has no decode step to draw.",
            hint="A roofline takes verdicts of language models whose speed is known.",
        )
    return inputs


def decode_against_context(
    model: Any, machines: Sequence[Any], contexts: Sequence[int], *, quantization: str | None = None
) -> Any:
    """Decode speed as the cache fills up, one line with its 90 % band per machine.

    Parameters
    ----------
    model
        Anything that `assess` takes.
    machines
        One or more machines.
    contexts
        Depths [tokens]: so many are in the cache when the answer begins.

    Returns
    -------
    altair.LayerChart
    """
    alt = altair_module()
    rows = []
    for machine in machines:
        for depth in contexts:
            load = Workload(context_tokens=depth + 1024, cached_tokens=depth)
            verdict = assess(model, machine, load, quantization=quantization)
            rate = (
                verdict.speed.decode_tokens_per_s if verdict.speed is not None and verdict.feasible else None
            )
            if rate is not None:
                rows.append(
                    {
                        "machine": verdict.inputs.machine,
                        "depth": depth,
                        "low": rate.low,
                        "best": rate.best,
                        "high": rate.high,
                        "tier": verdict.tier,
                    }
                )
    x = alt.X("depth:Q", title="tokens in the cache")
    colour = alt.Color(
        "machine:N", sort=None, legend=alt.Legend(title=None, orient="bottom", columns=1, labelLimit=400)
    )
    base = alt.Chart(chart_data(alt, rows))
    band = base.mark_area(opacity=0.15).encode(
        x=x, y=alt.Y("low:Q", title="decode [tokens/s]"), y2="high:Q", color=colour
    )
    line = base.mark_line(point=True).encode(x=x, y="best:Q", color=colour)
    title = alt.Title("Decode against context", subtitle="line: best estimate, band: 90 % interval")
    return (band + line).properties(width=WIDTH, height=280, title=title)


def fit_heat_map(table: PlanTable) -> Any:
    """Which model fits which machine: the tier of every pair of a plan, the best over its other axes.

    Parameters
    ----------
    table
        From `plan`.

    Returns
    -------
    altair.Chart
    """
    alt = altair_module()
    order = {tier: rank for rank, tier in enumerate(TIER_COLOURS)}
    best: dict[tuple[str, str], str] = {}
    for number in range(len(table)):
        row = table.row(number)
        model = " ".join(filter(None, (row["model"], row["quantization"])))
        key = (model, str(row["machine"]))
        best[key] = min((best.get(key, row["tier"]), row["tier"]), key=order.__getitem__)
    rows = [{"model": model, "machine": machine, "tier": tier} for (model, machine), tier in best.items()]
    return _tier_grid(alt, rows, "Which model fits which machine")


def guide_heat_map(report: GuideReport) -> Any:
    """Which workload of a buyer guide runs how on which machine.

    Parameters
    ----------
    report
        From `willitrun.guides.answer_guide`.

    Returns
    -------
    altair.Chart
    """
    alt = altair_module()
    rows = [{"model": row.workload, "machine": row.machine, "tier": row.tier} for row in report.rows_]
    return _tier_grid(alt, rows, report.question)


def _tier_grid(alt: Any, rows: Sequence[dict[str, Any]], title: str) -> Any:
    """Machines downwards, so that their long names stay level; workloads across."""
    return (
        alt.Chart(chart_data(alt, rows))
        .mark_rect(stroke="white", strokeWidth=2)
        .encode(
            y=alt.Y("machine:N", sort=None, title=None, axis=alt.Axis(labelLimit=280)),
            x=alt.X("model:N", sort=None, title=None, axis=alt.Axis(labelAngle=-40, labelLimit=220)),
            color=alt.Color(
                "tier:N",
                scale=alt.Scale(domain=list(TIER_COLOURS), range=list(TIER_COLOURS.values())),
                legend=alt.Legend(title=None, orient="bottom", columns=3),
            ),
        )
        .properties(width=alt.Step(44), height=alt.Step(24), title=title)
    )
