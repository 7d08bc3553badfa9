"""What own measurements are worth: errors with 0, 1 and 3 anchors, and the variances that say how far they reach.

``python -m accuracy.speed.anchored --data ../shared/data [--residuals held-out.npz] [--write]``

Log ratios ln(measured / predicted) of the shipped calibration (or, with ``--residuals``, of fits that have not seen the
device) are split into effects per level by restricted Gaussian likelihood, device by device; ``--write`` puts the
variances into ``catalogs/calibrations/anchors.toml``. Then every row of a box (one device of one source) is predicted
from 0, 1 and 3 other rows of that box, drawn at random, through the kernel that `calibrate` uses.
"""

from __future__ import annotations

import argparse
import datetime
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from accuracy.speed.observations import Observations, digest_data, load_observations, thin_rows
from accuracy.speed.prediction import predict_rates
from willitrun.estimators.calibration_anchors import LEVELS
from willitrun.kernels.anchors import condition

SPEED = Path("catalogs/calibrations/llm-speed.toml")
TARGET = Path("catalogs/calibrations/anchors.toml")

#: Phase of an observation -> phase of an anchor. Offloaded rows say nothing about resident ones.
PHASES = {"decode": "decode", "tpot": "batch", "prefill": "prefill", "ttft": "prefill"}
#: Rows of one device that enter the likelihood; one box alone has thousands.
MOST_ROWS = 120
#: Log ratios beyond this are outliers (throttled, mislabelled) and count as this far.
LARGEST = 0.4
SEED = 20261124


def anchor_phases(observations: Observations) -> np.ndarray:
    """Return the anchor phase of each observation, empty where it has none."""
    concurrency = np.ones(len(observations))
    concurrency[observations.row] = np.broadcast_to(observations.load.concurrency, observations.row.shape)
    phases = np.array([PHASES.get(phase, "") for phase in observations.phase])
    return np.where((phases == "decode") & (concurrency > 1), "batch", phases)


def level_codes(observations: Observations) -> np.ndarray:
    """Return the codes of each observation on the levels of `calibration_anchors`, shape (n, levels)."""
    runtime = np.zeros(len(observations), dtype=np.int64)
    runtime[observations.row] = np.broadcast_to(
        observations.codes["runtime"] * 100 + observations.codes["backend"], observations.row.shape
    )
    # phase | source | device | count | model | format | runtime | backend
    parts = [name.split("|") for name in observations.configuration]
    devices = [" x ".join(part[2:4]) for part in parts]
    configurations = ["|".join(part[2:]) for part in parts]
    boxes = [f"{device}@{part[1]}" for device, part in zip(devices, parts, strict=True)]
    names = {
        "device": devices,
        "box": boxes,
        "runtime": [f"{device}|{code}" for device, code in zip(devices, runtime, strict=True)],
        "family": [f"{device}|{name}" for device, name in zip(devices, observations.family, strict=True)],
        "configuration": configurations,
        "run": [f"{box}|{name}" for box, name in zip(boxes, configurations, strict=True)],
    }
    return np.column_stack([np.unique(names[level], return_inverse=True)[1] for level in LEVELS])


def estimate_variances(
    ratio: np.ndarray,
    codes: np.ndarray,
    generator: np.random.Generator,
    *,
    shares: np.ndarray | None = None,
    largest: float = LARGEST,
) -> dict[str, float]:
    """Return the variances of the levels and of the noise that make the ratios most likely.

    ``shares`` are those of the terms in each prediction's time, (n, terms), where effects are of terms.
    """
    blocks = []
    ratio = np.clip(ratio, -largest, largest)
    for device in np.unique(codes[:, 0]):
        rows = np.flatnonzero(codes[:, 0] == device)
        if len(rows) > MOST_ROWS:
            rows = generator.choice(rows, MOST_ROWS, replace=False)
        same = (codes[rows][:, None, :] == codes[rows][None, :, :]).astype(np.float64)
        if shares is not None:
            same *= (shares[rows] @ shares[rows].T)[:, :, None]
        blocks.append((ratio[rows], same))

    def unlikelihood(logs: np.ndarray) -> float:
        variances = np.exp(logs)
        total = 0.0
        for values, same in blocks:
            matrix = same @ variances[:-1] + variances[-1] * np.eye(len(values))
            factor = np.linalg.cholesky(matrix)
            scaled = np.linalg.solve(factor, values)
            # Devices count alike, up to their number of rows' root: one box must not decide for all.
            total += (np.log(np.diag(factor)).sum() + 0.5 * scaled @ scaled) / np.sqrt(len(values))
        return float(total)

    start = np.full(len(LEVELS) + 1, np.log(0.005))
    solution = minimize(
        unlikelihood, start, method="L-BFGS-B", bounds=[(np.log(1e-5), np.log(0.5))] * len(start),
        options={"maxiter": 40},
    )  # fmt: skip
    found = np.exp(solution.x)
    return {name: float(value) for name, value in zip((*LEVELS, "noise"), found, strict=True)}


