"""Draft a model record from a Hugging Face ``config.json``, for a person to review.

Usage::

    python catalogs/tools/draft_model.py CONFIG --repository OWNER/NAME --source ID [--at PLACE]

The draft goes to standard output as TOML. What a ``config.json`` does not say (parameter count, licence,
release date) is left out; add it with a source of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["draft_record", "draft_transformer", "model_id", "render_toml", "shortest_cycle"]

# Our field (the config.json name of most models) and the names that other families give it.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "num_hidden_layers": ("n_layer", "num_layers", "n_layers", "decoder_layers"),
    "hidden_size": ("n_embd", "d_model", "dim"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size", "d_ff", "hidden_dim"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("n_head_kv", "num_kv_heads", "n_kv_heads", "multi_query_group_num"),
    "head_dim": ("attention_head_dim", "kv_channels"),
    "vocab_size": ("padded_vocab_size",),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len", "seq_length", "max_sequence_length"),
    "hidden_act": ("hidden_activation", "activation_function", "mlp_hidden_act"),
    "attention_bias": (),
    "sliding_window": (),
    "attention_chunk_size": (),
    "global_head_dim": (),
    "num_global_key_value_heads": (),
    "num_kv_shared_layers": (),
    "hidden_size_per_layer_input": (),
    "vocab_size_per_layer_input": (),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": (
        "moe_topk",
        "moe_k",
        "top_k_experts",
        "num_experts_per_token",
        "experts_per_token",
    ),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "moe_ffn_hidden_size"),
    "n_shared_experts": ("num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    "shared_expert_intermediate_size": ("moe_shared_expert_intermediate_size", "shared_intermediate_size"),
    "first_k_dense_replace": ("moe_layer_start_index", "num_dense_layers"),
    "moe_layer_interval": ("decoder_sparse_step", "interleave_moe_layer_step"),
    "moe_latent_size": (),
    "kv_lora_rank": (),
    "q_lora_rank": (),
    "qk_rope_head_dim": (),
    "qk_nope_head_dim": (),
    "v_head_dim": (),
    "index_head_dim": (),
    "index_n_heads": (),
    "index_topk": (),
    "linear_num_key_heads": (),
    "linear_num_value_heads": (),
    "linear_key_head_dim": (),
    "linear_value_head_dim": (),
    "linear_conv_kernel_dim": ("conv_L_cache",),
    "mamba_d_conv": ("conv_kernel",),
    "mamba_d_inner": ("mamba_d_ssm",),
    "mamba_d_state": ("ssm_state_size", "state_size"),
    "mamba_n_groups": ("n_groups",),
    "mamba_num_heads": ("mamba_n_heads",),
    "mamba_dt_rank": ("time_step_rank",),
    "num_nextn_predict_layers": ("mtp_num_hidden_layers", "num_mtp_modules"),
}
SWITCHES = ("tie_word_embeddings", "attention_k_eq_v", "use_double_wide_mlp")
LAYER_NAMES = {
    "attention": "full_attention",
    "full_attention": "full_attention",
    "deepseek_sparse_attention": "full_attention",
    "global": "full_attention",
    "sliding_attention": "sliding_attention",
    "sliding_window": "sliding_attention",
    "chunked_attention": "chunked_attention",
    "linear_attention": "linear_attention",
    "mamba": "mamba",
    "conv": "conv",
    "moe": "moe",
    "mlp": "mlp",
    "M": "mamba",
    "*": "full_attention",
    "-": "mlp",
    "E": "moe",
}
TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
SHORT = re.compile(r"-(?:instruct|inst|it|chat|hf|bf16|pt|v01)(?=-|$)")


def shortest_cycle(layers: Sequence[str]) -> tuple[str, ...]:
    """The shortest pattern that repeats into ``layers``.

    >>> shortest_cycle(["a", "b", "a", "b", "a"])
    ('a', 'b')
    """
    for length in range(1, len(layers) + 1):
        if all(kind == layers[index % length] for index, kind in enumerate(layers)):
            return tuple(layers[:length])
    return tuple(layers)


def model_id(repository: str) -> str:
    """A short id from a repository name: no owner, no suffix for the tuning.

    >>> model_id("meta-llama/Llama-3.1-8B-Instruct")
    'llama-3.1-8b'
    """
    name = repository.rpartition("/")[2].lower().replace("_", "-")
    return SHORT.sub("", re.sub(r"^(?:meta|nvidia|c4ai)-", "", name))


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in TEXT_PARTS:
        part = config.get(name)
        if isinstance(part, Mapping) and len(part) > 3:
            return _text_part(part)
    return config


def _layer_types(text: Mapping[str, Any], layers: int) -> tuple[str, ...] | None:
    listed: Iterable[Any] | None = (
        text.get("layer_types") or text.get("layers_block_type") or text.get("hybrid_override_pattern")
    )
    if listed:
        kinds = [LAYER_NAMES.get(str(kind), str(kind)) for kind in listed]
        return shortest_cycle(kinds)
    interval = text.get("full_attention_interval")
    if interval:
        return ("linear_attention",) * (interval - 1) + ("full_attention",)
    pattern = text.get("sliding_window_pattern") or text.get("_sliding_window_pattern")
    if isinstance(pattern, int) and pattern > 1:
        return ("sliding_attention",) * (pattern - 1) + ("full_attention",)
    if isinstance(pattern, str):
        kinds = ["sliding_attention" if kind == "L" else "full_attention" for kind in pattern]
        return shortest_cycle([kinds[index % len(kinds)] for index in range(layers)])
    return None


def draft_transformer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Architecture fields of a language model, under our names, from a parsed ``config.json``.

    The text part of a multimodal config is looked up by itself. Null values are left out.
    """
    text = _text_part(config)
    out: dict[str, Any] = {"model_type": text.get("model_type") or config["model_type"]}
    for field, others in SYNONYMS.items():
        for name in (field, *others):
            value = text.get(name)
            if (
                value is not None
                and not isinstance(value, list | dict | str)
                or (field == "hidden_act" and isinstance(value, str))
            ):
                out[field] = value
                break
    for field in SWITCHES:
        value = text.get(field, config.get(field))
        if value is not None:
            out[field] = bool(value)
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if isinstance(rope, Mapping) and isinstance(rope.get("factor"), int | float):
        out["rope_scaling_factor"] = float(rope["factor"])
    if text.get("use_sliding_window") is False:
        out.pop("sliding_window", None)
    listed = text.get("layers_block_type")
    if listed and "num_hidden_layers" not in out:
        out["num_hidden_layers"] = len(listed)
    kinds = _layer_types(text, int(out.get("num_hidden_layers", 0)))
    if kinds and set(kinds) != {"full_attention"}:
        out["layer_types"] = list(kinds)
    if out["model_type"] == "llama4_text":
        # The expert width is called intermediate_size here, and the dense one intermediate_size_mlp.
        out["moe_intermediate_size"] = text["intermediate_size"]
        out["intermediate_size"] = text["intermediate_size_mlp"]
        out["n_shared_experts"] = 1
    if "mamba_num_heads" in out and "mamba_d_inner" not in out:
        width = text.get("mamba_head_dim") or text.get("mamba_d_head")
        if width:
            out["mamba_d_inner"] = out["mamba_num_heads"] * width
    vision = config.get("vision_config")
    if isinstance(vision, Mapping):
        tower = {
            "model_type": vision.get("model_type"),
            "hidden_size": vision.get("hidden_size") or vision.get("embed_dim"),
            "num_hidden_layers": vision.get("num_hidden_layers") or vision.get("depth"),
            "num_attention_heads": vision.get("num_attention_heads") or vision.get("num_heads"),
            "intermediate_size": vision.get("intermediate_size"),
            "patch_size": vision.get("patch_size"),
            "image_size": vision.get("image_size"),
            "spatial_merge_size": vision.get("spatial_merge_size"),
            "tokens_per_image": config.get("mm_tokens_per_image"),
        }
        out["vision"] = {key: value for key, value in tower.items() if isinstance(value, int | str)}
    return out


