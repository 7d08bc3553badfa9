"""Work terms of a model from a record of ``models.jsonl``: parameters by class, bytes by format, cache, state."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Arch = Mapping[str, Any]

#: Bits per weight of (dense body, routed experts, output matrix, token_embd), for formats whose files do not
#: state a size. GGUF mixes follow the quantiser's tensor-type rules; block sizes are those of METHOD 1.1.
BITS: dict[str, tuple[float, float, float, float]] = {
    "f32": (32.0, 32.0, 32.0, 32.0),
    "f16": (16.0, 16.0, 16.0, 16.0),
    "q8_0": (8.5, 8.5, 8.5, 8.5),
    "q6_k": (6.5625, 6.5625, 6.5625, 6.5625),
    "q5_k": (5.68, 5.68, 6.5625, 5.5),
    "q5_0": (5.5, 5.5, 6.5625, 5.5),
    "q4_k": (4.83, 4.83, 6.5625, 4.5),
    "q4_k_s": (4.57, 4.57, 6.5625, 4.5),
    "q4_0": (4.5, 4.5, 6.5625, 4.5),
    "q4_1": (5.0, 5.0, 6.5625, 5.0),
    "iq4": (4.36, 4.36, 6.5625, 4.25),
    "q3_k": (3.91, 3.91, 6.5625, 3.4375),
    "q3_k_l": (4.27, 4.27, 6.5625, 3.4375),
    "iq3": (3.5, 3.5, 6.5625, 3.44),
    "q2_k": (3.0, 3.0, 6.5625, 2.625),
    "iq2": (2.5, 2.5, 5.5, 2.625),
    "iq1": (2.0, 1.9, 5.5, 2.625),
    "mxfp4": (8.5, 4.25, 8.5, 8.5),
    "nvfp4": (4.5, 4.5, 16.0, 16.0),
    "int4": (4.25, 4.25, 16.0, 16.0),
    "int3": (3.25, 3.25, 16.0, 16.0),
    "int8": (8.0, 8.0, 16.0, 16.0),
    "fp8": (8.0, 8.0, 16.0, 16.0),
    "mlx4": (4.5, 4.5, 4.5, 4.5),
    "mlx5": (5.5, 5.5, 5.5, 5.5),
    "mlx6": (6.5, 6.5, 6.5, 6.5),
    "mlx8": (8.5, 8.5, 8.5, 8.5),
}

_SPELLINGS: tuple[tuple[str, str, str], ...] = (
    # pattern on the lower-case quantization of the data, key of BITS, quantization id for the format class
    (r"^(all )?f(p)?32", "f32", "f32"),
    (r"mlx.*(8|q8)", "mlx8", "int8"),
    (r"mlx-q6", "mlx6", "int8"),
    (r"mlx-q5", "mlx5", "int4"),
    (r"mlx-bf16|^(gguf-)?(b?f16|fp16|bf16).*", "f16", "f16"),
    (r"mlx", "mlx4", "int4"),
    (r"mxfp4", "mxfp4", "mxfp4"),
    (r"nvfp4|^fp4", "nvfp4", "nvfp4"),
    (r"fp8", "fp8", "fp8"),
    (r"iq4_nl", "iq4", "iq4_nl"),
    (r"iq4", "iq4", "iq4_xs"),
    (r"iq3", "iq3", "iq3_s"),
    (r"iq2|2bit", "iq2", "iq2_s"),
    (r"iq1|w2", "iq1", "iq1_s"),
    (r"q8_(k|0)|q8_k_xl", "q8_0", "q8_0"),
    (r"q6_k", "q6_k", "q6_k"),
    (r"q5_k", "q5_k", "q5_k_m"),
    (r"q5_[01]", "q5_0", "q5_0"),
    (r"q4_k_s|q4_k - small", "q4_k_s", "q4_k_s"),
    (r"q4_k", "q4_k", "q4_k_m"),
    (r"q4_0", "q4_0", "q4_0"),
    (r"q4_1", "q4_1", "q4_1"),
    (r"q3_k_l|q3_k_xl|q3_k - large", "q3_k_l", "q3_k_l"),
    (r"q3_k", "q3_k", "q3_k_m"),
    (r"q2_k", "q2_k", "q2_k"),
    (r"exl2 (2|3)", "int3", "int4"),
    (r"w8a8|int8-cw|^int8|8bit", "int8", "int8"),
    (r"int4|w4|awq|gptq|exl2|q4f16|4.?bit", "int4", "int4"),
)

#: Names under which the measurements know a model whose record carries another spelling of the same architecture.
ALIASES: dict[str, str] = {
    "meta-llama/Meta-Llama-3-8B": "meta-llama/Meta-Llama-3-8B-Instruct",
    "meta-llama/Meta-Llama-3-70B": "meta-llama/Meta-Llama-3-70B-Instruct",
    "meta-llama/Llama-3.1-70B": "meta-llama/Llama-3.1-70B-Instruct",
    "meta-llama/Llama-2-70b-hf": "meta-llama/Llama-2-70b-chat-hf",
    "mistralai/Mistral-7B-v0.1": "mistralai/Mistral-7B-Instruct-v0.1",
    "mistralai/Mixtral-8x7B-v0.1": "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "Qwen/Qwen2-7B": "Qwen/Qwen2-7B-Instruct",
    "huggyllama/llama-7b": "meta-llama/Llama-2-7b-hf",
    "lmsys/vicuna-7b-v1.5": "meta-llama/Llama-2-7b-hf",
    "huggyllama/llama-13b": "meta-llama/Llama-2-13b-hf",
    "codellama/CodeLlama-13b-hf": "meta-llama/Llama-2-13b-hf",
    "shisa-ai/shisa-v2-llama3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    "shisa-ai/shisa-v2-unphi4-14b": "microsoft/phi-4",
    "OmniCoder-9B": "Qwen/Qwen3.5-9B",
    "Qwen/Qwen3-235B-A22B-FP8": "Qwen/Qwen3-235B-A22B",
    "nvidia/DeepSeek-R1-NVFP4": "deepseek-ai/DeepSeek-R1",
    "zhipuai/GLM-5": "zai-org/GLM-5",
}


def load_models(path: Path) -> dict[str, dict[str, Any]]:
    """Return the language models by id, lower-cased, and by their aliases."""
    records: dict[str, dict[str, Any]] = {}
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            record = json.loads(line)
            records[record["id"].lower()] = record
    for name in list(records):
        if name.endswith("-bf16"):
            records.setdefault(name.removesuffix("-bf16"), records[name])
    for alias, name in ALIASES.items():
        if name.lower() in records:
            records.setdefault(alias.lower(), records[name.lower()])
    return records


def read_quantization(text: str) -> tuple[str, str] | None:
    """Return the key of `BITS` and a quantization id for a spelling found in the data.

    >>> read_quantization("UD-Q4_K_XL"), read_quantization("fp16/bf16"), read_quantization("INT4-MIXED")
    (('q4_k', 'q4_k_m'), ('f16', 'f16'), ('int4', 'int4'))
    """
    lowered = text.strip().lower().removeprefix("gguf ").removeprefix("gguf-")
    for pattern, key, identifier in _SPELLINGS:
        if re.search(pattern, lowered):
            return key, identifier
    return None


def count_layers(arch: Arch) -> dict[str, int]:
    """Return how many layers there are of each kind: full, windowed, linear, ssm, moe, all."""
    total = int(arch["n_layers"])
    types = arch.get("layer_types") or {}
    if "*" in types:  # hybrid pattern letters: attention, Mamba, experts, feed-forward
        return {
            "all": total,
            "full": int(types["*"]),
            "windowed": 0,
            "linear": 0,
            "ssm": int(types.get("M", 0)),
            "moe": int(types.get("E", 0)),
            "ffn": int(types.get("-", 0)),
        }
    full = int(types.get("full_attention", 0))
    windowed = int(types.get("sliding_attention", 0))
    linear = int(types.get("linear_attention", 0))
    if not types:
        interval = arch.get("full_attention_interval")
        pattern = arch.get("sliding_window_pattern")
        if arch.get("linear_attention") and interval:
            full = total // int(interval)
            linear = total - full
        elif pattern and arch.get("sliding_window"):
            full = total // int(pattern)
            windowed = total - full
        elif arch.get("sliding_window") and not arch.get("sliding_window_disabled"):
            windowed = total
        else:
            full = total
    moe = arch.get("moe") or {}
    moe_layers = total - int(moe.get("first_k_dense_replace") or 0) if moe.get("n_experts") else 0
    return {
        "all": total,
        "full": full,
        "windowed": windowed,
        "linear": linear,
        "ssm": 0,
        "moe": moe_layers,
        "ffn": total - moe_layers,
    }


def _vision_params(arch: Arch) -> float:
    vision = arch.get("vision") or {}
    width = float(vision.get("hidden_size") or 0)
    depth = float(vision.get("num_hidden_layers") or vision.get("depth") or 0)
    return depth * (4 * width * width + 2 * width * float(vision.get("intermediate_size") or 4 * width))


def count_parameters(record: Mapping[str, Any]) -> dict[str, float]:
    """Return parameters of the text model by class: dense body, routed experts, embedding, and whether tied."""
    arch: Arch = record["arch"]
    layers = count_layers(arch)
    hidden = float(arch["hidden_size"])
    heads = float(arch["n_heads"])
    kv_heads = float(arch.get("n_kv_heads") or heads)
    head_dim = float(arch.get("head_dim") or hidden / heads)
    moe = arch.get("moe") or {}
    linear = arch.get("linear_attention") or {}
    ssm = arch.get("ssm") or {}
    mla = arch.get("mla") or {}
    embedding = float(arch["vocab_size"]) * hidden

    if mla:
        rank, rope = float(mla["kv_lora_rank"]), float(mla["qk_rope_head_dim"])
        nope, value = float(mla["qk_nope_head_dim"]), float(mla["v_head_dim"])
        query_rank = float(mla.get("q_lora_rank") or 0)
        query = (
            (hidden + heads * (nope + rope)) * query_rank if query_rank else hidden * heads * (nope + rope)
        )
        attention = query + hidden * (rank + rope) + rank * heads * (nope + value) + heads * value * hidden
        full_attention = windowed_attention = attention
    else:
        gate = 2.0 if linear else 1.0  # the gated attention of these hybrids doubles the query projection
        windowed_attention = hidden * head_dim * ((1 + gate) * heads + 2 * kv_heads)
        wide = float(arch.get("global_head_dim") or head_dim)
        wide_kv = float(arch.get("num_global_key_value_heads") or kv_heads)
        copies = 1.0 if arch.get("attention_k_eq_v") else 2.0
        full_attention = hidden * wide * ((1 + gate) * heads + copies * wide_kv)
    body = layers["full"] * full_attention + layers["windowed"] * windowed_attention
    if linear:
        key = float(linear["linear_num_key_heads"]) * float(linear["linear_key_head_dim"])
        value = float(linear["linear_num_value_heads"]) * float(linear["linear_value_head_dim"])
        body += (
            layers["linear"] * hidden * (2 * key + 3 * value + 2 * float(linear["linear_num_value_heads"]))
        )
    if ssm:
        inner = float(ssm["mamba_num_heads"]) * float(ssm["mamba_head_dim"])
        groups = 2 * float(ssm["n_groups"]) * float(ssm["ssm_state_size"])
        body += layers["ssm"] * hidden * (3 * inner + groups + float(ssm["mamba_num_heads"]))
    if arch.get("num_kv_shared_layers"):
        body -= float(arch["num_kv_shared_layers"]) * hidden * head_dim * 2 * kv_heads

    total = float(record.get("params_from_config") or record.get("params_total") or 0.0)
    experts_count = float(moe.get("n_experts") or 0)
    expert_width = float(moe.get("moe_intermediate_size") or arch.get("intermediate_size") or 0)
    matrices = 3.0
    experts = matrices * hidden * expert_width * experts_count * layers["moe"]
    if total and experts > 1.02 * total:
        matrices, experts = 2.0, experts * 2.0 / 3.0  # ungated experts
    if total and experts > 1.02 * total:
        experts = total - body - 2 * embedding  # experts that work in a narrower latent space
    intermediate = float(arch.get("intermediate_size") or 0)
    ffn_matrices = (
        2.0 if arch.get("model_type") in {"phi-msft", "nemotron_h", "falcon", "gptj", "mpt"} else 3.0
    )
    ffn_layers = layers["ffn"]
    if arch.get("model_type", "").startswith("gemma4") and moe:
        ffn_layers = layers["all"]  # a dense branch beside the experts
    body += ffn_layers * ffn_matrices * hidden * intermediate
    if arch.get("use_double_wide_mlp"):
        body += float(arch.get("num_kv_shared_layers") or 0) * ffn_matrices * hidden * intermediate
    shared = float(moe.get("shared_expert_intermediate_size") or 0) or (
        expert_width * float(moe.get("n_shared_experts") or 0)
    )
    body += layers["moe"] * hidden * (matrices * shared + experts_count)
    per_layer = float(arch.get("hidden_size_per_layer_input") or 0)
    body += layers["all"] * 3 * hidden * per_layer

    tied = arch.get("tie_embeddings")
    rest = total - _vision_params(arch) - body - experts
    if tied is None:
        tied = str(arch.get("model_type", record["id"])).startswith(("gemma", "google/gemma")) or (
            total > 0 and abs(rest - embedding) < abs(rest - 2 * embedding)
        )
    # A body that the closed form cannot explain (unusual layers) is what remains of the published total.
    remainder = total - _vision_params(arch) - experts - embedding * (1 if tied else 2)
    unexplained = total > 0 and not per_layer and abs(remainder - body) > 0.15 * (body + 0.02 * total)
    if unexplained and remainder > 0:
        body = remainder
    return {"dense": body, "experts": experts, "embedding": embedding, "tied": float(bool(tied))}


def describe_work(
    record: Mapping[str, Any],
    bits_key: str,
    *,
    stated_bytes: float | None = None,
    kv_bytes_per_value: float = 2.0,
    mixed_precision_experts: bool = False,
) -> dict[str, float]:
    """Return the fields of `willitrun.kernels.llm_inputs.LlmWork` for a model at a format.

    A stated file size scales the body (dense and experts) so that the file adds up; the output matrix and the
    token embedding keep the format's own types.
    """
    arch: Arch = record["arch"]
    params = count_parameters(record)
    layers = count_layers(arch)
    dense_bits, expert_bits, head_bits, embedding_bits = BITS[bits_key]
    if mixed_precision_experts:
        dense_bits = 16.0
    dense = params["dense"] * dense_bits / 8
    experts = params["experts"] * expert_bits / 8
    head = params["embedding"] * head_bits / 8
    embedding = 0.0 if params["tied"] else params["embedding"] * embedding_bits / 8
    per_layer = float(arch.get("hidden_size_per_layer_input") or 0)
    lookup = (
        float(arch.get("vocab_size_per_layer_input") or 0) * per_layer * layers["all"] * embedding_bits / 8
    )
    if stated_bytes:
        scale = (stated_bytes - head - embedding - lookup) / max(dense + experts, 1.0)
        if 0.6 < scale < 1.7:
            dense, experts = dense * scale, experts * scale

    hidden, heads = float(arch["hidden_size"]), float(arch["n_heads"])
    kv_heads = float(arch.get("n_kv_heads") or heads)
    head_dim = float(arch.get("head_dim") or hidden / heads)
    moe = arch.get("moe") or {}
    mla = arch.get("mla") or {}
    linear = arch.get("linear_attention") or {}
    ssm = arch.get("ssm") or {}
    wide = float(arch.get("global_head_dim") or head_dim)
    wide_kv = float(arch.get("num_global_key_value_heads") or kv_heads)
    if mla:
        latent = float(mla["kv_lora_rank"]) + float(mla["qk_rope_head_dim"])
        width = heads * (latent + float(mla["kv_lora_rank"])) / 2
        prefill = (
            heads
            * (float(mla["qk_nope_head_dim"]) + float(mla["qk_rope_head_dim"]) + float(mla["v_head_dim"]))
            / 2
        )
        kv_full = latent * kv_bytes_per_value
        kv_heads = 1.0
    else:
        width = prefill = heads * wide
        kv_full = 2 * wide_kv * wide * kv_bytes_per_value
    shared_share = 1.0 - float(arch.get("num_kv_shared_layers") or 0) / layers["all"]
    state = 0.0
    if linear:
        state = (
            layers["linear"]
            * 4.0
            * (
                float(linear["linear_num_value_heads"])
                * float(linear["linear_key_head_dim"])
                * float(linear["linear_value_head_dim"])
            )
        )
    if ssm:
        inner = float(ssm["mamba_num_heads"]) * float(ssm["mamba_head_dim"])
        state = layers["ssm"] * 4.0 * inner * float(ssm["ssm_state_size"])
    routed = float(moe.get("n_experts") or 0) > 0 and params["experts"] > 0
    return {
        "dense_bytes": dense,
        "lm_head_bytes": head,
        "expert_bytes": experts,
        "n_experts": float(moe["n_experts"]) if routed else 1.0,
        "n_experts_used": float(moe.get("experts_per_token") or 1) if routed else 1.0,
        "n_layers": float(layers["all"]),
        "n_moe_layers": float(layers["moe"]) if routed else 0.0,
        "dense_params": params["dense"],
        "lm_head_params": params["embedding"],
        "expert_params": params["experts"],
        "attention_width": layers["full"] * width,
        "prefill_attention_width": layers["full"] * prefill,
        "windowed_width": layers["windowed"] * heads * head_dim,
        "window_tokens": float(arch.get("sliding_window") or 1 << 30),
        "kv_bytes_per_token": layers["full"] * kv_full * (1.0 if mla else shared_share),
        "windowed_kv_bytes_per_token": layers["windowed"]
        * 2
        * kv_heads
        * head_dim
        * kv_bytes_per_value
        * shared_share,
        "state_bytes": 2.0 * state,  # read and written each step
        "kv_heads": kv_heads,
        "hidden_size": hidden,
    }
