"""From GGUF metadata to a transformer's fields.

Keys as written by llama.cpp's converter: ``gguf-py/gguf/constants.py`` of
https://github.com/ggml-org/llama.cpp (package gguf 0.19.0), class ``Keys``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from willitrun.checkpoints.ggml_types import FILE_TYPES, TENSOR_TYPES_OF
from willitrun.checkpoints.gguf import GgufTensor, LongArray, MetadataValue
from willitrun.checkpoints.gguf_architectures import ARCHITECTURES, KEYS, STATE_SPACE_KEYS, WINDOWED
from willitrun.checkpoints.gguf_metadata import ArchitectureMetadata
from willitrun.checkpoints.json_reading import shown
from willitrun.checkpoints.text_configs import read_text_config
from willitrun.errors import CorruptCheckpointError, UnsupportedArchitectureError
from willitrun.records.models import TransformerConfig

__all__ = ["read_gguf_config", "stored_mix"]

_DELTA_NETS = frozenset({"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"})
_BLOCK = re.compile(r"^blk\.(\d{1,5})\.(\w+)")


def read_gguf_config(
    metadata: Mapping[str, MetadataValue], tensors: Sequence[GgufTensor], what: str
) -> TransformerConfig:
    """The architecture that metadata and tensor names describe.

    Raises
    ------
    UnsupportedArchitectureError
        An architecture that is not known, or layers that differ in a way that is not known.
    CorruptCheckpointError
        A needed key is missing or out of range.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise CorruptCheckpointError(f"{what} does not give general.architecture.", code="missing-key")
    if architecture == "clip":
        raise UnsupportedArchitectureError(
            f"{what} is a projector (mmproj), not a model.", hint="Describe the language model's own file."
        )
    model_type = ARCHITECTURES.get(architecture)
    if model_type is None:
        raise UnsupportedArchitectureError(
            f"{what}: the GGUF architecture {shown(architecture)} is not known."
        )
    source = ArchitectureMetadata(metadata, architecture, what)
    names = _names_by_layer(tensors)
    blocks = source.number("block_count")
    ahead = source.number("nextn_predict_layers") or 0
    if type(blocks) is not int or type(ahead) is not int or not 0 <= ahead < blocks <= 4096:
        raise CorruptCheckpointError(f"{what}: {architecture}.block_count is {shown(blocks)}.")
    layers = blocks - ahead
    model_type = _refined(model_type, source, names)
    config: dict[str, Any] = {
        "num_hidden_layers": layers,
        "vocab_size": _vocabulary(source, metadata, tensors),
    }
    for key, name in {**KEYS, **({} if model_type in _DELTA_NETS else STATE_SPACE_KEYS)}.items():
        value = source.number(key)
        if value is not None:
            config[name] = value
    if "rope_factor" in config:
        config["rope_scaling"] = {"factor": config.pop("rope_factor")}
    config["tie_word_embeddings"] = not any(tensor.name == "output.weight" for tensor in tensors)
    if model_type == "gemma4_text":
        config["enable_moe_block"] = bool(config.get("num_experts"))
    if architecture in WINDOWED:
        window = source.number("attention.sliding_window")
        # llama.cpp's own default for files from before the key (`src/models/gemma2.cpp`).
        window = 4096 if window is None and architecture == "gemma2" else window
        config["sliding_window"] = config["local_attention"] = window
        # One number is the period, a list says it layer by layer (see _kinds).
        if not isinstance(source.get("attention.sliding_window_pattern"), tuple):
            config["sliding_window_pattern"] = source.number("attention.sliding_window_pattern")
    if architecture == "llama4" and source.number("attention.sliding_window") == 0:
        config["layer_types"] = ["full_attention"] * layers
    kinds = _kinds(model_type, source, names, layers)
    if kinds is not None:
        config["layer_types"] = list(kinds)
    config |= _widths(model_type, source, layers)
    config |= _recurrence(model_type, source)
    if config.get("num_experts") and model_type != "nemotron_h":
        config |= _routed_layers(names, layers, what)
    found = read_text_config(config, model_type, what, outer={}, defaults={})
    update = _heads(found, source, layers)
    if architecture == "gemma-embedding" or source.get("attention.causal") is False:
        # Reads both ways, so nothing is cached.
        update["is_encoder_only"] = True
    return TransformerConfig(**{**found.model_dump(), **update})


