"""What the kernel predicts for each observation, as the rate that was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from accuracy.speed.observations import Observations
from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork
from willitrun.kernels.llm_levels import resolve
from willitrun.kernels.llm_speed import LlmSpeed, predict

Columns = TypeVar("Columns", LlmWork, LlmRates, LlmLoad, LlmCoefficients)


def take_rows(columns: Columns, index: np.ndarray) -> Columns:
    """Return the rows of a column block; single-row columns stay."""
    values: dict[str, Any] = {}
    for field in fields(columns):
        value = getattr(columns, field.name)
        values[field.name] = value if value.shape[0] == 1 else value[index]
    return type(columns)(**values)


def select_rows(observations: Observations, keep: np.ndarray) -> Observations:
    """Return the observations where ``keep`` is true."""
    kernel = np.flatnonzero(keep[observations.row])
    renumber = np.cumsum(keep) - 1
    own = {
        name: getattr(observations, name)[keep]
        for name in (
            "phase", "actual", "device", "model", "family", "source", "vendor_class", "configuration", "single_stream",
            "crowd", "identifier", "stands_for",
        )
    }  # fmt: skip
    return replace(
        observations,
        work=take_rows(observations.work, kernel),
        rates=take_rows(observations.rates, kernel),
        load=take_rows(observations.load, kernel),
        codes={axis: codes[kernel] for axis, codes in observations.codes.items()},
        row=renumber[observations.row[kernel]],
        **own,
    )


def read_rates(observations: Observations, speed: LlmSpeed) -> np.ndarray:
    """Return the predicted rate per kernel row: tokens/s, or 1/s for a latency."""
    load = observations.load
    phase = observations.phase[observations.row]
    concurrency = load.concurrency
    # A batch that the KV pool does not hold at once is written in waves.
    waves = concurrency / speed.effective_concurrency
    batch_s = speed.prefill_s + load.output_tokens * speed.step_s * waves
    rate = np.where(
        np.isin(phase, ("decode", "offload-decode")),
        concurrency / speed.step_s,
        np.where(
            np.isin(phase, ("prefill", "offload-prefill")),
            speed.prefill_tokens_per_s,
            np.where(
                phase == "static",
                1.0 / batch_s,
                np.where(
                    phase == "tpot",
                    1.0 / speed.time_per_output_token_s,
                    1.0 / speed.loaded_time_to_first_token_s,
                ),
            ),
        ),
    )
    return np.asarray(rate, dtype=np.float64)


def predict_rates(
    observations: Observations,
    coefficients: Mapping[str, float],
    levels: Mapping[str, Mapping[str, float]],
) -> np.ndarray:
    """Return the predicted rate per observation (mean over the parts of one figure)."""
    return predict_from_columns(observations, resolve(coefficients, levels, observations.codes))


def predict_from_columns(observations: Observations, columns: LlmCoefficients) -> np.ndarray:
    """Return the predicted rate per observation from coefficients that are resolved already."""
    speed = predict(observations.work, observations.rates, observations.load, columns)
    rate = read_rates(observations, speed)
    count = np.bincount(observations.row, minlength=len(observations))
    total = np.bincount(observations.row, weights=rate, minlength=len(observations))
    return total / count
