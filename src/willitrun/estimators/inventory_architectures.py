"""The architectures: one row per ``model_type``, of what its block adds to, or leaves out of, the plain Llama block.

Read in the modelling code of https://github.com/huggingface/transformers and checked against published
parameter counts (see ``accuracy/memory``). What the fields mean says `inventory_traits.Traits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["TRAITS"]

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
