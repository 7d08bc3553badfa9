"""Pictures of plans: what is drawn is what the result says."""

from __future__ import annotations

from datetime import date

import pytest

pytest.importorskip("altair", reason="extra 'plot'")

from willitrun import InvalidWorkloadError, Workload, cost, recommend
from willitrun.interop.plan_plots import break_even_lines, pareto_points

TODAY = date(2026, 11, 28)


def test_lines_cross_where_owning_breaks_even() -> None:
    found = cost(
        "llama-3.1-8b", "rtx-4090", Workload(concurrency=16), quantization="awq-int4", host_usd=500.0,
        rental_usd_per_hour=0.4, today=TODAY,
    )  # fmt: skip
    chart = break_even_lines(found).to_dict()
    rows = chart["layer"][0]["data"]["values"]
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        lines.setdefault(row["way"], []).append((row["hours"], row["USD"]))
    slopes = {
        way: (points[0][1], (points[-1][1] - points[0][1]) / points[-1][0]) for way, points in lines.items()
    }
    (own,) = (line for way, line in slopes.items() if way.startswith("own"))
    (rent,) = (line for way, line in slopes.items() if way.startswith("rent"))
    (even,) = (one.hours.best for one in found.break_even if one.hours is not None and "rent" in one.against)
    assert own[0] / (rent[1] - own[1]) == pytest.approx(even)
    marks = [row["hours"] for row in chart["layer"][1]["data"]["values"]]
    assert even in marks


def test_the_front_is_that_of_the_recommendation() -> None:
    found = recommend(
        "qwen3-32b", targets={"decode_tokens_per_s": 20}, quantizations="q4_k_m",
        candidates=["rtx-3090", "rtx-4090", "rtx-5090"], today=TODAY,
    )  # fmt: skip
    values = pareto_points(found).to_dict()["data"]["values"]
    assert [(row["machine"], row["USD"]) for row in values] == [
        (one.machine, one.usd) for one in found.pareto
    ]
    none = recommend("llama-3.3-70b", quantizations="f16", candidates=["rtx-3060-12gb"], today=TODAY)
    with pytest.raises(InvalidWorkloadError):
        pareto_points(none)
