"""Residuals learnt by model family: shrunken means of log error that vanish where there is no data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

EXECUTION = {
    "eager": "eager", "eager-nhwc": "eager-nhwc", "eager-1.x": "eager", "compile": "compile",
    "compile-nhwc": "compile", "engine": "engine", "cpu": "cpu", "cpu-compile": "cpu", "cpu-engine": "cpu",
    "train": "train", "train-nhwc": "train-nhwc",
}  # fmt: skip


@dataclass(frozen=True)
class FamilyResiduals:
    """Log ratio measured / predicted time by family, and by family and execution on top of it."""

    family: dict[str, tuple[float, int]]
    execution: dict[tuple[str, str], tuple[float, int]]

    def of(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the residual of every row, zero for families without data."""
        base = np.array([self.family.get(f, (0.0, 0))[0] for f in frame["family"]])
        more = [
            self.execution.get((f, EXECUTION[p]), (0.0, 0))[0]
            for f, p in zip(frame["family"], frame["profile"], strict=True)
        ]
        return base + np.array(more)


def _shrunk(values: pd.Series, strength: float) -> tuple[float, int]:
    """Shrink a mean of per-architecture medians to zero."""
    n = len(values)
    clipped = values.clip(-0.5, 0.5)
    return float(clipped.sum() / (n + strength)), n


def learn_residuals(
    frame: pd.DataFrame,
    log_ratio: np.ndarray,
    *,
    family_strength: float = 4.0,
    execution_strength: float = 1.0,
) -> FamilyResiduals:
    """Learn residuals from rows; each architecture counts once per execution.

    Parameters
    ----------
    log_ratio
        ``log(measured / predicted)`` of every row.
    family_strength, execution_strength
        Pseudo-architectures with zero residual; chosen by leaving models out.
    """
    table = frame[["family", "arch"]].assign(
        execution=frame["profile"].map(EXECUTION).to_numpy(), error=log_ratio
    )
    per_arch = table.groupby(["family", "execution", "arch"])["error"].median().reset_index()
    across = per_arch.groupby(["family", "arch"])["error"].mean().reset_index()
    family = {str(f): _shrunk(g["error"], family_strength) for f, g in across.groupby("family")}
    per_arch["left"] = per_arch["error"] - per_arch["family"].map({k: v[0] for k, v in family.items()})
    execution = {
        (str(f), str(e)): _shrunk(g["left"], execution_strength)
        for (f, e), g in per_arch.groupby(["family", "execution"])
    }
    return FamilyResiduals(family, execution)
