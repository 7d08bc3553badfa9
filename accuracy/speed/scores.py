"""Error figures of predictions: by task, and by held-out axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from accuracy.speed.conformal import weighted_quantile
from accuracy.speed.observations import Observations

#: Phases whose measured quantity is a time.
LATENCIES = ("tpot", "ttft")

_GGML = (0, 1, 2)  # llama.cpp, ik_llama.cpp, llamafile: codes of the runtime axis


@dataclass(frozen=True, slots=True)
class Score:
    """Error of predicted against measured rates; every configuration weighs the same."""

    rows: int
    configurations: int
    median: float
    mean: float
    p90: float
    within_20: float
    bias: float


def score_ratios(log_ratio: np.ndarray, configuration: np.ndarray) -> Score:
    """Return the score of log(actual / predicted).

    The error of a row is |predicted / actual - 1|; bias is the median of predicted / actual - 1.
    """
    _, member, per = np.unique(configuration, return_inverse=True, return_counts=True)
    weight = 1.0 / per[member]
    error = np.abs(np.exp(-log_ratio) - 1.0)
    total = float(np.sum(weight))
    return Score(
        rows=len(log_ratio),
        configurations=len(per),
        median=weighted_quantile(error, weight, 0.5),
        mean=float(np.sum(weight * error) / total),
        p90=weighted_quantile(error, weight, 0.9),
        within_20=float(np.sum(weight * (error <= 0.2)) / total),
        bias=float(np.exp(-weighted_quantile(log_ratio, weight, 0.5)) - 1.0),
    )


def measured_quantity(phase: np.ndarray, log_ratio: np.ndarray) -> np.ndarray:
    """Return log(actual / predicted) of what was measured: seconds where ``log_ratio`` is that of 1/seconds.

    The ratios of the fit are those of rates. |predicted / measured - 1| differs between a time and its inverse.
    """
    return np.where(np.isin(phase, LATENCIES), -log_ratio, log_ratio)


def split_tasks(observations: Observations) -> dict[str, np.ndarray]:
    """Return the masks of METHOD's tasks."""
    first = np.searchsorted(observations.row, np.arange(len(observations)))
    moe = observations.work.n_experts[first] > 1
    ggml = np.isin(observations.codes["runtime"][first], _GGML)
    phase = observations.phase
    on_cpu = np.char.startswith(observations.vendor_class.astype(str), "cpu/")
    single = observations.single_stream & ~on_cpu
    crowd = observations.crowd | (observations.source == "localscore")
    return {
        "decode, batch 1, dense, llama.cpp class": (phase == "decode") & single & ~moe & ggml & ~crowd,
        "decode, batch 1, dense, all sources": (phase == "decode") & single & ~moe,
        "decode, batch 1, MoE": (phase == "decode") & single & moe,
        "decode, batches": (phase == "decode") & ~single & ~on_cpu,
        "decode on processors": (phase == "decode") & on_cpu,
        "prefill, one prompt": (phase == "prefill") & single,
        "prefill, batches": (phase == "prefill") & ~single & ~on_cpu,
        "prefill on processors": (phase == "prefill") & on_cpu,
        "offload, decode": phase == "offload-decode",
        "offload, prefill": phase == "offload-prefill",
        "static batches, end to end": phase == "static",
        "serving TPOT": phase == "tpot",
        "serving TTFT, loaded": phase == "ttft",
    }


def score_axis(observations: Observations, log_ratio: np.ndarray, axis: str) -> list[dict[str, Any]]:
    """Return one row per task of the out-of-sample errors when ``axis`` is held out."""
    rows = []
    log_ratio = measured_quantity(observations.phase, log_ratio)
    for task, keep in split_tasks(observations).items():
        if not keep.any():
            continue
        score = score_ratios(log_ratio[keep], observations.configuration[keep])
        rows.append(
            {
                "held_out": axis,
                "task": task,
                "rows": score.rows,
                "configurations": score.configurations,
                "median": score.median,
                "mean": score.mean,
                "p90": score.p90,
                "within_20": score.within_20,
                "bias": score.bias,
            }
        )
    return rows