def _refined(model_type: str, source: ArchitectureMetadata, names: Mapping[int, set[str]]) -> str:
    """Tell apart what GGUF writes under one name."""
    if model_type == "llama" and source.number("expert_count"):
        return "mixtral"
    if model_type == "deepseek_v2" and any("exp_probs_b" in layer for layer in names.values()):
        return "deepseek_v3"
    if model_type == "olmo2" and source.number("attention.sliding_window"):
        return "olmo3"
    return model_type


def _names_by_layer(tensors: Sequence[GgufTensor]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for tensor in tensors:
        if match := _BLOCK.match(tensor.name):
            found.setdefault(int(match[1]), set()).add(match[2])
    return found


def _vocabulary(
    source: ArchitectureMetadata, metadata: Mapping[str, MetadataValue], tensors: Sequence[GgufTensor]
) -> int | float | None:
    # The matrix decides: it may be padded beyond the tokens that the tokenizer knows.
    for tensor in tensors:
        if tensor.name == "token_embd.weight" and len(tensor.shape) == 2:
            return tensor.shape[1]
    if (stated := source.number("vocab_size")) is not None:
        return stated
    tokens = metadata.get("tokenizer.ggml.tokens")
    return tokens.length if isinstance(tokens, LongArray) else None


def _kinds(
    model_type: str, source: ArchitectureMetadata, names: Mapping[int, set[str]], layers: int
) -> tuple[str, ...] | None:
    """Layer kinds where tensors or metadata name them; None leaves them to the architecture's rule."""
    pattern = source.get("attention.sliding_window_pattern")
    if isinstance(pattern, tuple) and len(pattern) >= layers:
        return tuple("sliding_attention" if item else "full_attention" for item in pattern[:layers])
    recurrent = {"lfm2": "conv", "lfm2_moe": "conv"}.get(model_type, "mamba")
    recurrent = "linear_attention" if model_type in _DELTA_NETS else recurrent
    kinds: list[str] = []
    for layer in range(layers):
        has = names.get(layer, set())
        mixes = any(name.startswith(("ssm_", "shortconv")) for name in has)
        attends = bool(has & {"attn_q", "attn_k", "attn_q_a"}) or ("attn_qkv" in has and not mixes)
        if mixes and not attends:
            kinds.append(recurrent)
        elif model_type == "nemotron_h" and not attends:
            kinds.append("moe" if "ffn_up_exps" in has else "mlp")
        else:
            kinds.append("full_attention")
    if names and (model_type == "nemotron_h" or any(kind != "full_attention" for kind in kinds)):
        return tuple(kinds)
    return None


def _routed_layers(names: Mapping[int, set[str]], layers: int, what: str) -> dict[str, int]:
    """Which layers are mixtures, by the layers that have a router."""
    routed = [layer for layer in range(layers) if "ffn_gate_inp" in names.get(layer, ())]
    if not routed:
        return {}
    step = routed[1] - routed[0] if len(routed) > 1 else 1
    first = routed[0] - step + 1
    if first < 0 or routed != list(range(routed[0], layers, step)):
        raise UnsupportedArchitectureError(f"{what}: mixture layers follow no pattern that is known.")
    return {"first_k_dense_replace": first, "moe_layer_interval": step}


def _widths(model_type: str, source: ArchitectureMetadata, layers: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    widths = source.per_layer("feed_forward_length", layers)
    if widths and any(widths):
        stated = [width for width in widths if width]
        # Gemma 3n and 4 double the width of layers that share a cache; elsewhere widths must agree.
        if len(set(stated)) > 1 and not (model_type.startswith("gemma") and max(stated) == 2 * min(stated)):
            raise UnsupportedArchitectureError(f"{source.what}: feed-forward widths differ between layers.")
        found["intermediate_size"] = min(stated)
        found["use_double_wide_mlp"] = len(set(stated)) > 1
    if model_type == "llama4_text":
        found["intermediate_size_mlp"] = found.get("intermediate_size")
        found["intermediate_size"] = source.number("expert_feed_forward_length")
        found["moe_layer_interval"] = source.number("interleave_moe_layer_step") or 1
        found["attention_chunk_size"] = source.number("attention.chunk_size") or 8192
    if source.number("attention.kv_lora_rank"):
        key = source.number("attention.key_length_mla") or source.number("attention.key_length")
        rope = source.number("rope.dimension_count")
        if not isinstance(key, int) or not isinstance(rope, int) or key <= rope:
            raise CorruptCheckpointError(f"{source.what}: key length {key} and rope dimensions {rope}.")
        found["qk_rope_head_dim"], found["qk_nope_head_dim"] = rope, key - rope
        value = source.number("attention.value_length_mla") or source.number("attention.value_length")
        found["v_head_dim"] = value
    return found | _head_counts(source, layers)


def _head_counts(source: ArchitectureMetadata, layers: int) -> dict[str, Any]:
    heads = source.per_layer("attention.head_count", layers) or ()
    kv_heads = source.per_layer("attention.head_count_kv", layers) or heads
    key = source.number("attention.key_length_swa") or source.number("attention.key_length")
    found: dict[str, Any] = {"head_dim": key}
    queries = {count for count in heads if count}
    if len(queries) > 1:
        raise UnsupportedArchitectureError(f"{source.what}: layers differ in their number of query heads.")
    if queries:
        found["num_attention_heads"] = queries.pop()
    if any(kv_heads):
        found["num_key_value_heads"] = next(count for count in kv_heads if count)
    return found


def _heads(config: TransformerConfig, source: ArchitectureMetadata, layers: int) -> dict[str, Any]:
    """Key-value heads and widths of full-attention layers where they differ from the sliding ones."""
    counts = source.per_layer("attention.head_count_kv", layers)
    found: dict[str, Any] = {}
    local, swa = source.number("attention.key_length"), source.number("attention.key_length_swa")
    if swa is not None and local != swa:
        found["global_head_dim"] = local
    if counts is None:
        return found
    by_kind: dict[str, set[int]] = {}
    for layer, count in enumerate(counts):
        if count:
            by_kind.setdefault(config.layer_type(layer), set()).add(count)
    if any(len(values) > 1 for values in by_kind.values()):
        raise UnsupportedArchitectureError(f"{source.what}: layers of one kind differ in their KV heads.")
    full, sliding = by_kind.get("full_attention"), by_kind.get("sliding_attention")
    if full and sliding and full != sliding:
        found["num_key_value_heads"] = next(iter(sliding))
        found["num_global_key_value_heads"] = next(iter(full))
    return found


def _recurrence(model_type: str, source: ArchitectureMetadata) -> dict[str, Any]:
    if model_type in _DELTA_NETS:
        # The converter writes the delta net under the names of a state space model.
        heads, inner = source.number("ssm.time_step_rank"), source.number("ssm.inner_size")
        width = inner // heads if isinstance(heads, int) and isinstance(inner, int) and heads > 0 else None
        return {
            "linear_conv_kernel_dim": source.number("ssm.conv_kernel"),
            "linear_key_head_dim": source.number("ssm.state_size"),
            "linear_num_key_heads": source.number("ssm.group_count"),
            "linear_num_value_heads": heads,
            "linear_value_head_dim": width,
        }
    rank = source.number("ssm.time_step_rank")
    if rank is None:
        return {}
    # Mamba-2 has one time step per head, so the converter stores the number of heads there.
    return {"mamba_dt_rank" if model_type in ("mamba", "jamba") else "mamba_num_heads": rank}


def stored_mix(metadata: Mapping[str, MetadataValue], tensors: Sequence[GgufTensor]) -> tuple[str, str]:
    """Name of the quantization mix, and a doubt about it where tensors and ``general.file_type`` disagree."""
    weights: dict[str, int] = {}
    for tensor in tensors:
        if len(tensor.shape) > 1:
            weights[tensor.type_name] = weights.get(tensor.type_name, 0) + tensor.elements
    most = max(weights, key=weights.__getitem__, default="f32")
    number = metadata.get("general.file_type")
    # Bit 1024 marks a type that llama.cpp guessed from the tensors.
    name = FILE_TYPES.get(number & ~1024) if type(number) is int and number >= 0 else None
    if name is None:
        guessed = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}.get(most, most)
        return (
            guessed,
            f"quantization: general.file_type is {shown(number)}; named after most weights ({most})",
        )
    if weights and most not in TENSOR_TYPES_OF.get(name, (name,)):
        return name, f"quantization: general.file_type says {name}, but most weights are {most}"
    return name, ""
