"""Fit the LLM speed calibration and write ``catalogs/calibrations/llm-speed.toml``.

``python -m accuracy.speed.fit --data ../shared/data``
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.speed.conformal import TIERS, TierInterval, build_intervals, class_programs
from accuracy.speed.fitting import Fit, Regression
from accuracy.speed.observations import Observations, digest_data, load_observations, thin_rows
from accuracy.speed.scores import score_axis
from accuracy.speed.validation import AXIS_TIER, cross_validate
from willitrun.estimators.support import program_name

#: Interval phase -> phases of the observations whose residuals make it. Static batches are mostly decoding under
#: load and carry the variety of devices that the serving points lack.
INTERVAL_PHASES = {
    "decode": ("decode",),
    "prefill": ("prefill",),
    "tpot": ("tpot", "static"),
    "ttft": ("ttft",),
}

METHOD = (
    "Log speed regressed on about 20 log coefficients of physical terms (kernels/llm_speed.py) with offsets per class "
    "of hardware and software; Huber 0.15; rows weighted 1/sqrt(rows per configuration), half-way balanced by device; "
    "ridge to physical priors, its width chosen by leave-one-device-out. Intervals: grouped split-conformal on the "
    "signed log ratio, one draw per configuration, from out-of-sample residuals per support tier."
)


def collect_intervals(
    observations: Observations, held_out: dict[str, np.ndarray], difficulty: dict[str, dict[str, str]]
) -> dict[str, TierInterval]:
    """Return the interval table of all phases, classes of spread and tiers."""
    intervals: dict[str, TierInterval] = {}
    programs = name_programs(observations)
    for phase, members in INTERVAL_PHASES.items():
        of_phase = np.isin(observations.phase, members)
        classes = difficulty[phase]
        of_class = np.array([classes.get(str(name), "") for name in programs])
        parts = {"": of_phase} | {
            f":{name}": of_phase & (of_class == name) for name in sorted(set(classes.values()))
        }
        for suffix, keep in parts.items():
            intervals |= _intervals_of(observations, held_out, f"{phase}{suffix}", keep)
    return intervals


def _intervals_of(
    observations: Observations, held_out: dict[str, np.ndarray], phase: str, keep: np.ndarray
) -> dict[str, TierInterval]:
    samples: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for axis, tier in AXIS_TIER.items():
        alone = len(np.unique(getattr(observations, axis)[keep])) < 2
        # Without the only group there is nothing to learn the phase from: the tier is that before it.
        samples[tier] = (
            (np.empty(0), np.empty(0, dtype=str))
            if alone
            else (held_out[axis][keep], observations.configuration[keep])
        )
    return build_intervals(samples, phase)


def name_programs(observations: Observations) -> np.ndarray:
    """The program of each observation, as the library names it to find its class of spread."""
    first = np.searchsorted(observations.row, np.arange(len(observations)))
    moe = observations.work.n_experts[first] > 1
    runtime, backend = observations.codes["runtime"][first], observations.codes["backend"][first]
    return np.array(
        [program_name(int(r), int(b), moe=bool(m)) for r, b, m in zip(runtime, backend, moe, strict=True)]
    )


def class_difficulty(
    observations: Observations, held_out: dict[str, np.ndarray]
) -> dict[str, dict[str, str]]:
    """Phase -> program -> class of spread, from residuals on devices never seen."""
    programs = name_programs(observations)
    found = {}
    for phase, members in INTERVAL_PHASES.items():
        keep = np.isin(observations.phase, members)
        found[phase] = class_programs(
            held_out["device"][keep], observations.configuration[keep], programs[keep]
        )
    return found


def format_toml(
    observations: Observations,
    fit: Fit,
    intervals: dict[str, TierInterval],
    difficulty: dict[str, dict[str, str]],
    residuals: list[dict[str, Any]],
    *,
    digest: str,
    fitted: datetime.date,
) -> str:
    """Return the calibration file as TOML text."""
    cpu = np.char.startswith(observations.vendor_class.astype(str), "cpu/")
    lines = [
        "# Fitted numbers, not facts. Written by `python -m accuracy.speed.fit`; do not edit by hand.",
        "# coefficients and levels are natural logarithms: a coefficient is exp(mu + the offsets of the row's levels).",
        "# intervals multiply a predicted rate (tokens/s, or 1/s for tpot and ttft).",
        'id = "llm-speed"',
        'kind = "llm-speed"',
        f'method = "{METHOD}"',
        f"fitted = {fitted.isoformat()}",
        f'data_digest = "{digest}"',
        f"n_rows = {len(observations)}",
        f"n_configurations = {len(np.unique(observations.configuration))}",
        "",
        "[support]",
        f"devices = {_toml_list(observations.device[~cpu])}",
        f"families = {_toml_list(observations.family)}",
        f"classes = {_toml_list(observations.vendor_class)}",
        "",
        "[coefficients]",
    ]
    lines += [f"{name} = {value:.6f}" for name, value in fit.coefficients.items()]
    for key, offsets in fit.levels.items():
        rounded = {level: round(value, 4) for level, value in offsets.items()}
        # An offset under half a percent is no evidence of a difference.
        kept = {level: value for level, value in rounded.items() if abs(value) >= 0.005}
        if kept:
            lines += ["", f'[levels."{key}"]']
            lines += [f'"{level}" = {value:.4f}' for level, value in kept.items()]
    for phase, classes in difficulty.items():
        lines += ["", f"[difficulty.{phase}]"]
        lines += [f'"{name}" = "{found}"' for name, found in sorted(classes.items())]
    for key, interval in intervals.items():
        lines += [
            "",
            f'[intervals."{key}"]',
            f"low = {interval.low:.4f}",
            f"high = {interval.high:.4f}",
            f"n = {interval.n}",
            f"coverage = {interval.coverage:.3f}",
        ]
    for row in residuals:
        lines += ["", "[[residuals]]"]
        lines += [f"{name} = {_toml_value(value)}" for name, value in row.items()]
    return "\n".join(lines) + "\n"


def _toml_list(values: np.ndarray) -> str:
    names = ",\n  ".join(_toml_value(str(name)) for name in np.unique(values))
    return f"[\n  {names},\n]"


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    """Fit, validate and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with llm_speed.csv and its neighbours"
    )
    parser.add_argument("--output", type=Path, default=Path("catalogs/calibrations/llm-speed.toml"))
    parser.add_argument("--date", type=datetime.date.fromisoformat, default=datetime.date.today())
    parser.add_argument(
        "--residuals", type=Path, help="also save the out-of-sample log ratios (npz) for the report"
    )
    arguments = parser.parse_args()

    observations = thin_rows(load_observations(arguments.data))
    regression = Regression(observations)
    solution = regression.solve()
    fit = regression.unpack(solution)
    print(
        f"{len(observations)} rows, {len(np.unique(observations.configuration))} configurations", flush=True
    )

    held_out: dict[str, np.ndarray] = {}
    for axis in (*AXIS_TIER, "source"):
        held_out[axis] = cross_validate(observations, axis, start=solution)
        print(f"left out by {axis}", flush=True)
    difficulty = class_difficulty(observations, held_out)
    intervals = collect_intervals(observations, held_out, difficulty)
    assert set(AXIS_TIER.values()) == set(TIERS)
    residuals = [row for axis, ratio in held_out.items() for row in score_axis(observations, ratio, axis)]
    text = format_toml(
        observations,
        fit,
        intervals,
        difficulty,
        residuals,
        digest=digest_data(arguments.data),
        fitted=arguments.date,
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    if arguments.residuals is not None:
        np.savez_compressed(arguments.residuals, **held_out)
    for key, interval in intervals.items():
        print(
            f"{key:24s} x{interval.low:.2f} .. x{interval.high:.2f}  n={interval.n} coverage={interval.coverage:.3f}"
        )


if __name__ == "__main__":
    main()
