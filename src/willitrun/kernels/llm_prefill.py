"""Prefill of a language model: the prompt in micro-batches, its time and its terms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.llm_decode import Terms
from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork
from willitrun.kernels.llm_spread import share_of_experts_hit, time_collectives
from willitrun.kernels.smoothing import share_factor, smooth_maximum

FloatArray = NDArray[np.float64]


def time_prefill(
    work: LlmWork, rates: LlmRates, load: LlmLoad, k: LlmCoefficients
) -> tuple[FloatArray, Callable[[], Terms]]:
    """Return the time to prefill the prompts that go together, and what gives its terms [s]."""
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

    # Weights in host memory stream over the bus once per micro-batch.
    stream_s = (
        batches
        * (work.dense_bytes * load.host_dense_fraction + work.expert_bytes * load.host_expert_fraction * hit)
        * (k.pcie / rates.pcie_bytes_per_s)
    )
    launch_s = batches * (k.step + k.prefill_layer * work.n_layers)
    moe_launch_s = batches * k.moe_layer * work.n_moe_layers
    link_s = batches * time_collectives(work, rates, load, k, tokens_each, ranks)
    # Stages work on different micro-batches; the pipeline fills once.
    overlap = (batches + load.pipeline - 1.0) / (batches * load.pipeline)

    def terms() -> Terms:
        memory_share = share_factor(memory_s, busy_s)
        compute_share = share_factor(compute_s, busy_s)
        return (
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
