"""How a block of an architecture differs from Llama's. A ``model_type`` without a row is refused: nothing is guessed."""

from __future__ import annotations

from functools import cache
from typing import Literal

from willitrun.errors import MissingDataError, UnsupportedArchitectureError
from willitrun.estimators.inventory_architectures import TRAITS
from willitrun.frozen import frozen, with_changes
from willitrun.records.models import TransformerConfig

__all__ = ["Traits", "checked_traits", "traits_of"]

Attention = Literal["grouped", "latent", "compressed", "none"]
Recurrence = Literal[
    "none", "delta", "delta-split", "kda", "lightning", "mamba", "mamba2", "rwkv6", "rwkv7", "conv"
]


@frozen
class Traits:
    """How a block of one architecture differs from Llama's (the defaults).

    Attributes
    ----------
    norms
        Vectors of hidden width per layer: 2 for pre-norm, 4 for sandwich norms.
    norm_bias
        LayerNorm with a bias instead of RMSNorm.
    qkv_bias, o_bias
        Bias of the projections; None follows ``attention_bias`` in the config (absent: no bias).
    qk_norm
        Norms of queries and keys: over one head, over all heads, or none.
    fused_qkv, fused_gate_up
        One tensor in GGUF for what is two or three elsewhere.
    query_gate
        The query projection is twice as wide (a gate per head channel).
    head_gate
        A gate per attention head, a matrix of its own.
    sinks, window_sinks
        One learnt logit per head: in every layer, or in sliding-window layers.
    gated
        Feed-forward block with gate, up and down; else up and down.
    activation_norm
        Norm inside the blocks (BitNet).
    expert_bias
        Bias of every expert projection; ``router_bias`` of the router; ``score_bias`` the vector that
        corrects expert selection.
    shared_gate
        A vector that gates the shared expert.
    always_shared
        One shared expert as wide as a routed one, although the config names none (Llama 4).
    dense_beside_experts
        Every layer has a dense block too (Gemma 4).
    tied
        Embedding and output share one matrix whatever the config says; None follows the config.
    positions
        Learnt positions: how many more than ``max_position_embeddings``; None for none.
    embedding_norm, token_types
        Norm after the embedding; number of token-type rows.
    head
        Whether there is an output matrix at all (encoders have none); ``head_bias`` its bias.
    layer_scalars
        Single learnt numbers per layer.
    """

    attention: Attention = "grouped"
    recurrence: Recurrence = "none"
    norms: int = 2
    norm_bias: bool = False
    final_norm: bool = True
    qkv_bias: bool | None = None
    o_bias: bool | None = None
    qk_norm: Literal["none", "head", "full"] = "none"
    fused_qkv: bool = False
    fused_gate_up: bool = False
    query_gate: bool = False
    head_gate: bool = False
    sinks: bool = False
    window_sinks: bool = False
    gated: bool = True
    ffn_bias: bool = False
    activation_norm: bool = False
    gated_experts: bool | None = None
    """Whether experts have a gate, where that differs from dense blocks (Moondream 3)."""
    token_temperatures: bool = False
    """Two matrices and a vector that scale queries and values by token (Moondream 3)."""
    biased_encoder: bool = False
    """An encoder of LayerNorm blocks with biases throughout, and learnt positions (BART)."""
    expert_bias: bool = False
    router_bias: bool = False
    score_bias: bool = False
    shared_gate: bool = False
    always_shared: bool = False
    dense_beside_experts: bool = False
    tied: bool | None = None
    positions: int | None = None
    embedding_norm: bool = False
    token_types: int = 0
    head: bool = True
    head_bias: bool = False
    pooler: bool = False
    layer_scalars: int = 0
    one_block_layers: bool = False
    """Each layer is one block: recurrence, attention or feed-forward (Nemotron-H)."""
    parallel_mixers: bool = False
    """Every layer runs attention and recurrence side by side (Falcon-H1)."""
    dt_norms: bool = False
    """Norms of dt, B and C inside the Mamba block (Jamba)."""
    recurrent_norm: bool = True
    """Gated norm at the end of the Mamba-2 block."""
    post_norm: bool = False
    """Norms behind the blocks only (OLMo 2, EXAONE 4): none before them."""
    cross_attention: bool = False
    grouped_norms: int = 0
    """Norms per layer where keys are grouped over several heads (Falcon 40B and later)."""
    default_inner: int = 0
    """Feed-forward width over hidden width where the config leaves it out."""
    alternating_updates: bool = False
    """Gemma 3n: four parallel residual streams, low-rank shortcuts, per-layer inputs."""
    relative_bias: bool = False
    """T5: buckets of learnt relative positions in the first layer of each stack."""
    position_buckets: int = 0
    """Learnt relative positions that all layers share: one number per bucket and head (MPNet)."""
    relative_positions: int = 0
    """Rows of hidden width, and their norm, for relative positions (DeBERTa: twice ``position_buckets``)."""
    down_bias: bool = False
    """A bias behind the feed-forward block only (GTE), behind all of its experts (Nomic Embed v2)."""
    task_adapters: int = 0
    """Columns of low-rank adapters beside every matrix: tasks times rank (Jina Embeddings v3: 5 times 4)."""
    latent_pooling: bool = False
    """Tokens attend to learnt latents in place of an output matrix (NV-Embed)."""
    no_positions_interval: int = 0
    """Every n-th layer attends without positions (SmolLM3: ``no_rope_layer_interval``)."""
    shortcut_experts: bool = False
    """A dense block in every layer, and experts beside that of some (LongCat: each published layer is two)."""
    output_gate: bool = False
    """Latent attention passes through a gate as wide as itself (Kimi K3)."""
    full_rank_gate: bool = False
    """Kimi delta attention's output gate is one matrix instead of two of low rank (Kimi K3, Ling 3)."""
    full_rank_decay: bool = False
    """So is its decay (Ling 3)."""
    latent_norm: bool = False
    """Norm of the narrower stream that experts work on (Kimi K3)."""
    residual_scores: int = 0
    """Vectors of hidden width per layer that weigh earlier layers, and one behind the last (Kimi K3)."""
    hyper_head: bool = False
    """Streams are put together behind the last layer by weights of their own (DeepSeek V4), not by their mean."""
    dense_prediction: bool = False
    """The layers that predict further tokens have a dense block, although others route."""
    prediction_matrix: Literal["none", "head", "embedding"] = "none"
    """A matrix as large as the embedding that each of those layers brings along (Step 3.5 its head, LongCat its embedding)."""
    mirrored_encoder: bool = False
    """An encoder of the same blocks, whose outputs the decoder attends to with its own projections (T5Gemma 2)."""
    reserved_rows: int = 0
    """Rows of the embedding beyond the vocabulary (Mllama)."""
    encoder: bool = False
    whole_latent: bool = False
    """Latent attention that every runtime expands: keys and values of each head are cached (MiniCPM3)."""


