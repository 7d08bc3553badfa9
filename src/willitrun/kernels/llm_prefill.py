"""Prefill of a language model: the prompt in micro-batches, its time and its terms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.elementwise import maximum, minimum
from willitrun.kernels.llm_decode import CodeArray, Terms, largest_part
from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork
from willitrun.kernels.llm_spread import share_of_experts_hit, time_collectives
from willitrun.kernels.smoothing import share_factor, smooth_maximum

FloatArray = NDArray[np.float64]


def time_prefill(
    work: LlmWork, rates: LlmRates, load: LlmLoad, k: LlmCoefficients
) -> tuple[FloatArray, FloatArray, Callable[[], Terms], Callable[[], CodeArray]]:
    """Return the time to prefill the prompts that go together, the part of it that is added to decode steps which run
    anyway, and what gives its terms [s] and what it mostly waits for (`BOUNDS`).

    A server mixes prompts into the steps of other sequences: reading the weights and starting the kernels is the
    step's, computing and exchanging activations comes on top.
    """
    ranks = load.tensor
    tokens = maximum(load.prompt_tokens * load.prefill_sequences, 1.0)
    batches = np.ceil(tokens / load.microbatch_tokens)
    tokens_each = tokens / batches
    hit = share_of_experts_hit(work, tokens_each * load.expert_shards / ranks)
    used = work.n_experts_used / work.n_experts

    # Stages of a pipeline could share the work, but for its largest micro-batch, which passes all of them alone:
    # (sum + (stages - 1) x largest) / stages. The largest takes one part of what every micro-batch costs, and
    # more than that of what tokens cost, for the last one may be short. Hand-overs leave a share of the saving.
    saved = minimum(k.overlap, 1.0) * (load.pipeline - 1.0) / load.pipeline
    per_batch = 1.0 - saved * (1.0 - 1.0 / batches)
    per_token = 1.0 - saved * (1.0 - minimum(load.microbatch_tokens / tokens, 1.0))

    passes = batches * per_batch
    dense_s = passes * (work.dense_bytes / ranks) * (k.weights / rates.memory_bytes_per_s)
    expert_s = (
        passes
        * (work.expert_bytes * hit / load.expert_shards)
        * (k.weights * k.experts / rates.memory_bytes_per_s)
    )
    memory_s = dense_s + expert_s

    # Each expert works on whole tiles of tokens: a few tokens of padding per expert that is touched.
    expert_work = tokens * used * per_token + passes * hit * k.expert_tile
    per_flop = (
        k.prefill_linear / rates.compute_flop_per_s
        + k.prefill_issue / rates.issue_per_s
        + k.prefill_power / rates.compute_w
    ) / ranks
    linear_s = (2.0 * tokens * per_token * work.dense_params) * per_flop
    expert_linear_s = (2.0 * work.expert_params * expert_work) * (per_flop * k.prefill_experts)
    attention_s = (
        4.0
        * load.prefill_sequences
        * _attended(work, load)
        * per_token
        / ranks
        * (k.prefill_attention / rates.attention_flop_per_s)
    )
    # A recurrent state is updated token by token, by few threads.
    new_tokens = load.prefill_sequences * load.prompt_tokens * per_token
    scan_s = (new_tokens * work.state_bytes / ranks) * (k.scan / rates.issue_per_s)
    # The output matrix runs once per prompt, on its last token, in the last stage.
    head_s = load.prefill_sequences * 2.0 * work.lm_head_params * per_flop
    compute_s = linear_s + expert_linear_s + attention_s + head_s + scan_s
    busy_s = smooth_maximum(memory_s, compute_s)

    # Weights in host memory stream over the bus once per micro-batch.
    stream_s = (
        passes
        * (work.dense_bytes * load.host_dense_fraction + work.expert_bytes * load.host_expert_fraction * hit)
        * (k.pcie / rates.pcie_bytes_per_s)
    )
    launch_s = passes * (k.step + k.prefill_layer * work.n_launched)
    moe_launch_s = passes * k.moe_layer * work.n_moe_layers
    link_s = passes * time_collectives(work, rates, load, k, tokens_each, ranks)

    def terms() -> Terms:
        memory_share = share_factor(memory_s, busy_s)
        compute_share = share_factor(compute_s, busy_s)
        return (
            ("dense-weights", dense_s * memory_share),
            ("expert-weights", expert_s * memory_share),
            ("linear-compute", linear_s * compute_share),
            ("expert-compute", expert_linear_s * compute_share),
            ("attention-compute", attention_s * compute_share),
            ("recurrent-scan", scan_s * compute_share),
            ("lm-head", head_s * compute_share),
            ("streamed-weights", stream_s),
            ("collectives", link_s),
            ("layer-launch", launch_s),
            ("moe-launch", moe_launch_s),
        )

    def bound() -> CodeArray:
        memory_part = memory_s * share_factor(memory_s, busy_s)
        return largest_part(memory_part, busy_s - memory_part, launch_s + moe_launch_s, link_s, stream_s)

    added_s = compute_s + link_s
    return busy_s + stream_s + link_s + launch_s + moe_launch_s, added_s, terms, bound


def _attended(work: LlmWork, load: LlmLoad) -> FloatArray:
    """Return the sum over layers and new tokens of width x tokens attended to (causal)."""
    prompt = load.prompt_tokens
    cached = load.cached_tokens
    full = prompt * (cached + 0.5 * prompt)
    # Causal positions grow until the window is full: S (c + S/2) bounded by S x window.
    windowed = minimum(full, prompt * work.window_tokens)
    # Kernels for chosen tokens read the latent form; a prompt that is short enough is attended to as a whole.
    chosen = work.selected_width * minimum(full, prompt * work.selected_tokens)
    chosen = minimum(work.prefill_selected_width * full, chosen)
    result: FloatArray = work.prefill_attention_width * full + chosen + work.windowed_width * windowed
    return result
