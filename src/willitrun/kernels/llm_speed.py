"""Speed of a language model on accelerators: work x inverse rate x efficiency, one smooth maximum per phase.

One decode step of B sequences (T = B (1 + draft) tokens, depth x, ranks t, stages and data groups divide B):

    memory  = (dense + lm_head) k_w / (t BW) + experts hit k_e / (shards BW) + B (KV(x) + state) k_kv / BW
    issue   = (bytes read k_f + weights touched k_u) / (t ISSUE)
    compute = 2 T active k_c / (t PEAK) + 4 T width x k_a / (t PEAK16)
    step    = (memory^4 + issue^4 + compute^4)^(1/4) + host + collectives + o_step + o_layer L + o_moe L_moe + o_seq B

Prefill runs the prompt in micro-batches with the same parts; TPOT, TTFT and throughput follow from the two. Every
coefficient k comes from `LlmCoefficients`; nothing here is fitted. Blocks of rows and single rows run the same code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork
from willitrun.kernels.smoothing import share_factor, smooth_maximum

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Bound codes, in the order of `LlmSpeed.bound`.
BOUNDS = ("memory-bandwidth", "compute", "launch", "interconnect", "host-memory")


@dataclass(frozen=True, slots=True)
class LlmSpeed:
    """Predicted speed as columns.

    Attributes
    ----------
    step_s
        One decode step at the effective concurrency [s]; equal to the sum of ``terms``.
    time_per_output_token_s
        Mean time between tokens of one sequence, other sequences' prefills included [s].
    decode_tokens_per_s
        Of one sequence, without prefills in between [tokens/s].
    throughput_tokens_per_s
        Output tokens of all sequences [tokens/s].
    prefill_s, prefill_tokens_per_s
        Time of the prompts that are prefilled together, and their rate [s], [tokens/s].
    time_to_first_token_s
        Of a request on an idle server [s].
    loaded_time_to_first_token_s
        At the concurrency; NaN where the scheduler or the KV pool cannot hold that many sequences [s].
    effective_concurrency
        Sequences that fit the scheduler and the KV pool.
    bound
        Index into `BOUNDS`: what the decode step mostly waits for.
    terms, prefill_terms
        (name, seconds) pairs that sum to ``step_s`` and to ``prefill_s``.
    """

    step_s: FloatArray
    time_per_output_token_s: FloatArray
    decode_tokens_per_s: FloatArray
    throughput_tokens_per_s: FloatArray
    prefill_s: FloatArray
    prefill_tokens_per_s: FloatArray
    time_to_first_token_s: FloatArray
    loaded_time_to_first_token_s: FloatArray
    effective_concurrency: FloatArray
    bound: IntArray
    terms: tuple[tuple[str, FloatArray], ...]
    prefill_terms: tuple[tuple[str, FloatArray], ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One decode step: its time, what it is made of, and the groups that decide the bound."""

    total_s: FloatArray
    terms: tuple[tuple[str, FloatArray], ...]
    bound: IntArray


def share_of_experts_hit(work: LlmWork, tokens: FloatArray) -> FloatArray:
    """Return the expected share of distinct experts that ``tokens`` touch: ``1 - (1 - k/E)^T``.

    Routing is taken as uniform and independent. One token touches k of E exactly.
    """
    missed = 1.0 - work.n_experts_used / work.n_experts
    # A dense model has k = E: every token misses none, and log(0) would only warn.
    result: FloatArray = 1.0 - np.exp(tokens * np.log(np.maximum(missed, 1e-300)))
    return result


def predict(work: LlmWork, rates: LlmRates, load: LlmLoad, coefficients: LlmCoefficients) -> LlmSpeed:
    """Return the speed of LLM inference.

    Parameters
    ----------
    work, rates, load, coefficients
        Columns of shape (n,) or (1,) that broadcast against each other.

    Returns
    -------
    LlmSpeed
        Columns; see the class for units. ``sum(terms) == step_s`` to rounding.
    """
    concurrency = _effective_concurrency(work, load)
    step = _decode_step(work, rates, load, coefficients, concurrency)
    prefill_s, prefill_terms = _prefill(work, rates, load, coefficients)

    accepted = 1.0 + load.draft_tokens * load.acceptance
    own_s = step.total_s / accepted
    one_prefill_s = prefill_s / load.prefill_sequences
    per_group = concurrency / load.data
    others = np.maximum(per_group - 1.0, 0.0)
    outputs = np.maximum(load.output_tokens, 1.0)
    per_token_s = own_s + load.interference * others * one_prefill_s / outputs

    arrival_s = coefficients.request + step.total_s
    loaded_s = arrival_s + one_prefill_s * (1.0 + coefficients.queue * load.interference * others)
    saturated = concurrency < load.concurrency
    prompt = load.prompt_tokens * load.prefill_sequences
    return LlmSpeed(
        step_s=step.total_s,
        time_per_output_token_s=per_token_s,
        decode_tokens_per_s=1.0 / own_s,
        throughput_tokens_per_s=concurrency / per_token_s,
        prefill_s=prefill_s,
        prefill_tokens_per_s=prompt / prefill_s,
        time_to_first_token_s=arrival_s + one_prefill_s,
        loaded_time_to_first_token_s=np.where(saturated, np.nan, loaded_s),
        effective_concurrency=concurrency,
        bound=step.bound,
        terms=step.terms,
        prefill_terms=prefill_terms,
    )


