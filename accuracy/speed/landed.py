"""Score the library through its public door: `willitrun.estimate_speed` against every measurement that can be asked.

``python -m accuracy.speed.landed --data ../shared/data [--every 1]`` asks in a caller's words (`accuracy.speed.asks`: model,
machine, workload, format, runtime with version, back end and options, placement) and reports error, bias, coverage and
width by task, by support tier and by the axes of METHOD 2. On the rows of the fit this is in-sample; its use is to
show that what is fitted is what a caller gets, and to score files that the fit has not seen.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.measurements import without_measurements
from accuracy.speed.asks import Ask
from accuracy.speed.observations import machine_of, model_of, read_asks
from accuracy.speed.report import format_table
from accuracy.speed.scores import measured_quantity, score_ratios
from willitrun import (
    Placement,
    Runtime,
    SpeedEstimate,
    WillItRunError,
    Workload,
    estimate_speed,
    load_catalog,
)
from willitrun.catalog import Catalog

Estimator = Callable[[Ask], SpeedEstimate]


@dataclass(frozen=True, slots=True)
class Scored:
    """One measurement, the rate that was predicted for it, and the interval around it."""

    ask: Ask
    predicted: float
    low: float
    high: float
    support: str

    @property
    def configuration(self) -> str:
        """Phase, source, device, count, model, format, runtime: one vote each."""
        ask = self.ask
        device = ask.device or dict(ask.host).get("cpu", "cpu")
        runtime = dict(ask.runtime)
        return "|".join(
            str(part)
            for part in (
                ask.phase, ask.source, device, ask.count, ask.model, ask.quant, runtime["name"], runtime.get("backend"),
            )
        )  # fmt: skip


@lru_cache(maxsize=1)
def _blank() -> Catalog:
    """The catalog without measurements: they are drawn from the same studies, and no row may predict itself."""
    return without_measurements(load_catalog())


def ask_library(ask: Ask) -> SpeedEstimate:
    """The library's answer, without leaning on catalogued measurements."""
    return estimate_speed(
        model_of(ask.model),
        machine_of(ask.device, ask.count, ask.host, ask.power_limit_w),
        Workload(**dict(ask.workload)),
        quantization=ask.quantization,
        runtime=Runtime(**dict(ask.runtime)),
        placement=Placement(**dict(ask.placement)),
        catalog=_blank(),
    )


def read_rate(ask: Ask, speed: SpeedEstimate) -> tuple[float, float, float] | None:
    """Low, best and high of the rate that the ask measured; None where the library gives none."""
    batch = int(dict(ask.workload).get("concurrency", 1))
    output = int(dict(ask.workload).get("output_tokens", 1))
    decode, prefill = speed.decode_tokens_per_s, speed.prefill_tokens_per_s
    if ask.phase.endswith("decode"):
        return None if decode is None else (decode.low * batch, decode.best * batch, decode.high * batch)
    if ask.phase.endswith("prefill"):
        return None if prefill is None else (prefill.low, prefill.best, prefill.high)
    if ask.phase == "static":
        # Prompts and answers of the batch through a server, in waves where its KV pool does not hold all at once.
        tokens = speed.throughput_tokens_per_s
        if tokens is None:
            return None
        share = 1.0 / (output * batch)
        return tokens.low * share, tokens.best * share, tokens.high * share
    found = speed.time_per_output_token_s if ask.phase == "tpot" else speed.time_to_first_token_s
    return None if found is None else (1.0 / found.high, 1.0 / found.best, 1.0 / found.low)


def score_asks(asks: Iterable[Ask], estimator: Estimator = ask_library) -> tuple[list[Scored], Counter[str]]:
    """Predictions for asks (the questions of one figure averaged), and how many rows got none, by reason."""
    lost: Counter[str] = Counter()
    parts: dict[tuple[str, str], list[tuple[Ask, tuple[float, float, float], str]]] = {}
    failed: set[tuple[str, str]] = set()
    for ask in asks:
        key = (ask.identifier, ask.phase)
        if key in failed:
            continue
        try:
            speed = estimator(ask)
        except WillItRunError as error:
            failed.add(key)
            lost[f"{type(error).__name__}: {str(error)[:80]}"] += 1
            continue
        rate = read_rate(ask, speed)
        if rate is None:
            failed.add(key)
            lost["no figure: " + (speed.notes[0].code if speed.notes else "")] += 1
            continue
        parts.setdefault(key, []).append((ask, rate, speed.support or ""))
    found = []
    for key, members in parts.items():
        if key in failed:
            continue
        low, best, high = np.mean([rate for _, rate, _ in members], axis=0)
        found.append(Scored(members[0][0], float(best), float(low), float(high), members[0][2]))
    return found, lost


