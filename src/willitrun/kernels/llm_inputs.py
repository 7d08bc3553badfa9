"""What the LLM speed kernel reads: work, rates, load and coefficients, as columns.

Every field is a float64 array of shape (n,) or (1,); they broadcast against each other. A scalar estimate is
a block of one row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen

FloatArray = NDArray[np.float64]


@frozen(eq=False)
class LlmWork:
    """What a model at a quantization costs. Per model, not per token and not per device.

    Attributes
    ----------
    dense_bytes
        Weights that every step reads: attention, dense feed-forward, shared experts, norms, router [bytes].
        Not token_embd (one row per token) and not the output matrix.
    lm_head_bytes
        Output matrix, tied or not [bytes].
    expert_bytes
        All routed experts of all layers [bytes].
    n_experts, n_experts_used
        Routed experts per MoE layer and how many a token uses (1 and 1 for a dense model).
    n_layers, n_moe_layers
        Layers of a mixer and a feed-forward block each (one that is either counts half), and how many of them route.
    dense_params, lm_head_params, expert_params
        Weights behind the three byte counts (a multiply and an add each per token).
    attention_width
        Sum over full-attention layers of n_heads x (head_dim of scores + head_dim of values) / 2, as decoding
        runs it (MLA absorbed: latent + rope).
    prefill_attention_width
        The same as prefill runs it (MLA expanded).
    windowed_width, window_tokens
        The same over sliding-window layers, and their window [tokens].
    n_launched
        Layers' worth of kernels that a step starts. Latent attention takes some ten where others take five, and counts
        twice; experts that all tokens pass take a block's beside the routed ones; an indexer, which chooses the tokens
        that a layer attends to, takes as many as a layer.
    selected_width, prefill_selected_width, selected_tokens
        Width of the own attention of layers with an indexer (whose width is in ``attention_width``), decoding and in
        a prefill that attends to all; the tokens they choose.
    kv_bytes_per_token, windowed_kv_bytes_per_token
        KV cache per token over unbounded and over windowed layers [bytes].
    selected_kv_bytes_per_token
        What of ``kv_bytes_per_token`` is read for the chosen tokens alone [bytes].
    state_bytes
        Recurrent state of one sequence [bytes].
    kv_heads
        KV heads (1 for MLA): a tensor-parallel rank beyond them repeats the cache.
    hidden_size
        Width of the residual stream.
    """

    dense_bytes: FloatArray
    lm_head_bytes: FloatArray
    expert_bytes: FloatArray
    n_experts: FloatArray
    n_experts_used: FloatArray
    n_layers: FloatArray
    n_moe_layers: FloatArray
    dense_params: FloatArray
    lm_head_params: FloatArray
    expert_params: FloatArray
    attention_width: FloatArray
    prefill_attention_width: FloatArray
    windowed_width: FloatArray
    window_tokens: FloatArray
    n_launched: FloatArray
    selected_width: FloatArray
    prefill_selected_width: FloatArray
    selected_tokens: FloatArray
    kv_bytes_per_token: FloatArray
    windowed_kv_bytes_per_token: FloatArray
    selected_kv_bytes_per_token: FloatArray
    state_bytes: FloatArray
    kv_heads: FloatArray
    hidden_size: FloatArray


@frozen(eq=False)
class LlmRates:
    """What one accelerator and its links can do.

    Attributes
    ----------
    memory_bytes_per_s
        Nameplate memory bandwidth [bytes/s].
    compute_flop_per_s
        Peak that is legal for (runtime, format, architecture) [FLOP/s]: see `select_compute_peak`.
    attention_flop_per_s
        Peak of the attention kernels (16-bit inputs) [FLOP/s].
    issue_per_s
        Compute units (SM, CU, GPU core) x clock [unit cycles/s]: what instruction issue, not a matrix unit's sheet,
        allows. Unpacking of weights and kernels far from the matrix peak scale with it. Infinity where unknown.
    compute_w
        Board power that arithmetic may draw [W]: what keeps cards of one chip and different limits apart.
    link_bytes_per_s
        Bandwidth between accelerators, one direction [bytes/s].
    link_latency_s
        Latency between two accelerators [s].
    link_peer_s
        What each further accelerator of a group adds to the latency of an all-reduce [s].
    host_bytes_per_s
        Host memory bandwidth [bytes/s].
    host_flop_per_s
        Host compute peak [FLOP/s], infinity where unknown.
    pcie_bytes_per_s
        Host to accelerator, one direction [bytes/s].
    """

    memory_bytes_per_s: FloatArray
    compute_flop_per_s: FloatArray
    attention_flop_per_s: FloatArray
    issue_per_s: FloatArray
    compute_w: FloatArray
    link_bytes_per_s: FloatArray
    link_latency_s: FloatArray
    link_peer_s: FloatArray
    host_bytes_per_s: FloatArray
    host_flop_per_s: FloatArray
    pcie_bytes_per_s: FloatArray


@frozen(eq=False)
class LlmLoad:
    """What is asked: sequences, tokens, micro-batches, parallelism and offload.

    Attributes
    ----------
    concurrency
        Sequences in flight over all replicas.
    prompt_tokens, cached_tokens, output_tokens
        Tokens prefilled, already in the cache, and generated, per sequence.
    context_tokens
        Mean depth while decoding (cached + prompt + output / 2 for a whole answer).
    microbatch_tokens
        n_ubatch (llama.cpp) or max_num_batched_tokens (vLLM).
    prefill_sequences
        Prompts prefilled together (static batches); 1 in servers.
    interference
        1 where the prefills of other sequences delay decoding (continuous batching), 0 where not.
    held_steps
        Decode steps for which a server keeps a request, or its first token, back on purpose: it polls its queue every few
        steps, or waits for prompts that go together. Nothing unless told so.
    draft_tokens, acceptance
        Speculative tokens per step and the mean share of them accepted.
    host_dense_fraction, host_expert_fraction
        Share of the dense and of the expert bytes that lies in host memory and is executed there.
    tensor, pipeline, data
        Tensor-parallel ranks, pipeline (layer-split) stages, attention data-parallel groups.
    expert_shards
        Accelerators over which the experts are spread (= tensor without expert parallelism).
    max_sequences
        Scheduler's cap on sequences (infinity = none).
    kv_pool_bytes
        Memory for KV cache and state over all accelerators [bytes] (infinity = not limiting).
    """

    concurrency: FloatArray
    prompt_tokens: FloatArray
    cached_tokens: FloatArray
    output_tokens: FloatArray
    context_tokens: FloatArray
    microbatch_tokens: FloatArray
    prefill_sequences: FloatArray
    interference: FloatArray
    held_steps: FloatArray
    draft_tokens: FloatArray
    acceptance: FloatArray
    host_dense_fraction: FloatArray
    host_expert_fraction: FloatArray
    tensor: FloatArray
    pipeline: FloatArray
    data: FloatArray
    expert_shards: FloatArray
    max_sequences: FloatArray
    kv_pool_bytes: FloatArray


@frozen(eq=False)
class LlmCoefficients:
    """The calibrated numbers, resolved to columns (see `llm_levels.resolve`).

    ``weights``, ``experts``, ``kv``: seconds at nameplate bandwidth -> seconds (1 / efficiency); ``experts`` on
    top of ``weights``. ``fetch``: unit cycles per byte read (a compute unit has only so many loads in flight,
    which is what keeps HBM parts from their sheet). ``unpack``: unit cycles per stored weight. ``linear``,
    ``attention``, ``prefill_linear``, ``prefill_attention``: 1 / efficiency on the legal peak.
    ``prefill_issue``: unit cycles per FLOP. ``prefill_power``: joules of board energy per FLOP. ``step``, ``layer``,
    ``moe_layer``, ``sequence``: seconds per step, per layer, more per MoE layer, per sequence. ``prefill_layer``: seconds per layer and micro-batch.
    ``scan``: unit cycles per token and byte of recurrent state that a prefill updates.
    ``prefill_experts``: what a FLOP of the grouped products of experts costs on top of one of a dense product in a
    prefill. ``expert_tile``: tokens of padding per expert touched in a prefill micro-batch. ``link``, ``host``, ``pcie``:
    1 / efficiency. ``host_layer``: seconds per MoE layer whose experts run on the host. ``hop``: multiplier of the
    link latency. ``request``: seconds per request. ``notice``: decode steps of the others that pass until a busy
    server takes a request up and has sent its first token, beside those of ``held_steps``. ``queue``: share of the requests that arrive all at once,
    the others when one of theirs is finished. ``overlap``: share of what stages that work on different micro-batches
    at once could save, 1 at most.
    """

    weights: FloatArray
    experts: FloatArray
    kv: FloatArray
    fetch: FloatArray
    unpack: FloatArray
    linear: FloatArray
    attention: FloatArray
    step: FloatArray
    layer: FloatArray
    moe_layer: FloatArray
    sequence: FloatArray
    prefill_linear: FloatArray
    prefill_issue: FloatArray
    prefill_power: FloatArray
    prefill_attention: FloatArray
    prefill_layer: FloatArray
    scan: FloatArray
    prefill_experts: FloatArray
    expert_tile: FloatArray
    link: FloatArray
    hop: FloatArray
    host: FloatArray
    host_layer: FloatArray
    pcie: FloatArray
    request: FloatArray
    notice: FloatArray
    queue: FloatArray
    overlap: FloatArray