def _effective_concurrency(work: LlmWork, load: LlmLoad) -> FloatArray:
    depth = load.cached_tokens + load.prompt_tokens + load.output_tokens
    per_sequence = (
        depth * work.kv_bytes_per_token
        + np.minimum(depth, work.window_tokens) * work.windowed_kv_bytes_per_token
        + work.state_bytes
    )
    fitting = np.floor(load.kv_pool_bytes / np.maximum(per_sequence, 1.0))
    result: FloatArray = np.maximum(
        np.minimum(np.minimum(load.concurrency, load.max_sequences), fitting), 1.0
    )
    return result


def _decode_step(
    work: LlmWork, rates: LlmRates, load: LlmLoad, k: LlmCoefficients, concurrency: FloatArray
) -> _Step:
    sequences = np.maximum(concurrency / (load.data * load.pipeline), 1.0)
    tokens = sequences * (1.0 + load.draft_tokens)
    ranks = load.tensor
    depth = load.context_tokens
    windowed_depth = np.minimum(depth, work.window_tokens)
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
        / np.minimum(ranks, work.kv_heads)
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
    fetch_s = (dense + head + expert + kv + state) * (k.fetch * per_cycle)
    unpack_s = (always / ranks + work.expert_params * on_expert) * (k.unpack * per_cycle)
    issue_s = fetch_s + unpack_s
    linear_s = (
        2.0
        * (tokens / ranks)
        * (always + work.expert_params * used * (1.0 - load.host_expert_fraction))
        * k.linear
        / rates.compute_flop_per_s
    )
    attention_s = (
        4.0
        * (tokens / ranks)
        * (work.attention_width * depth + work.windowed_width * windowed_depth)
        * k.attention
        / rates.attention_flop_per_s
    )
    compute_s = linear_s + attention_s

    busy_s = smooth_maximum(memory_s, issue_s, compute_s)
    memory_share = share_factor(memory_s, busy_s)
    compute_share = share_factor(compute_s, busy_s)
    issue_share = share_factor(issue_s, busy_s)

    host_dense = load.host_dense_fraction
    host_expert = load.host_expert_fraction
    host_s = smooth_maximum(
        (work.dense_bytes * host_dense + work.expert_bytes * host_expert * hit)
        * k.host
        / rates.host_bytes_per_s,
        2.0
        * tokens
        * (work.dense_params * host_dense + work.expert_params * host_expert * used)
        * k.host
        / rates.host_flop_per_s,
    )
    crossing_s = k.host_layer * work.n_moe_layers * host_expert
    link_s = _collectives(work, rates, load, k, tokens, ranks)
    layer_s = k.layer * work.n_layers
    moe_layer_s = k.moe_layer * work.n_moe_layers
    sequence_s = k.sequence * sequences
    launch_s = k.step + layer_s + moe_layer_s + sequence_s
    total_s = busy_s + host_s + crossing_s + link_s + launch_s

    terms = (
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
    return _Step(
        total_s=total_s,
        terms=terms,
        bound=_largest(memory_part, busy_s - memory_part, launch_s, link_s, host_s + crossing_s),
    )


def _largest(*parts: FloatArray) -> IntArray:
    """Return the index of the largest part per row, without stacking them."""
    best = parts[0]
    index: IntArray = np.zeros(1, dtype=np.int64)
    for position, part in enumerate(parts[1:], start=1):
        wins = part > best
        index = np.where(wins, position, index)
        best = np.maximum(best, part)
    return index


def _collectives(
    work: LlmWork,
    rates: LlmRates,
    load: LlmLoad,
    k: LlmCoefficients,
    tokens: FloatArray,
    ranks: FloatArray,
) -> FloatArray:
    """Return the time of two all-reduces per layer, one hop per stage boundary and expert dispatch [s]."""
    message = tokens * work.hidden_size * 2.0
    per_byte = k.link / rates.link_bytes_per_s
    hop_s = k.hop * rates.link_latency_s
    reduce_s = (
        2.0 * work.n_layers * (hop_s * np.log2(ranks) + message * (2.0 * (ranks - 1.0) / ranks) * per_byte)
    )
    stages = load.pipeline - 1.0
    spread = load.expert_shards / ranks - 1.0
    dispatch_s = np.where(
        spread > 0.0,
        2.0 * work.n_moe_layers * (hop_s + message * work.n_experts_used * per_byte),
        0.0,
    )
    result: FloatArray = reduce_s + stages * (hop_s + message * per_byte) + dispatch_s
    return result


def _prefill(
    work: LlmWork, rates: LlmRates, load: LlmLoad, k: LlmCoefficients
) -> tuple[FloatArray, tuple[tuple[str, FloatArray], ...]]:
    """Return the time to prefill the prompts that go together, and its terms [s]."""
    ranks = load.tensor
    tokens = np.maximum(load.prompt_tokens * load.prefill_sequences, 1.0)
    batches = np.ceil(tokens / load.microbatch_tokens)
    tokens_each = tokens / batches
    hit = share_of_experts_hit(work, tokens_each * load.expert_shards / ranks)
    used = work.n_experts_used / work.n_experts

    dense_s = batches * (work.dense_bytes / ranks) * (k.weights / rates.memory_bytes_per_s)
    expert_s = (
        batches
        * (work.expert_bytes * hit / load.expert_shards)
        * (k.weights * k.experts / rates.memory_bytes_per_s)
    )
    memory_s = dense_s + expert_s

    # Each expert works on whole tiles of tokens: a few tokens of padding per expert that is touched.
    expert_work = tokens * used + batches * hit * k.expert_tile
    per_flop = (k.prefill_linear / rates.compute_flop_per_s + k.prefill_issue / rates.issue_per_s) / ranks
    linear_s = (2.0 * tokens * work.dense_params + 2.0 * work.expert_params * expert_work) * per_flop
    attention_s = (
        4.0
        * load.prefill_sequences
        * _attended(work, load)
        / ranks
        * (k.prefill_attention / rates.attention_flop_per_s)
    )
    # The output matrix runs once per prompt, on its last token.
    head_s = load.prefill_sequences * 2.0 * work.lm_head_params * per_flop
    compute_s = linear_s + attention_s + head_s
    busy_s = smooth_maximum(memory_s, compute_s)
    memory_share = share_factor(memory_s, busy_s)
    compute_share = share_factor(compute_s, busy_s)

    # Weights in host memory stream over the bus once per micro-batch.
    stream_s = (
        batches
        * (work.dense_bytes * load.host_dense_fraction + work.expert_bytes * load.host_expert_fraction * hit)
        * (k.pcie / rates.pcie_bytes_per_s)
    )
    launch_s = batches * (k.step + k.prefill_layer * work.n_layers)
    moe_launch_s = batches * k.moe_layer * work.n_moe_layers
    link_s = batches * _collectives(work, rates, load, k, tokens_each, ranks)
    # Stages work on different micro-batches; the pipeline fills once.
    overlap = (batches + load.pipeline - 1.0) / (batches * load.pipeline)
    terms = (
        ("dense-weights", dense_s * memory_share * overlap),
        ("expert-weights", expert_s * memory_share * overlap),
        ("linear-compute", linear_s * compute_share * overlap),
        ("attention-compute", attention_s * compute_share * overlap),
        ("lm-head", head_s * compute_share * overlap),
        ("streamed-weights", stream_s * overlap),
        ("collectives", link_s * overlap),
        ("layer-launch", launch_s * overlap),
        ("moe-launch", moe_launch_s * overlap),
    )
    return (busy_s + stream_s + link_s + launch_s + moe_launch_s) * overlap, terms


def _attended(work: LlmWork, load: LlmLoad) -> FloatArray:
    """Return the sum over layers and new tokens of width x tokens attended to (causal)."""
    prompt = load.prompt_tokens
    cached = load.cached_tokens
    full = prompt * (cached + 0.5 * prompt)
    # Causal positions grow until the window is full: S (c + S/2) bounded by S x window.
    windowed = np.minimum(full, prompt * work.window_tokens)
    result: FloatArray = work.prefill_attention_width * full + work.windowed_width * windowed
    return result
