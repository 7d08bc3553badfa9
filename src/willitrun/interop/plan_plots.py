"""Pictures of plans: the Pareto front of a recommendation, and from where on owning is cheaper (extra ``plot``)."""

from __future__ import annotations

from typing import Any

from willitrun.errors import InvalidWorkloadError
from willitrun.interop.plot import WIDTH, altair_module, chart_data
from willitrun.records.costs import Cost
from willitrun.records.recommendations import Recommendation

__all__ = ["break_even_lines", "pareto_points"]

_POINTS = 41


def pareto_points(found: Recommendation) -> Any:
    """Price against speed of the machines of which none is cheaper, faster and drawing less at once.

    Parameters
    ----------
    found
        From `recommend`.

    Returns
    -------
    altair.Chart

    Raises
    ------
    InvalidWorkloadError
        No machine with a price meets the goal.
    """
    alt = altair_module()
    rows = [
        {
            "machine": option.machine,
            "USD": option.usd,
            "rate": option.rate.best,
            "low": option.rate.low,
            "high": option.rate.high,
            "W": option.power_w,
            "format": option.quantization,
        }
        for option in found.pareto
        if option.rate is not None
    ]
    if not rows:
        raise InvalidWorkloadError(f"{found.goal}: no machine with a price meets it, so there is no front.")
    title = found.pareto[0].headline.replace("_per_s", " per s").replace("_", " ")
    base = alt.Chart(chart_data(alt, rows)).encode(
        x=alt.X("USD:Q", title="price of the accelerators [USD], dated in the table")
    )
    tips = [
        alt.Tooltip(f"{name}:{kind}")
        for name, kind in (("machine", "N"), ("format", "N"), ("USD", "Q"), ("rate", "Q"), ("W", "Q"))
    ]
    points = base.mark_circle(size=90, opacity=0.9).encode(
        y=alt.Y("rate:Q", title=title), color=alt.Color("W:Q", title="board power [W]"), tooltip=tips
    )
    spread = base.mark_rule(opacity=0.4).encode(y="low:Q", y2="high:Q")
    return (spread + points).properties(width=WIDTH, height=280, title=found.goal)


def break_even_lines(found: Cost) -> Any:
    """Money spent against busy hours: the price and electricity of owning, the rents, the APIs at the best speed.

    Parameters
    ----------
    found
        From `cost`.

    Returns
    -------
    altair.Chart
        Where the line of owning crosses another, owning has paid: ``break_even`` of the cost.

    Raises
    ------
    InvalidWorkloadError
        No price of the machine is known, or no alternative that ever costs more.
    """
    alt = altair_module()
    price = sum(quote.usd for quote in found.prices if quote.kind == "purchase")
    price += float(found.assumptions.get("host_usd", 0.0))
    electricity = next((quote.usd for quote in found.prices if quote.kind == "electricity"), None)
    met = [one.hours.best for one in found.break_even if one.hours is not None]
    if not met or electricity is None or found.power_w is None or found.units_per_hour is None:
        raise InvalidWorkloadError(
            f"{found.machine} never breaks even, or a price is unknown: there is no crossing."
        )
    own = (f"own {found.machine}", price, found.power_w / 1e3 * electricity)
    others = [
        (
            f"{line.way}: {line.name}",
            0.0,
            line.usd_per_hour
            if line.usd_per_hour is not None
            else line.usd_per_unit.best * found.units_per_hour.best,
        )
        for line in found.lines
        if line.way != "own"
    ]
    until = 1.5 * max(met)
    rows = [
        {
            "way": name,
            "hours": until * step / (_POINTS - 1),
            "USD": start + slope * until * step / (_POINTS - 1),
        }
        for name, start, slope in (own, *others)
        for step in range(_POINTS)
    ]
    lines = (
        alt.Chart(chart_data(alt, rows))
        .mark_line()
        .encode(
            x=alt.X("hours:Q", title="busy hours"),
            y=alt.Y("USD:Q", title="spent [USD]"),
            color=alt.Color("way:N", title=None),
        )
    )
    crossings = [{"hours": hours} for hours in met]
    marks = (
        alt.Chart(chart_data(alt, crossings)).mark_rule(strokeDash=[4, 3], opacity=0.5).encode(x="hours:Q")
    )
    return (lines + marks).properties(width=WIDTH, height=280, title=f"{found.model} on {found.machine}")
