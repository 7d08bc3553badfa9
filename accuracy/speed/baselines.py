"""Two simple predictors that the calibrated model must beat: what most calculators do."""

from __future__ import annotations

import numpy as np

from accuracy.speed.observations import Observations


def _median_by_group(values: np.ndarray, groups: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return for each row the median of its group's values over the other folds (all groups where none)."""
    result = np.empty(len(values))
    for number in np.unique(fold):
        train = fold != number
        overall = float(np.median(values[train]))
        for group in np.unique(groups[fold == number]):
            members = train & (groups == group)
            result[(fold == number) & (groups == group)] = (
                float(np.median(values[members])) if members.any() else overall
            )
    return result


def bound_times(observations: Observations) -> tuple[np.ndarray, np.ndarray]:
    """Return (memory, compute) seconds of one measured unit at nameplate rates, per observation.

    A unit is one token of one sequence (decode, TPOT), one prompt token (prefill), one batch (static) or one
    first token (TTFT).
    """
    first = np.searchsorted(observations.row, np.arange(len(observations)))
    work, rates, load = observations.work, observations.rates, observations.load

    def of(values: np.ndarray) -> np.ndarray:
        return values if values.shape[0] == 1 else values[first]

    share = of(work.n_experts_used) / of(work.n_experts)
    read = of(work.dense_bytes) + of(work.lm_head_bytes) + of(work.expert_bytes) * share
    active = of(work.dense_params) + of(work.lm_head_params) + of(work.expert_params) * share
    ranks = of(load.tensor) * of(load.data)
    memory = read / ranks / of(rates.memory_bytes_per_s)
    compute = 2.0 * active / ranks / of(rates.compute_flop_per_s)
    phase, batch = observations.phase, of(load.concurrency)
    prompt, output = of(load.prompt_tokens), of(load.output_tokens)
    decode = np.char.endswith(phase.astype(str), "decode")
    prefill = np.char.endswith(phase.astype(str), "prefill")
    bytes_s = np.select(
        [decode, prefill, phase == "static", phase == "tpot"],
        [memory / batch, memory / of(load.microbatch_tokens), memory * output, memory],
        memory,
    )
    flops_s = np.select(
        [decode, prefill, phase == "static", phase == "tpot"],
        [compute, compute, compute * (prompt + output) * batch, compute * batch],
        compute * prompt,
    )
    return bytes_s, flops_s


def bandwidth_baseline(observations: Observations, fold: np.ndarray) -> np.ndarray:
    """Return log(actual / predicted) of bytes / bandwidth (FLOP / peak in prefill) times one constant per phase."""
    memory, compute = bound_times(observations)
    prefill = np.char.endswith(observations.phase.astype(str), "prefill") | (observations.phase == "ttft")
    ratio = np.log(observations.actual * np.where(prefill, compute, memory))
    return ratio - _median_by_group(ratio, observations.phase, fold)


def roofline_baseline(observations: Observations, fold: np.ndarray) -> np.ndarray:
    """Return log(actual / predicted) of max(bytes / (a BW), FLOP / (b peak)) with two constants from data.

    a comes from decoding at batch 1, b from prefill; one pair for everything.
    """
    memory, compute = bound_times(observations)
    result = np.empty(len(observations))
    for number in np.unique(fold):
        train = fold != number
        a = np.median((observations.actual * memory)[train & (observations.phase == "decode")])
        b = np.median((observations.actual * compute)[train & (observations.phase == "prefill")])
        held = ~train
        predicted = np.maximum(memory[held] / a, compute[held] / b)
        result[held] = np.log(observations.actual[held] * predicted)
    return result