def draft_record(
    config: Mapping[str, Any], *, repository: str, source: str, at: str = "", name: str | None = None
) -> dict[str, Any]:
    """A model record with everything that the config says, cited to ``source``."""
    citation = {"source": source, "basis": "vendor"} | ({"at": at} if at else {})
    return {
        "id": model_id(repository),
        "name": name or repository.rpartition("/")[2].replace("-", " "),
        "aliases": [repository],
        "family": str(config.get("model_type", "")),
        "task": "image-text-to-text" if "vision_config" in config else "text-generation",
        "transformer": draft_transformer(config),
        "cite": {"*": [citation]},
    }


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, int):
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return repr(value)
    return str(value)  # a date writes itself


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def render_toml(table: str, record: Mapping[str, Any]) -> str:
    """One record as a TOML array-of-tables entry; nested mappings become sub-tables.

    >>> print(render_toml("model", {"id": "a", "transformer": {"hidden_size": 65536}}))
    [[model]]
    id = "a"
    <BLANKLINE>
    [model.transformer]
    hidden_size = 65_536
    <BLANKLINE>
    """
    lines = [f"[[{table}]]"]
    tables = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            tables[key] = value
        elif key == "components":
            tables[key] = value
        elif isinstance(value, list) and len(_value(value)) > 100:
            lines += [f"{_key(key)} = [", *(f"    {_value(item)}," for item in value), "]"]
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, content in tables.items():
        lines += ["", f"[{table}.{_key(key)}]"]
        for name, value in content.items():
            if isinstance(value, list) and value and isinstance(value[0], Mapping) and len(value) > 1:
                lines += [f"{_key(name)} = [", *(f"    {_value(item)}," for item in value), "]"]
            else:
                lines.append(f"{_key(name)} = {_value(value)}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a draft record."""
    parser = argparse.ArgumentParser(description="Draft a model record from a config.json.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--repository", required=True, help="OWNER/NAME of the publisher")
    parser.add_argument("--source", required=True, help="id of the source record")
    parser.add_argument("--at", default="", help="place inside the source")
    options = parser.parse_args(arguments)
    config = json.loads(options.config.read_text("utf-8"))
    record = draft_record(config, repository=options.repository, source=options.source, at=options.at)
    sys.stdout.write(render_toml("model", record))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