@cache
def _made(model_type: str) -> Traits:
    return Traits(**TRAITS[model_type])


def traits_of(model_type: str) -> Traits:
    """The row of one architecture.

    Raises
    ------
    UnsupportedArchitectureError
        For a ``model_type`` without a row.

    Examples
    --------
    >>> traits_of("gemma2").norms
    4
    """
    try:
        return _made(model_type)
    except KeyError:
        raise UnsupportedArchitectureError(
            f"the tensors of model_type {model_type!r} are not known.",
            hint="Describe a GGUF or safetensors file of it: tensors are then read from its header.",
        ) from None


def checked_traits(config: TransformerConfig) -> Traits:
    """The row of a config's architecture, where its fields agree with that row.

    Raises
    ------
    UnsupportedArchitectureError
        For an unknown ``model_type``, or fields that this architecture does not have.
    MissingDataError
        For a hybrid without ``layer_types``: which layers attend can't be guessed.
    """
    traits = traits_of(config.model_type)
    if config.kv_lora_rank and traits.attention != "latent":
        raise UnsupportedArchitectureError(
            f"{config.model_type} with latent attention is not known: kv_lora_rank is given."
        )
    hybrid = traits.recurrence != "none" and not traits.parallel_mixers
    pure = config.model_type in ("mamba", "mamba2", "falcon_mamba")
    if hybrid and not pure and config.layer_types is None:
        raise MissingDataError(f"{config.model_type} mixes kinds of layers and needs layer_types.")
    if traits.relative_bias:
        # T5's first version has a plain feed-forward block, version 1.1 and its relatives a gated one.
        return with_changes(traits, gated="gated" in (config.hidden_act or ""))
    return traits
