"""Memory of training: states by optimizer and sharding stage, activations of transformer blocks [bytes].

References
----------
ZeRO, https://arxiv.org/abs/1910.02054; Reducing Activation Recomputation in Large Transformer Models,
https://arxiv.org/abs/2205.05198; QLoRA, https://arxiv.org/abs/2305.14314.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen
from willitrun.kernels.weights import as_int64

__all__ = [
    "OPTIMIZER_BYTES",
    "TrainingBlock",
    "TrainingStates",
    "block_activation_bytes",
    "core_attention_bytes",
    "logits_activation_bytes",
    "lora_parameters",
    "model_activation_bytes",
    "training_states",
]

Int64Array = NDArray[np.int64]

# Bytes of optimizer state per trained parameter, without a master copy: (numerator, denominator).
OPTIMIZER_BYTES: dict[str, tuple[int, int]] = {
    "adamw": (8, 1),
    # Two bytes of state and one float32 scale for each per block of 256.
    "adamw-8bit": (2 * 256 + 8, 256),
    # A float per row and per column: far below one byte per parameter, booked as 1/64 byte.
    "adafactor": (1, 64),
    "sgd": (0, 1),
    "sgd-momentum": (4, 1),
    # Momentum for matrices; embeddings and vectors take AdamW's states: see `training_states`.
    "muon": (4, 1),
}


@frozen
class TrainingStates:
    """States of one rank [bytes]."""

    parameters: Int64Array
    master: Int64Array
    gradients: Int64Array
    optimizer: Int64Array
    host: Int64Array

    @property
    def device_total(self) -> Int64Array:
        """Everything that the accelerator holds."""
        return self.parameters + self.master + self.gradients + self.optimizer


def _share(value: Int64Array, ranks: Int64Array, sharded: ArrayLike) -> Int64Array:
    return np.where(np.asarray(sharded, dtype=bool), -(-value // ranks), value)


def training_states(
    trained: ArrayLike,
    *,
    frozen_bytes: ArrayLike = 0,
    parameter_bytes: ArrayLike = 2,
    gradient_bytes: ArrayLike = 2,
    master_bytes: ArrayLike = 4,
    optimizer: str = "adamw",
    vector_parameters: ArrayLike = 0,
    zero_stage: ArrayLike = 0,
    ranks: ArrayLike = 1,
    offload_optimizer: ArrayLike = False,
) -> TrainingStates:
    """Parameters, gradients and optimizer states of one rank [bytes].

    Stage 1 shards master weights and optimizer states over the ranks, stage 2 gradients too, stage 3 (and
    FSDP's full sharding) parameters too.

    Parameters
    ----------
    trained
        Parameters that receive gradients.
    frozen_bytes
        Weights that do not: the base model under LoRA, quantized under QLoRA. Sharded at stage 3.
    parameter_bytes, gradient_bytes
        Bytes per trained parameter and per gradient: 2 in mixed precision, 4 in fp32.
    master_bytes
        Float32 copy of the weights: 4 in mixed precision, 0 in pure bf16 or fp32.
    optimizer
        One of `OPTIMIZER_BYTES`.
    vector_parameters
        Under Muon, the parameters that AdamW handles (embeddings, norms).
    zero_stage, ranks
        Sharding stage and data-parallel ranks.
    offload_optimizer
        Master weights and optimizer states in host memory.

    Examples
    --------
    Mixed-precision AdamW: 16 bytes per parameter.

    >>> training_states(10**9).device_total.item()
    16000000000
    >>> training_states(10**9, zero_stage=3, ranks=8).device_total.item()
    2000000000
    """
    count, over, stage = as_int64(trained), as_int64(ranks), as_int64(zero_stage)
    numerator, denominator = OPTIMIZER_BYTES[optimizer]
    state = -(-count * numerator // denominator)
    if optimizer == "muon":
        state = state + as_int64(vector_parameters) * 4
    parameters = _share(count * as_int64(parameter_bytes), over, stage >= 3) + _share(
        as_int64(frozen_bytes), over, stage >= 3
    )
    gradients = _share(count * as_int64(gradient_bytes), over, stage >= 2)
    master = _share(count * as_int64(master_bytes), over, stage >= 1)
    states = _share(state, over, stage >= 1)
    away = np.asarray(offload_optimizer, dtype=bool)
    zero = np.zeros_like(states)
    return TrainingStates(
        parameters=np.asarray(parameters, dtype=np.int64),
        master=np.asarray(np.where(away, zero, master), dtype=np.int64),
        gradients=np.asarray(gradients, dtype=np.int64),
        optimizer=np.asarray(np.where(away, zero, states), dtype=np.int64),
        host=np.asarray(np.where(away, master + states, zero), dtype=np.int64),
    )


def lora_parameters(
    rows: ArrayLike, widths: ArrayLike, counts: ArrayLike, rank: ArrayLike, *, dora: ArrayLike = False
) -> Int64Array:
    """Trained parameters of LoRA adapters on a list of matrices.

    ``sum over matrices of rank x (rows + width)``; DoRA adds a magnitude per row.

    Examples
    --------
    >>> lora_parameters([4096], [4096], [32], 16).item()
    4194304
    """
    outputs, inputs, many = as_int64(rows), as_int64(widths), as_int64(counts)
    magnitude = np.where(np.asarray(dora, dtype=bool), outputs, 0)
    total = np.sum((as_int64(rank) * (outputs + inputs) + magnitude) * many)
    return np.asarray(total, dtype=np.int64)


@frozen
class TrainingBlock:
    """Widths of one transformer block [elements]; int64 scalars or arrays of one shape.

    ``feed_forward`` is the width that one token passes through (experts used x expert width in a mixture);
    ``key_value`` the KV heads x head width; ``query`` the query heads x head width.
    """

    hidden: ArrayLike
    feed_forward: ArrayLike
    query: ArrayLike
    key_value: ArrayLike
    heads: ArrayLike
    gated: ArrayLike = True
    dropout: ArrayLike = False


def _core_attention_per_token(
    block: TrainingBlock, tokens: ArrayLike, flash_attention: ArrayLike, element_bytes: ArrayLike
) -> Int64Array:
    size, dropped = as_int64(element_bytes), np.asarray(block.dropout, dtype=bool)
    scores = as_int64(block.heads) * as_int64(tokens) * np.where(dropped, 2 * size + 1, 2 * size)
    # Flash attention keeps one float32 log-sum-exp per head and token instead.
    statistics = 4 * as_int64(block.heads)
    return np.where(np.asarray(flash_attention, dtype=bool), statistics, scores)


def core_attention_bytes(
    block: TrainingBlock,
    tokens: ArrayLike,
    *,
    batch: ArrayLike,
    tensor: ArrayLike = 1,
    flash_attention: ArrayLike = True,
    element_bytes: ArrayLike = 2,
) -> Int64Array:
    """What one block keeps between its queries, keys and values and the output of attention [bytes].

    Scores, probabilities and their dropout mask, ``5 H s^2`` for a GPT block; with flash attention, which computes
    them again in any case, ``4 H s`` of log-sum-exps. Selective recomputation drops these (Korthikanti et al., 2022,
    section 5): attention's inputs and its output stay.

    Examples
    --------
    >>> gpt = TrainingBlock(1024, 4096, 1024, 1024, 16, gated=False, dropout=True)
    >>> core_attention_bytes(gpt, 2048, batch=1, flash_attention=False).item() == 5 * 16 * 2048**2
    True
    """
    per_token = _core_attention_per_token(block, tokens, flash_attention, element_bytes)
    return np.asarray(as_int64(tokens) * as_int64(batch) * -(-per_token // as_int64(tensor)), dtype=np.int64)


def block_activation_bytes(
    block: TrainingBlock,
    tokens: ArrayLike,
    *,
    batch: ArrayLike,
    tensor: ArrayLike = 1,
    sequence_parallel: ArrayLike = False,
    flash_attention: ArrayLike = True,
    element_bytes: ArrayLike = 2,
) -> Int64Array:
    """Activations that one block keeps for its backward pass [bytes].

    Counted tensor by tensor: two norm inputs and two outputs (hidden width), queries, keys, values and the
    attention output, the feed-forward input products (gate, up, activation and product; or up and
    activation), a one-byte mask per dropout, and, without flash attention, scores, probabilities and their
    mask ``5 H s^2``. Tensor parallelism shares the parallel parts; sequence parallelism the others too.

    For a GPT block (F = 4 h, dropout, no flash attention) this is ``s b h (34 + 5 a s / h) / t``.

    Examples
    --------
    >>> gpt = TrainingBlock(1024, 4096, 1024, 1024, 16, gated=False, dropout=True)
    >>> block_activation_bytes(gpt, 1, batch=1).item() - 34 * 1024
    64
    """
    length, many = as_int64(tokens), as_int64(batch)
    size, over = as_int64(element_bytes), as_int64(tensor)
    hidden, inner = as_int64(block.hidden), as_int64(block.feed_forward)
    query, pair = as_int64(block.query), as_int64(block.key_value)
    dropped = np.asarray(block.dropout, dtype=bool)
    # Inputs of the two norms and their outputs, the inputs of the first matmuls; one mask byte per dropout.
    replicated = 4 * hidden * size + np.where(dropped, 2 * hidden, 0)
    parallel = (2 * query + 2 * pair) * size
    parallel = parallel + inner * np.where(np.asarray(block.gated, dtype=bool), 4, 2) * size
    # A gated block keeps gate, up, activated gate and their product; a plain one the activation's ends.
    parallel = parallel + _core_attention_per_token(block, length, flash_attention, element_bytes)
    spread = np.where(np.asarray(sequence_parallel, dtype=bool), over, 1)
    per_token = -(-replicated // spread) + -(-parallel // over)
    return np.asarray(length * many * per_token, dtype=np.int64)


def model_activation_bytes(
    block_bytes: ArrayLike,
    tokens: ArrayLike,
    *,
    batch: ArrayLike,
    hidden: ArrayLike,
    layers: ArrayLike,
    checkpointing: str = "none",
    selective_bytes: ArrayLike = 0,
    tensor: ArrayLike = 1,
    sequence_parallel: ArrayLike = False,
    element_bytes: ArrayLike = 2,
) -> Int64Array:
    """Activations of all layers under a recomputation mode [bytes].

    ``none`` keeps every block's; ``selective`` keeps all but ``selective_bytes`` of each
    (`core_attention_bytes`);
    ``full`` keeps the input of each layer, ``s b h`` elements, and one block's working set.
    """
    each, depth = as_int64(block_bytes), as_int64(layers)
    spread = np.where(np.asarray(sequence_parallel, dtype=bool), as_int64(tensor), 1)
    edge = -(-as_int64(tokens) * as_int64(batch) * as_int64(hidden) * as_int64(element_bytes) // spread)
    match checkpointing:
        case "none":
            total = depth * each
        case "selective":
            total = depth * (each - as_int64(selective_bytes))
        case "full":
            total = depth * edge + each
        case _:
            raise ValueError(f"unknown checkpointing {checkpointing!r}: none, selective or full")
    return np.asarray(total, dtype=np.int64)


def _per_logit(element_bytes: ArrayLike, copy_bytes: ArrayLike) -> Int64Array:
    return as_int64(element_bytes) + as_int64(copy_bytes)


def logits_activation_bytes(
    tokens: ArrayLike,
    *,
    batch: ArrayLike,
    vocabulary: ArrayLike,
    tensor: ArrayLike = 1,
    fused_cross_entropy: ArrayLike = False,
    element_bytes: ArrayLike = 2,
    copy_bytes: ArrayLike = 8,
) -> Int64Array:
    """Logits of the whole batch and their float32 copy and gradient [bytes].

    ``s b V (element_bytes + copy_bytes)``: a float32 copy and its gradient, 8 bytes; 4 where the gradient takes
    the place of the copy (Megatron). A cross entropy fused with the output matrix works in chunks and keeps none.

    Examples
    --------
    >>> logits_activation_bytes(2048, batch=1, vocabulary=128256).item() // 2**20
    2505
    """
    whole = as_int64(tokens) * as_int64(batch) * as_int64(vocabulary) * _per_logit(element_bytes, copy_bytes)
    kept = np.where(np.asarray(fused_cross_entropy, dtype=bool), 0, -(-whole // as_int64(tensor)))
    return np.asarray(kept, dtype=np.int64)