def score_anchors(
    ratio: np.ndarray,
    codes: np.ndarray,
    variances: Mapping[str, float],
    count: int,
    generator: np.random.Generator,
    *,
    same_configuration: bool,
) -> tuple[np.ndarray, int]:
    """Return the absolute relative errors of rows predicted from ``count`` other rows of their box."""
    values = np.array([variances[level] for level in LEVELS])
    box = codes[:, LEVELS.index("box")]
    run = codes[:, LEVELS.index("run")]
    errors: list[float] = []
    boxes = 0
    for name in np.unique(box):
        members = np.flatnonzero(box == name)
        if len(members) < 4:
            continue
        boxes += 1
        targets = members if len(members) <= 60 else generator.choice(members, 60, replace=False)
        for target in targets:
            others = members[members != target]
            others = others[(run[others] == run[target]) == same_configuration]
            if len(others) < count or not len(others):
                continue
            chosen = generator.choice(others, count, replace=False)
            found = condition(ratio[chosen], codes[chosen], codes[[target]], values, variances["noise"])
            errors.append(abs(float(np.expm1(found.mean[0] - ratio[target]))))
    return np.array(errors), boxes


def main() -> None:
    """Estimate the variances, print the table, and write the calibration if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--residuals", type=Path, help="held-out log ratios by axis, from accuracy.speed.fit")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data} is absent: nothing to score.")
        return
    observations = thin_rows(load_observations(arguments.data))
    if arguments.residuals is not None:
        ratio = np.load(arguments.residuals)["device"]
    else:
        shipped = tomllib.loads(SPEED.read_text("utf-8"))
        ratio = np.log(
            observations.actual / predict_rates(observations, shipped["coefficients"], shipped["levels"])
        )
    phases, codes = anchor_phases(observations), level_codes(observations)
    coefficients: dict[str, float] = {}
    used = 0
    print("| phase | anchor | boxes | rows | none | 1 | 3 | (median APE %)")
    print("|---|---|---|---|---|---|---|")
    for phase in ("decode", "batch", "prefill"):
        # Crowd-sourced rows of one card come from many boxes.
        keep = np.flatnonzero((phases == phase) & np.isfinite(ratio) & ~observations.crowd)
        used += len(keep)
        generator = np.random.default_rng(SEED)
        variances = estimate_variances(ratio[keep], codes[keep], generator)
        coefficients |= {f"{phase}.{name}": value for name, value in variances.items()}
        for same, label in ((False, "another configuration"), (True, "same configuration")):
            cells = []
            for count in (0, 1, 3):
                errors, boxes = score_anchors(
                    ratio[keep], codes[keep], variances, count, np.random.default_rng(SEED), same_configuration=same
                )  # fmt: skip
                cells.append(f"{100 * np.median(errors):.1f}" if len(errors) else "-")
            print(f"| {phase} | {label} | {boxes} | {len(errors)} | {' | '.join(cells)} |")
    for name, value in coefficients.items():
        print(f"{name:24} sd {np.sqrt(value):.3f}")
    if arguments.write:
        write_calibration(
            coefficients, digest_data(arguments.data), used, len(np.unique(codes[:, LEVELS.index("run")]))
        )


METHOD = """Variances of ln(measured / predicted) per level that two tuples may share, by restricted Gaussian likelihood over \
the calibration data of llm-speed (residuals clipped at 0.4, no crowd-sourced rows, at most 120 rows per device, devices weighted by the inverse root of \
their rows): device, box (one device of one source), runtime with back end, model family, configuration, and the same configuration \
on the same box; noise is a single run. \
Written by accuracy.speed.anchored."""


def write_calibration(coefficients: Mapping[str, float], digest: str, rows: int, configurations: int) -> None:
    """Write the calibration file."""
    lines = [
        "# Fitted numbers, not facts. Written by `python -m accuracy.speed.anchored --write`; do not edit by hand.",
        'id = "anchors"',
        'kind = "anchors"',
        f'method = "{METHOD}"',
        f"fitted = {datetime.datetime.now(datetime.UTC).date().isoformat()}",
        f'data_digest = "{digest}"',
        f"n_rows = {rows}",
        f"n_configurations = {configurations}",
        "",
        "[coefficients]",
        *(f'"{name}" = {value:.6f}' for name, value in coefficients.items()),
    ]
    TARGET.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
