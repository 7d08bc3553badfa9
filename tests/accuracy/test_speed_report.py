"""The report names a cause for a large error from what the data says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from accuracy.speed.report import name_cause


class Rows(SimpleNamespace):
    """As much of observations as the cause is named from."""

    def __len__(self) -> int:
        return len(self.row)


def table(rows: list[tuple[str, str, str, str, float]]) -> tuple[Rows, np.ndarray]:
    """Rows of (device, class, model, source, log ratio), all of one program, format and phase."""
    device, vendor, model, source, ratio = (np.array(column) for column in zip(*rows, strict=True))
    count = len(rows)
    observations = Rows(
        row=np.arange(count),
        phase=np.array(["decode"] * count),
        device=device,
        vendor_class=vendor,
        model=model,
        configuration=np.array([f"{d}|{m}|{s}" for d, m, s in zip(device, model, source, strict=True)]),
        codes={axis: np.zeros(count, dtype=int) for axis in ("runtime", "backend", "format")},
    )

    return observations, ratio.astype(float)


OTHERS = [(f"card-{i}", "nvidia/gddr", "m", "s", 0.0) for i in range(9)]


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        ([("x", "nvidia/gddr", "m", "a", -1.0), ("x", "nvidia/gddr", "m", "b", 0.0), *OTHERS], "another measurement"),
        ([("x", "intel/gddr", "m", "a", -1.0), *OTHERS], "0 configurations"),
        ([("x", "nvidia/gddr", "m", "a", -1.0), ("x", "nvidia/gddr", "n", "a", 0.0), *OTHERS], "this run"),
        ([("x", "nvidia/gddr", "m", "a", -1.0), ("x", "nvidia/gddr", "n", "a", -0.9), *OTHERS], "whole device"),
        ([("x", "nvidia/gddr", "m", "a", -1.0), *OTHERS], "only configuration"),
    ],
)  # fmt: skip
def test_the_cause_of_an_error(rows: list[tuple[str, str, str, str, float]], cause: str) -> None:
    observations, ratio = table(rows)
    assert cause in name_cause(observations, ratio, 0)  # type: ignore[arg-type]
