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
CodeArray = NDArray[np.int8]
Terms = tuple[tuple[str, FloatArray], ...]

#: Bound codes, in the order of `DecodeStep.bound`.
BOUNDS = ("memory-bandwidth", "compute", "launch", "interconnect", "host-memory")


@frozen
class DecodeStep:
    """One decode step: its time, what it is made of (when somebody asks), what decides the bound, work per rank."""

    total_s: FloatArray
    terms: Callable[[], Terms]
    bound: CodeArray
    work: Callable[[], tuple[FloatArray, FloatArray]]
    """Gives what one rank reads from its memory [bytes] and computes [FLOP]."""


def time_decode_step(
    work: LlmWork, rates: LlmRates, load: LlmLoad, k: LlmCoefficients, concurrency: FloatArray
) -> DecodeStep:
    """Return one step of ``concurrency`` sequences at the load's mean depth."""
    # Columns of a grid grow to the whole of it as late as they can: what models and machines decide is multiplied
    # first, then what loads decide, then both. Parts are functions, so that none outlives its use in a sweep.
    sequences = maximum(concurrency / (load.data * load.pipeline), 1.0)
    tokens = sequences * (1.0 + load.draft_tokens)
    ranks = load.tensor
    depth = load.context_tokens
    windowed_depth = minimum(depth, work.window_tokens)
    kept = depth * (work.kv_bytes_per_token - work.selected_kv_bytes_per_token)
    attended = work.attention_width * depth
    if not is_zero(work.selected_width):
        # Few models have an indexer: the others are spared two operations on every scenario.
        chosen = minimum(depth, work.selected_tokens)
        kept = kept + chosen * work.selected_kv_bytes_per_token
        attended = attended + work.selected_width * chosen
    hit = share_of_experts_hit(work, tokens * (load.expert_shards / ranks))
    used = work.n_experts_used / work.n_experts
    on_dense = 1.0 - load.host_dense_fraction
    expert_resident = 1.0 - load.host_expert_fraction
    on_expert = expert_resident * (hit / load.expert_shards)

    dense = work.dense_bytes / ranks
    head = work.lm_head_bytes / ranks
    expert = on_expert * work.expert_bytes
    kv = sequences * (
        (kept + windowed_depth * work.windowed_kv_bytes_per_token) / minimum(ranks, work.kv_heads)
    )
    state = sequences * (work.state_bytes / ranks)
    per_weight_byte = k.weights / rates.memory_bytes_per_s
    per_expert_byte = per_weight_byte * k.experts
    per_kv_byte = k.kv / rates.memory_bytes_per_s
    fetch = k.fetch / rates.issue_per_s
    unpack = k.unpack / rates.issue_per_s
    linear = k.linear / rates.compute_flop_per_s
    each = tokens / ranks
    attention_flop = (4.0 * each) * (attended + work.windowed_width * windowed_depth)

    def read_bytes() -> FloatArray:
        read: FloatArray = (head + expert + (kv + state)) + on_dense * dense
        return read

    def unpack_s() -> FloatArray:
        always = work.lm_head_params / ranks + on_expert * work.expert_params
        seconds: FloatArray = always * unpack + on_dense * (work.dense_params / ranks * unpack)
        return seconds

    def linear_flop() -> FloatArray:
        active = work.lm_head_params + expert_resident * (work.expert_params * used)
        flop: FloatArray = (active + on_dense * work.dense_params) * (2.0 * each)
        return flop

    memory_s = head * per_weight_byte + expert * per_expert_byte
    memory_s = memory_s + (kv + state) * per_kv_byte + on_dense * (dense * per_weight_byte)
    issue_s = read_bytes() * fetch + unpack_s()
    attention_s = attention_flop * (k.attention / rates.attention_flop_per_s)
    compute_s = linear_flop() * linear + attention_s

    busy_s = smooth_maximum(memory_s, issue_s, compute_s)
    memory_part = memory_s * share_factor(memory_s, busy_s)
    host_s = _host_seconds(work, rates, load, k, tokens, hit)
    crossing_s = k.host_layer * work.n_moe_layers * load.host_expert_fraction
    off_device_s = host_s + crossing_s
    link_s = time_collectives(work, rates, load, k, tokens, ranks)
    layer_s = k.layer * work.n_launched
    moe_layer_s = k.moe_layer * work.n_moe_layers
    sequence_s = k.sequence * sequences
    launch_s = k.step + layer_s + moe_layer_s + sequence_s
    bound = largest_part(memory_part, busy_s - memory_part, launch_s, link_s, off_device_s)
    total_s = busy_s + (launch_s + link_s) + off_device_s

    def terms() -> Terms:
        memory_share = share_factor(memory_s, busy_s)
        compute_share = share_factor(compute_s, busy_s)
        issue_share = share_factor(issue_s, busy_s)
        return (
            ("dense-weights", on_dense * (dense * per_weight_byte) * memory_share),
            ("lm-head", head * per_weight_byte * memory_share),
            ("expert-weights", expert * per_expert_byte * memory_share),
            ("kv-cache", kv * per_kv_byte * memory_share),
            ("recurrent-state", state * per_kv_byte * memory_share),
            ("load-issue", read_bytes() * fetch * issue_share),
            ("unpacking", unpack_s() * issue_share),
            ("linear-compute", linear_flop() * linear * compute_share),
            ("attention-compute", attention_s * compute_share),
            ("host-weights", host_s),
            ("host-crossings", crossing_s),
            ("collectives", link_s),
            ("step-launch", k.step),
            ("layer-launch", layer_s),
            ("moe-launch", moe_layer_s),
            ("sequence-bookkeeping", sequence_s),
        )

    return DecodeStep(
        total_s=total_s,
        terms=terms,
        bound=bound,
        work=lambda: (read_bytes(), linear_flop() + attention_flop),
    )


def _host_seconds(
    work: LlmWork, rates: LlmRates, load: LlmLoad, k: LlmCoefficients, tokens: FloatArray, hit: FloatArray
) -> FloatArray:
    """What the host takes for the weights that lie there; nothing where none does, as in most sweeps [s]."""
    host_dense, host_expert = load.host_dense_fraction, load.host_expert_fraction
    if is_zero(host_dense) and is_zero(host_expert):
        return 0.0 * host_dense
    used = work.n_experts_used / work.n_experts
    read = host_dense * work.dense_bytes + host_expert * hit * work.expert_bytes
    active = host_dense * work.dense_params + host_expert * (work.expert_params * used)
    return smooth_maximum(
        read * (k.host / rates.host_bytes_per_s),
        active * (2.0 * tokens) * (k.host / rates.host_flop_per_s),
    )


def largest_part(*parts: FloatArray) -> CodeArray:
    """Return the index of the largest part per row, the first of equal ones, without stacking them."""
    best, *rest = parts
    # Small numbers: an index of eight bytes takes as long to fill as a time.
    index: CodeArray = np.int8(0)  # type: ignore[assignment]
    for position, part in enumerate(rest, start=1):
        # Nothing is larger than something by being zero, as most parts are in most sweeps.
        if not is_zero(part):
            index = where(part > best, np.int8(position), index)
            best = maximum(best, part)
    return index
