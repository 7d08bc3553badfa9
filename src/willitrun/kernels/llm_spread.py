"""How work spreads: over the experts that tokens choose, and over accelerators that must talk to each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.elementwise import is_zero, maximum, minimum, where
from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork

FloatArray = NDArray[np.float64]


def share_of_experts_hit(work: LlmWork, tokens: FloatArray) -> FloatArray:
    """Return the expected share of distinct experts that ``tokens`` touch: ``1 - (1 - k/E)^T``.

    Routing is taken as uniform and independent. One token touches k of E exactly.
    """
    missed = 1.0 - work.n_experts_used / work.n_experts
    if is_zero(missed):
        # Dense models throughout: every token misses none.
        return missed + 1.0
    # Among others a dense model has k = E too, and log(0) would only warn.
    result: FloatArray = 1.0 - np.exp(tokens * np.log(maximum(missed, 1e-300)))
    return result


def time_collectives(
    work: LlmWork,
    rates: LlmRates,
    load: LlmLoad,
    k: LlmCoefficients,
    tokens: FloatArray,
    ranks: FloatArray,
) -> FloatArray:
    """Return the time of two all-reduces per layer, one hop per stage boundary and expert dispatch [s]."""
    if _alone(ranks) and _alone(load.pipeline) and _alone(load.expert_shards):
        return ranks - 1.0
    message = tokens * work.hidden_size * 2.0
    per_byte = k.link / rates.link_bytes_per_s
    hop_s = k.hop * rates.link_latency_s
    # One kernel in which all ranks read from all others: what more of them add is what they share the link with.
    latency_s = hop_s * minimum(ranks - 1.0, 1.0) + k.hop * rates.link_peer_s * maximum(ranks - 2.0, 0.0)
    reduce_s = 2.0 * work.n_layers * (latency_s + message * (2.0 * (ranks - 1.0) / ranks) * per_byte)
    stages = load.pipeline - 1.0
    spread = load.expert_shards / ranks - 1.0
    dispatch_s = where(
        spread > 0.0,
        2.0 * work.n_moe_layers * (hop_s + message * work.n_experts_used * per_byte),
        0.0,
    )
    result: FloatArray = reduce_s + stages * (hop_s + message * per_byte) + dispatch_s
    return result


def _alone(count: FloatArray) -> bool:
    """Whether no row has more than one: most sweeps are of single cards."""
    return is_zero(count - 1.0)