TASKS: dict[str, Callable[[Scored], bool]] = {
    "decode, one stream": lambda s: s.ask.phase == "decode" and s.ask.single_stream and bool(s.ask.device),
    "decode, batches or several devices": lambda s: (
        s.ask.phase == "decode" and not s.ask.single_stream and bool(s.ask.device)
    ),
    "decode on processors": lambda s: s.ask.phase == "decode" and not s.ask.device,
    "prefill, one stream": lambda s: s.ask.phase == "prefill" and s.ask.single_stream and bool(s.ask.device),
    "prefill, several devices": lambda s: (
        s.ask.phase == "prefill" and not s.ask.single_stream and bool(s.ask.device)
    ),
    "prefill on processors": lambda s: s.ask.phase == "prefill" and not s.ask.device,
    "offload, decode": lambda s: s.ask.phase == "offload-decode",
    "offload, prefill": lambda s: s.ask.phase == "offload-prefill",
    "static batches": lambda s: s.ask.phase == "static",
    "TPOT": lambda s: s.ask.phase == "tpot",
    "TTFT, loaded": lambda s: s.ask.phase == "ttft",
}

AXES: dict[str, Callable[[Scored], str]] = {
    "support": lambda s: s.support,
    "source": lambda s: s.ask.source,
    "device": lambda s: s.ask.device or "processor",
    "model": lambda s: s.ask.model,
    "runtime": lambda s: str(dict(s.ask.runtime)["name"]),
    "back end": lambda s: str(dict(s.ask.runtime).get("backend", "")),
    "format": lambda s: s.ask.quantization,
    "context": lambda s: _band(int(dict(s.ask.workload).get("cached_tokens", 0)), (1024, 8192, 32768)),
    "batch": lambda s: _band(int(dict(s.ask.workload).get("concurrency", 1)), (1, 8, 64)),
}


def _band(value: int, edges: tuple[int, ...]) -> str:
    for edge in edges:
        if value <= edge:
            return f"to {edge:,}"
    return f"above {edges[-1]:,}"


HEADER = (
    "rows",
    "configurations",
    "median APE %",
    "mean %",
    "p90 %",
    "within 20 %",
    "bias %",
    "inside 90 %",
    "half width",
)


def summarise(members: list[Scored]) -> list[str]:
    """Cells of `HEADER`; every configuration weighs the same."""
    ratio = np.array([np.log(s.ask.actual / s.predicted) for s in members])
    names = np.array([s.configuration for s in members])
    score = score_ratios(measured_quantity(np.array([s.ask.phase for s in members]), ratio), names)
    _, index, per = np.unique(names, return_inverse=True, return_counts=True)
    weight = 1.0 / per[index]
    inside = np.array([s.low <= s.ask.actual <= s.high for s in members])
    width = np.array([np.sqrt(s.high / s.low) if s.low > 0 else np.inf for s in members])
    return [
        str(score.rows),
        str(score.configurations),
        *(f"{100 * value:.1f}" for value in (score.median, score.mean, score.p90)),
        f"{100 * score.within_20:.0f}",
        f"{100 * score.bias:+.1f}",
        f"{100 * float(np.sum(weight * inside) / np.sum(weight)):.0f}",
        f"x{float(np.median(width)):.2f}",
    ]


def report_scores(found: list[Scored], lost: Counter[str], axes: Iterable[str] = ()) -> str:
    """The tables as markdown."""
    rows = []
    for task, belongs in TASKS.items():
        members = [s for s in found if belongs(s)]
        if members:
            rows.append([task, *summarise(members)])
    parts = [format_table(("task", *HEADER), rows)]
    for axis in axes:
        rows = []
        for task, belongs in TASKS.items():
            groups: dict[str, list[Scored]] = {}
            for s in found:
                if belongs(s):
                    groups.setdefault(AXES[axis](s), []).append(s)
            rows += [
                [task, name, *summarise(groups[name])] for name in sorted(groups) if len(groups[name]) >= 3
            ]
        parts += ["", f"### By {axis}", "", format_table(("task", axis, *HEADER), rows)]
    parts += ["", "### Not answered", ""]
    parts += [
        format_table(("reason", "rows"), ([reason, str(count)] for reason, count in lost.most_common(40)))
    ]
    return "\n".join(parts)


def main() -> None:
    """Ask, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="folder with llm_speed.csv, serving_speed.csv",
    )
    parser.add_argument("--every", type=int, default=1, help="ask only every n-th row")
    parser.add_argument("--axis", action="append", default=[], choices=sorted(AXES))
    options: Any = parser.parse_args()
    asks, skipped = read_asks(options.data)
    if options.every > 1:
        kept = set(sorted({ask.identifier for ask in asks})[:: options.every])
        asks = [ask for ask in asks if ask.identifier in kept]
    found, lost = score_asks(asks)
    print(report_scores(found, lost + skipped, ["support", *options.axis]))


if __name__ == "__main__":
    main()
