"""Activations that a vision network keeps for its backward pass, from the largest batch that still trained.

Usage: ``python -m accuracy.vision.training_memory --data ../shared/data`` writes
``catalogs/calibrations/vision-training.toml``.

timm's benchmark starts at a batch and, out of memory, tries the next smaller power of two or half-way step. A
published batch below the start brackets what an image keeps: ``B`` images fitted in the card, the next step did not.
The share of each operator class's traffic that stays alive is fitted to the middle of the brackets.
"""

from __future__ import annotations

import argparse
import datetime
import os
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from accuracy.vision.record import CalibrationRecord, digest, write_record
from accuracy.vision.trace_tables import TRACES
from willitrun import load_catalog
from willitrun.kernels.activations import KEPT_GROUPS, kept_elements
from willitrun.kernels.training import training_states

CARD_BYTES = 24_268 * 2**20
"""What the driver shows of the card that all of these runs used (GeForce RTX 3090)."""
CONTEXT_BYTES = 350 * 2**20
ACTIVATION_BYTES = 2
START = 512
"""Batch that the benchmark starts with: where it trained, only an upper bound of an image's bytes is known."""


def next_batch(batch: int) -> int:
    """Return the step above a batch on timm's ladder: powers of two with one step half-way.

    >>> next_batch(256), next_batch(96)
    (384, 128)
    """
    base = 1 << (batch.bit_length() - 1)
    return base * 3 // 2 if batch == base and base > 1 else base * 2


def load_rows(data: Path) -> pd.DataFrame:
    """Brackets of bytes per image by architecture and size, and its traced work by group."""
    table = pd.read_csv(data / "timm_speed.csv")
    table = table[table["phase"].eq("train")]
    first = table.groupby(["arch", "img_size", "family"], as_index=False)["batch_size"].max()
    traces = load_catalog().traces
    rows = []
    for arch, size, family, batch in first.itertuples(index=False):
        trace = traces.find(str(arch), int(size)) if batch >= 8 else None
        if trace is None or trace.scaled_from is not None:
            continue
        # SGD with momentum on float32 weights, as the benchmark trains.
        states = training_states(
            trace.parameters, parameter_bytes=4, gradient_bytes=4, master_bytes=0, optimizer="sgd-momentum"
        )
        # Autocast keeps a half-precision copy of each weight for the step.
        room = CARD_BYTES - CONTEXT_BYTES - int(states.device_total) - 2 * trace.parameters
        unit = {group: kept_elements(trace.classes, {group: 1.0}) for group in KEPT_GROUPS}
        rows.append(
            {"arch": arch, "size": size, "family": family, "batch": batch, "most": room / batch,
             "least": 0.0 if batch >= START else room / next_batch(int(batch)), **unit}
        )  # fmt: skip
    return pd.DataFrame(rows)


def solve(rows: pd.DataFrame) -> np.ndarray:
    """Shares of traffic by group, on log error from the middle of the bracket; some runs failed for other reasons."""
    open_below = rows["least"].eq(0.0).to_numpy()
    aim = np.where(open_below, rows["most"], np.sqrt(rows["most"] * rows["least"])) / ACTIVATION_BYTES
    matrix = rows[list(KEPT_GROUPS)].to_numpy(float)

    def residual(theta: np.ndarray) -> np.ndarray:
        error = np.log(matrix @ np.exp(theta) / aim)
        return np.where(open_below, np.maximum(error, 0.0), error)

    start = np.log(np.full(matrix.shape[1], 0.4))
    found = least_squares(residual, start, loss="soft_l1", f_scale=0.15, bounds=(-6.0, 1.0))
    return np.asarray(np.exp(found.x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=TRACES.parent / "calibrations" / "vision-training.toml")
    options = parser.parse_args()
    rows = load_rows(options.data)
    held = np.zeros(len(rows))
    fold = rows["family"].map(lambda name: sum(map(ord, str(name))) % 6).to_numpy()
    for part in range(6):
        shares = solve(rows[fold != part])
        held[fold == part] = rows.loc[fold == part, list(KEPT_GROUPS)].to_numpy(float) @ shares
    predicted = held * ACTIVATION_BYTES
    inside = (predicted <= rows["most"]) & (predicted >= rows["least"])
    closed = rows["least"].gt(0.0).to_numpy()
    ratio = (np.sqrt(rows["most"] * rows["least"]).to_numpy(float) / predicted)[closed]
    wrong = (~closed & (predicted > rows["most"])).sum() / max((~closed).sum(), 1)
    print(
        f"largest batch that was tried trained: {(~closed).sum()}, of which {wrong:.2f} predicted not to fit"
    )
    low, best, high = (float(np.quantile(ratio, at)) for at in (0.05, 0.5, 0.95))
    print(
        f"{closed.sum()} brackets, families held out: median error {np.median(np.abs(1 / ratio - 1)):.3f} of the "
        f"bracket's middle, {inside[closed].mean():.2f} inside it; factors {low:.2f} {best:.2f} {high:.2f}"
    )
    shares = solve(rows)
    print({group: round(float(share), 3) for group, share in zip(KEPT_GROUPS, shares, strict=True)})
    record = CalibrationRecord(
        id="vision-training", kind="memory",
        method="share of each operator class's activation traffic that stays alive for the backward pass; soft-L1 on log error from the middle of the bracket between the largest batch that trained on one card and the next one that did not; intervals are quantiles with families held out",
        data_digest=digest(options.data / "timm_speed.csv"), n_rows=len(rows),
        n_configurations=int(rows["arch"].nunique()),
        coefficients={f"kept.{g}": float(s) for g, s in zip(KEPT_GROUPS, shares, strict=True)}, levels={},
        intervals={"activation.training": {"low": low, "best": best, "high": high, "n": len(ratio),
                                           "coverage": float(((ratio >= low) & (ratio <= high)).mean())}},
    )  # fmt: skip
    write_record(
        record, options.out,
        fitted=datetime.date.fromisoformat(os.environ.get("FIT_DATE", datetime.date.today().isoformat())),
    )  # fmt: skip


if __name__ == "__main__":
    main()
