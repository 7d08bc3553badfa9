"""What llama.cpp calls architectures and their fields, and what the rest of the library calls them.

Read in ``gguf-py/gguf/constants.py`` (package gguf 0.19.0) and ``src/llama-model.cpp`` of
https://github.com/ggml-org/llama.cpp.
"""

from __future__ import annotations

__all__ = ["ARCHITECTURES", "KEYS", "STATE_SPACE_KEYS", "WINDOWED"]

ARCHITECTURES: dict[str, str] = {
    **{
        name: name
        for name in ("llama", "falcon", "baichuan", "gpt2", "gptj", "mpt", "bert", "bloom", "stablelm")
    },
    **{name: name for name in ("qwen", "qwen2", "qwen3", "phi3", "phimoe", "orion", "internlm2", "minicpm")},
    **{
        name: name
        for name in ("minicpm3", "gemma", "gemma2", "starcoder2", "mamba", "mamba2", "jamba", "xverse")
    },
    **{
        name: name for name in ("cohere2", "olmo", "olmo2", "olmoe", "deepseek", "glm4", "bitnet", "nemotron")
    },
    **{name: name for name in ("nemotron_h", "exaone", "exaone4", "granite", "granitemoe", "dots1", "arcee")},
    **{name: name for name in ("ernie4_5", "smollm3", "lfm2", "seed_oss", "apertus")},
    "llama4": "llama4_text",
    "llama-embed": "llama",
    "gptneox": "gpt_neox",
    "starcoder": "gpt_bigcode",
    "modern-bert": "modernbert",
    "nomic-bert": "nomic_bert",
    "qwen2moe": "qwen2_moe",
    "qwen2vl": "qwen2_vl_text",
    "qwen3moe": "qwen3_moe",
    "qwen3next": "qwen3_next",
    "qwen3vl": "qwen3_vl_text",
    "qwen3vlmoe": "qwen3_vl_moe_text",
    "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text",
    "phi2": "phi",
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "gemma-embedding": "gemma3_text",
    "command-r": "cohere",
    "deepseek2": "deepseek_v2",
    "glm4moe": "glm4_moe",
    "glm-dsa": "glm_moe_dsa",
    "deepseek32": "deepseek_v32",
    "hy_v3": "hy_v3",
    "nemotron_h_moe": "nemotron_h",
    "granitehybrid": "granitemoehybrid",
    "ernie4_5-moe": "ernie4_5_moe",
    "falcon-h1": "falcon_h1",
    "hunyuan-dense": "hunyuan_v1_dense",
    "hunyuan-moe": "hunyuan_v1_moe",
    "gpt-oss": "gpt_oss",
    "lfm2moe": "lfm2_moe",
    "minimax-m2": "minimax_m2",
    "mistral3": "ministral3",
}
# Where llama.cpp applies the window; it ignores the key for other architectures (`llama-model.cpp`).
WINDOWED = frozenset(
    {
        "gemma2",
        "gemma3",
        "gemma3n",
        "gemma4",
        "gemma-embedding",
        "cohere2",
        "gpt-oss",
        "olmo2",
        "exaone4",
        "modern-bert",
    }
)
KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "rope.scaling.factor": "rope_factor",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "n_shared_experts",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "leading_dense_block_count": "first_k_dense_replace",
    "moe_every_n_layers": "moe_layer_interval",
    "moe_latent_size": "moe_latent_size",
    "nextn_predict_layers": "num_nextn_predict_layers",
    "attention.kv_lora_rank": "kv_lora_rank",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.indexer.head_count": "index_n_heads",
    "attention.indexer.key_length": "index_head_dim",
    "attention.indexer.top_k": "index_topk",
    "attention.shared_kv_layers": "num_kv_shared_layers",
    "embedding_length_per_layer_input": "hidden_size_per_layer_input",
    "shortconv.l_cache": "mamba_d_conv",
    "full_attention_interval": "full_attention_interval",
}
STATE_SPACE_KEYS = {
    "ssm.conv_kernel": "mamba_d_conv",
    "ssm.inner_size": "mamba_d_ssm",
    "ssm.state_size": "mamba_d_state",
    "ssm.group_count": "mamba_n_groups",
}
