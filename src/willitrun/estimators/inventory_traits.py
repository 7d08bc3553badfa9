"""What each architecture adds to, or leaves out of, the plain Llama block: one row per ``model_type``.

Read in the modelling code of https://github.com/huggingface/transformers and checked against published
parameter counts (see ``accuracy/memory``). A ``model_type`` without a row is refused: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from willitrun.errors import MissingDataError, UnsupportedArchitectureError
from willitrun.frozen import frozen, with_changes
from willitrun.records.models import TransformerConfig

__all__ = ["TRAITS", "Traits", "checked_traits", "traits_of"]

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


Row = Mapping[str, Any]
"""What an architecture has and the plain Llama block has not: the fields of its `Traits`, made when asked for."""


def _like(row: Row, **changes: Any) -> Row:
    return {**row, **changes}


LLAMA: Row = {}
LAYER_NORM: Row = _like(
    LLAMA, norm_bias=True, qkv_bias=True, o_bias=True, gated=False, ffn_bias=True, default_inner=4
)
QWEN2: Row = _like(LLAMA, qkv_bias=True, o_bias=False)
QWEN3: Row = _like(LLAMA, qk_norm="head")
GEMMA: Row = _like(LLAMA, tied=True)
DEEPSEEK: Row = _like(LLAMA, attention="latent", score_bias=True)
QWEN_NEXT: Row = _like(LLAMA, qk_norm="head", query_gate=True, recurrence="delta", shared_gate=True)
QWEN35 = _like(QWEN_NEXT, recurrence="delta-split")
BERT: Row = _like(
    LLAMA,
    norm_bias=True,
    qkv_bias=True,
    o_bias=True,
    gated=False,
    ffn_bias=True,
    positions=0,
    embedding_norm=True,
    token_types=2,
    head=False,
    final_norm=False,
    pooler=True,
    encoder=True,
)
ROBERTA = _like(BERT, token_types=1)

STEP3 = _like(
    LLAMA, qk_norm="head", head_gate=True, score_bias=True, dense_prediction=True, prediction_matrix="head"
)

TRAITS: dict[str, Row] = {
    **dict.fromkeys(
        (
            "llama",
            "mistral",
            "mixtral",
            "ministral3",
            "ministral",
            "yi",
            "aquila",
            "ernie4_5",
            "ernie4_5_text",
            "granite",
            "granitemoe",
            "deepseek",
            "exaone",
            "internlm",
            "internlm3",
            "minicpm",
            "orion",
            "xverse",
            "solar",
        ),
        LLAMA,
    ),
    "smollm3": _like(LLAMA, no_positions_interval=4),
    "nemotron-nas": LLAMA,
    "mllama_text_model": _like(LLAMA, reserved_rows=8),
    **dict.fromkeys(("step3p5", "step3p7"), STEP3),
    "muse_glimmer_text": _like(LLAMA, norms=4, query_gate=True),
    "minimax_m3": _like(LLAMA, qk_norm="head", score_bias=True),
    "ernie4_5_vl_moe_text": _like(LLAMA, score_bias=True),
    "nvembed": _like(LLAMA, head=False, latent_pooling=True),
    "internlm2": LLAMA,
    "llama4_text": _like(LLAMA, always_shared=True),
    "baichuan": _like(LLAMA, fused_qkv=True),
    "qwen": _like(LLAMA, fused_qkv=True, qkv_bias=True, o_bias=False),
    **dict.fromkeys(("qwen2", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "mimo"), QWEN2),
    "qwen2_moe": _like(QWEN2, shared_gate=True),
    "seed_oss": QWEN2,
    **dict.fromkeys(
        (
            "qwen3",
            "qwen3_moe",
            "qwen3_omni_moe_text",
            "qwen3_vl",
            "qwen3_vl_text",
            "qwen3_vl_moe",
            "qwen3_vl_moe_text",
        ),
        QWEN3,
    ),
    "qwen3_next": QWEN_NEXT,
    **dict.fromkeys(("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"), QWEN35),
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe"), QWEN3),
    "gemma": GEMMA,
    "gemma2": _like(GEMMA, norms=4),
    **dict.fromkeys(("gemma3", "gemma3_text"), _like(GEMMA, norms=4, qk_norm="head")),
    **dict.fromkeys(
        ("gemma4", "gemma4_text", "gemma4_unified"),
        _like(GEMMA, norms=4, qk_norm="head", layer_scalars=1, dense_beside_experts=True),
    ),
    "phi3": _like(LLAMA, fused_qkv=True, fused_gate_up=True),
    "phi3_v": _like(LLAMA, fused_qkv=True, fused_gate_up=True),
    "phimoe": _like(LLAMA, norm_bias=True, qkv_bias=True, o_bias=True, head_bias=True),
    **dict.fromkeys(("phi", "phi-msft"), _like(LAYER_NORM, norms=1, head_bias=True)),
    "glm": _like(LLAMA, qkv_bias=True, o_bias=False, fused_gate_up=True),
    **dict.fromkeys(
        ("glm4", "glm4v_text"), _like(LLAMA, norms=4, qkv_bias=True, o_bias=False, fused_gate_up=True)
    ),
    **dict.fromkeys(
        ("glm4_moe", "glm4v_moe_text"), _like(LLAMA, qkv_bias=None, o_bias=False, score_bias=True)
    ),
    **dict.fromkeys(
        ("deepseek_v3", "kimi_k2", "deepseek_v32", "glm_moe_dsa", "glm4_moe_lite"),
        DEEPSEEK,
    ),
    "deepseek_v2": _like(DEEPSEEK, score_bias=False),
    "mistral4": _like(DEEPSEEK, score_bias=False),
    "minicpm3": _like(DEEPSEEK, score_bias=False, whole_latent=True),
    "minimax": _like(LLAMA, recurrence="lightning"),
    **dict.fromkeys(
        ("gemma3n", "gemma3n_text"),
        _like(GEMMA, norms=4, qk_norm="head", alternating_updates=True),
    ),
    **dict.fromkeys(
        ("bailing_moe_v2", "bailing_moe_linear"),
        _like(LLAMA, fused_qkv=True, qk_norm="head", score_bias=True),
    ),
    "t5": _like(LLAMA, gated=False, relative_bias=True, cross_attention=True, norms=3),
    "kimi_linear": _like(DEEPSEEK, recurrence="kda"),
    "kimi_k3": _like(
        DEEPSEEK,
        recurrence="kda",
        output_gate=True,
        full_rank_gate=True,
        latent_norm=True,
        residual_scores=2,
    ),
    "bailing_hybrid": _like(
        DEEPSEEK, recurrence="kda", head_gate=True, full_rank_gate=True, full_rank_decay=True
    ),
    "deepseek_v4": _like(LLAMA, attention="compressed", score_bias=True, hyper_head=True),
    "glm5_next_text": _like(DEEPSEEK, recurrence="kda"),
    "moondream3": _like(
        LAYER_NORM,
        norms=1,
        fused_qkv=True,
        head_bias=True,
        router_bias=True,
        gated_experts=True,
        token_temperatures=True,
    ),
    "florence2": _like(
        LAYER_NORM,
        norms=3,
        positions=2,
        tied=True,
        head_bias=True,
        embedding_norm=True,
        final_norm=False,
        cross_attention=True,
        biased_encoder=True,
    ),
    "t5gemma2": _like(GEMMA, norms=4, qk_norm="head", mirrored_encoder=True),
    "longcat_flash": _like(
        DEEPSEEK, shortcut_experts=True, dense_prediction=True, prediction_matrix="embedding"
    ),
    "mistral_large3": _like(DEEPSEEK, score_bias=False),
    "rwkv7": _like(LLAMA, recurrence="rwkv7", norm_bias=True, embedding_norm=True, gated=False),
    "grok-1": _like(LLAMA, norms=4),
    "mimo_v2_flash": _like(LLAMA, score_bias=True, window_sinks=True),
    "minimax_m2": _like(LLAMA, qk_norm="full", score_bias=True),
    "gpt_oss": _like(LLAMA, qkv_bias=True, o_bias=True, sinks=True, expert_bias=True, router_bias=True),
    **dict.fromkeys(("olmo2", "olmo3"), _like(LLAMA, qk_norm="full", post_norm=True)),
    "olmo_hybrid": _like(LLAMA, qk_norm="full", recurrence="delta-split"),
    "olmoe": _like(LLAMA, qk_norm="full"),
    "olmo": _like(LLAMA, norms=0, final_norm=False),
    **dict.fromkeys(("cohere", "cohere2"), _like(LLAMA, norms=1, tied=True)),
    "exaone4": _like(LLAMA, qk_norm="head", post_norm=True),
    "apertus": _like(LLAMA, qk_norm="head", gated=False, layer_scalars=2),
    "arcee": _like(LLAMA, gated=False),
    "nemotron": _like(LLAMA, norm_bias=True, gated=False),
    "bitnet": _like(LLAMA, activation_norm=True),
    "dots1": _like(QWEN3, score_bias=True),
    "ernie4_5_moe": _like(LLAMA, score_bias=True),
    "solar_open": _like(LLAMA, score_bias=True),
    "hy_v3": _like(QWEN3, score_bias=True),
    "stablelm": _like(LLAMA, norm_bias=True, o_bias=False),
    "starcoder2": LAYER_NORM,
    "opt": _like(LAYER_NORM, positions=2, tied=True),
    "gpt_neox": _like(LAYER_NORM, fused_qkv=True),
    "gptj": _like(LAYER_NORM, norms=1, qkv_bias=False, o_bias=False, head_bias=True),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), _like(LAYER_NORM, fused_qkv=True, positions=0, tied=True)),
    "bloom": _like(LAYER_NORM, fused_qkv=True, embedding_norm=True, tied=True),
    "falcon": _like(
        LAYER_NORM,
        fused_qkv=True,
        qkv_bias=False,
        o_bias=False,
        ffn_bias=False,
        norms=1,
        tied=True,
        grouped_norms=2,
    ),
    "mpt": _like(
        LAYER_NORM, fused_qkv=True, norm_bias=False, qkv_bias=False, o_bias=False, ffn_bias=False, tied=True
    ),
    "lfm2": _like(LLAMA, qk_norm="head", recurrence="conv", tied=True),
    "lfm2_moe": _like(LLAMA, qk_norm="head", recurrence="conv", tied=True, score_bias=True),
    "jamba": _like(LLAMA, recurrence="mamba", dt_norms=True),
    **dict.fromkeys(("mamba", "falcon_mamba"), _like(LLAMA, recurrence="mamba", one_block_layers=True)),
    "mamba2": _like(LLAMA, recurrence="mamba2", one_block_layers=True),
    "nemotron_h": _like(LLAMA, recurrence="mamba2", one_block_layers=True, gated=False, score_bias=True),
    "granitemoehybrid": _like(LLAMA, recurrence="mamba2"),
    "bamba": _like(LLAMA, recurrence="mamba2"),
    "falcon_h1": _like(LLAMA, recurrence="mamba2", parallel_mixers=True, recurrent_norm=False),
    "bert": BERT,
    "distilbert": _like(BERT, token_types=0, pooler=False),
    "roberta": _like(ROBERTA, positions=0),
    "xlm-roberta": _like(ROBERTA, positions=0),
    "nomic_bert": _like(
        BERT,
        fused_qkv=True,
        qkv_bias=False,
        o_bias=False,
        ffn_bias=False,
        gated=True,
        positions=None,
        pooler=False,
    ),
    "nomic-bert-moe": _like(
        BERT, fused_qkv=True, positions=None, token_types=1, pooler=False, down_bias=True
    ),
    "new": _like(
        BERT,
        fused_qkv=True,
        fused_gate_up=True,
        gated=True,
        ffn_bias=False,
        down_bias=True,
        positions=None,
        token_types=1,
        pooler=False,
    ),
    "jina_embeddings_v3": _like(ROBERTA, fused_qkv=True, positions=None, task_adapters=20),
    "mpnet": _like(BERT, token_types=0, position_buckets=32),
    "deberta-v2": _like(BERT, positions=None, token_types=0, relative_positions=512),
    "modernbert": _like(
        LLAMA, fused_qkv=True, fused_gate_up=True, embedding_norm=True, head=False, encoder=True
    ),
    "whisper": _like(LAYER_NORM, norms=3, positions=0, tied=True, cross_attention=True),
}


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
