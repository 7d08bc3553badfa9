"""One decode step of a language model: its time, its terms, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import is_zero, maximum, minimum, where
from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork
from willitrun.kernels.llm_spread import share_of_experts_hit, time_collectives
from willitrun.kernels.smoothing import share_factor, smooth_maximum

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Terms = tuple[tuple[str, FloatArray], ...]

#: Bound codes, in the order of `DecodeStep.bound`.
BOUNDS = ("memory-bandwidth", "compute", "launch", "interconnect", "host-memory")


@frozen
class DecodeStep:
    """One decode step: its time, what it is made of (when somebody asks), what decides the bound, work per rank."""

    total_s: FloatArray
    terms: Callable[[], Terms]
    bound: IntArray
    work: Callable[[], tuple[FloatArray, FloatArray]]
    """Gives what one rank reads from its memory [bytes] and computes [FLOP]."""


def time_decode_step(
    work: LlmWork, rates: LlmRates, load: LlmLoad, k: LlmCoefficients, concurrency: FloatArray
) -> DecodeStep:
    """Return one step of ``concurrency`` sequences at the load's mean depth."""
    sequences = maximum(concurrency / (load.data * load.pipeline), 1.0)
    tokens = sequences * (1.0 + load.draft_tokens)
    ranks = load.tensor
    depth = load.context_tokens
    windowed_depth = minimum(depth, work.window_tokens)
    expert_tokens = tokens * load.expert_shards / ranks
    hit = share_of_experts_hit(work, expert_tokens)
    used = work.n_experts_used / work.n_experts
    on_dense = 1.0 - load.host_dense_fraction
    on_expert = (1.0 - load.host_expert_fraction) * hit / load.expert_shards

    per_weight_byte = k.weights / rates.memory_bytes_per_s
    per_kv_byte = k.kv / rates.memory_bytes_per_s
    dense = work.dense_bytes * on_dense / ranks
    head = work.lm_head_bytes / ranks
    expert = work.expert_bytes * on_expert
    kv = (
        sequences
        * (depth * work.kv_bytes_per_token + windowed_depth * work.windowed_kv_bytes_per_token)
        / minimum(ranks, work.kv_heads)
    )
    state = sequences * work.state_bytes / ranks
    dense_s = dense * per_weight_byte
    head_s = head * per_weight_byte
    expert_s = expert * (per_weight_byte * k.experts)
    kv_s = kv * per_kv_byte
    state_s = state * per_kv_byte
    memory_s = dense_s + head_s + expert_s + kv_s + state_s

    always = work.dense_params * on_dense + work.lm_head_params
    per_cycle = 1.0 / rates.issue_per_s
    read = dense + head + expert + kv + state
    fetch_s = read * (k.fetch * per_cycle)
    unpack_s = (always / ranks + work.expert_params * on_expert) * (k.unpack * per_cycle)
    issue_s = fetch_s + unpack_s
    linear_flop = (
        2.0 * (tokens / ranks) * (always + work.expert_params * used * (1.0 - load.host_expert_fraction))
    )
    attention_flop = (
        4.0 * (tokens / ranks) * (work.attention_width * depth + work.windowed_width * windowed_depth)
    )
    linear_s = linear_flop * k.linear / rates.compute_flop_per_s
    attention_s = attention_flop * k.attention / rates.attention_flop_per_s
    compute_s = linear_s + attention_s

    busy_s = smooth_maximum(memory_s, issue_s, compute_s)
    memory_share = share_factor(memory_s, busy_s)

    host_s = _host_seconds(work, rates, load, k, tokens, hit)
    crossing_s = k.host_layer * work.n_moe_layers * load.host_expert_fraction
    link_s = time_collectives(work, rates, load, k, tokens, ranks)
    layer_s = k.layer * work.n_layers
    moe_layer_s = k.moe_layer * work.n_moe_layers
    sequence_s = k.sequence * sequences
    launch_s = k.step + layer_s + moe_layer_s + sequence_s
    total_s = busy_s + host_s + crossing_s + link_s + launch_s

    def terms() -> Terms:
        compute_share = share_factor(compute_s, busy_s)
        issue_share = share_factor(issue_s, busy_s)
        return (
            ("dense-weights", dense_s * memory_share),
            ("lm-head", head_s * memory_share),
            ("expert-weights", expert_s * memory_share),
            ("kv-cache", kv_s * memory_share),
            ("recurrent-state", state_s * memory_share),
            ("load-issue", fetch_s * issue_share),
            ("unpacking", unpack_s * issue_share),
            ("linear-compute", linear_s * compute_share),
            ("attention-compute", attention_s * compute_share),
            ("host-weights", host_s),
            ("host-crossings", crossing_s),
            ("collectives", link_s),
            ("step-launch", k.step),
            ("layer-launch", layer_s),
            ("moe-launch", moe_layer_s),
            ("sequence-bookkeeping", sequence_s),
        )

    memory_part = memory_s * memory_share
    return DecodeStep(
        total_s=total_s,
        terms=terms,
        bound=_largest(memory_part, busy_s - memory_part, launch_s, link_s, host_s + crossing_s),
        work=lambda: (read, linear_flop + attention_flop),
    )


def _host_seconds(
    work: LlmWork, rates: LlmRates, load: LlmLoad, k: LlmCoefficients, tokens: FloatArray, hit: FloatArray
) -> FloatArray:
    """What the host takes for the weights that lie there; nothing where none does, as in most sweeps [s]."""
    host_dense, host_expert = load.host_dense_fraction, load.host_expert_fraction
    if is_zero(host_dense) and is_zero(host_expert):
        return 0.0 * host_dense
    used = work.n_experts_used / work.n_experts
    return smooth_maximum(
        (work.dense_bytes * host_dense + work.expert_bytes * host_expert * hit)
        * k.host
        / rates.host_bytes_per_s,
        2.0
        * tokens
        * (work.dense_params * host_dense + work.expert_params * host_expert * used)
        * k.host
        / rates.host_flop_per_s,
    )


def _largest(*parts: FloatArray) -> IntArray:
    """Return the index of the largest part per row, without stacking them."""
    best = parts[0]
    index: IntArray = np.int64(0)  # type: ignore[assignment]
    for position, part in enumerate(parts[1:], start=1):
        wins = part > best
        index = where(wins, position, index)
        best = maximum(best, part)
    return index
