"""Write a GGUF with real tensor names, shapes and types but no data: a sparse file of full apparent size."""

from __future__ import annotations

import struct
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from willitrun.estimators.inventory_encoders import STREAMS
from willitrun.estimators.inventory_gguf import loaded_config, mix_context, stored_tensors
from willitrun.kernels.gguf_mixes import tensor_format
from willitrun.kernels.weights import FORMAT_CODES, TensorGroup, bytes_of
from willitrun.records.models import TransformerConfig

__all__ = ["DIALECTS", "Dialect", "write_sparse"]

Value = bool | int | float | str | Sequence[int]
ALIGNMENT = 32
CARD_ALIGNMENT, CARD_ROW = 128, 512
_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_k": 10, "q3_k": 11, "q4_k": 12, "q5_k": 13, "q6_k": 14,
          "bf16": 30, "mxfp4": 39}  # fmt: skip
# Numbers of a layer that are not called `weight` in GGUF.
_BARE = {"ssm_a", "ssm_d"}
_PLAIN = ("tokenizer.", "xielu.")
"""Keys without the architecture before them."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How llama.cpp spells one model; the fields are explained in ``dialects.toml``."""

    model: str
    architecture: str
    keys: Mapping[str, Value] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    bare: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    extra: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, Value] = field(default_factory=dict)

    def apply(self, config: TransformerConfig) -> TransformerConfig:
        """The catalog's config with the fields that the dialect gives, without a vision tower, which is a file of its own."""
        return loaded_config(config.model_copy(update={"vision": None, **self.config}))


def _read() -> dict[str, Dialect]:
    with (Path(__file__).parent / "dialects.toml").open("rb") as file:
        rows = tomllib.load(file)["dialect"]
    lists = ("bare", "absent")
    return {
        row["model"]: Dialect(**{**row, **{name: tuple(row.get(name, ())) for name in lists}}) for row in rows
    }


DIALECTS = _read()


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _entry(key: str, value: Value) -> bytes:
    if isinstance(value, bool):
        return _text(key) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return _text(key) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return _text(key) + struct.pack("<If", 6, value)
    if isinstance(value, str):
        return _text(key) + struct.pack("<I", 8) + _text(value)
    if value and isinstance(value[0], bool):
        body = b"".join(struct.pack("<?", number) for number in value)
        return _text(key) + struct.pack("<IIQ", 9, 7, len(value)) + body
    body = b"".join(struct.pack("<i", number) for number in value)
    return _text(key) + struct.pack("<IIQ", 9, 5, len(value)) + body


def _field(config: TransformerConfig, text: str) -> int:
    if text.lstrip("-").isdigit():
        return int(text)
    found = getattr(config, text)
    if found is None:
        raise ValueError(f"dialects.toml: {config.model_type} has no {text}.")
    return int(found)


def _value(config: TransformerConfig, value: Value) -> Value:
    """A key's value with references to the config filled in."""
    if not isinstance(value, str):
        return value
    if value.startswith("bools:"):
        kind = value.removeprefix("bools:")
        return [config.layer_type(layer) == kind for layer in range(config.num_hidden_layers)]
    if value.startswith("each:"):
        return list(getattr(config, value.removeprefix("each:"))[: config.num_hidden_layers])
    if not value.startswith("layers:"):
        return _field(config, value)
    kind, _, pair = value.removeprefix("layers:").partition("=")
    inside, outside = (_field(config, part) for part in pair.split(","))
    return [
        inside if config.layer_type(layer) == kind else outside for layer in range(config.num_hidden_layers)
    ]


def _metadata(config: TransformerConfig, dialect: Dialect) -> dict[str, Value]:
    heads = config.num_attention_heads or 0
    own: dict[str, Value] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings or 2**20,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size or 0,
        "attention.head_count": heads,
        "attention.head_count_kv": config.num_key_value_heads or heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
        "vocab_size": config.vocab_size,
    }
    if config.head_dim and not config.kv_lora_rank:
        own |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    if config.num_experts:
        own |= {
            "expert_count": config.num_experts,
            "expert_used_count": config.num_experts_per_tok or 1,
            "expert_feed_forward_length": config.moe_intermediate_size or config.intermediate_size or 0,
        }
    if config.shared_expert_intermediate_size:
        own["expert_shared_feed_forward_length"] = config.shared_expert_intermediate_size
    if config.sliding_window:
        own["attention.sliding_window"] = config.sliding_window
    if config.mamba_d_inner:
        own |= {
            "ssm.conv_kernel": config.mamba_d_conv or 0,
            "ssm.inner_size": config.mamba_d_inner,
            "ssm.state_size": config.mamba_d_state or 0,
            "ssm.time_step_rank": config.mamba_num_heads
            or config.mamba_dt_rank
            or -(-config.hidden_size // 16),
            "ssm.group_count": config.mamba_n_groups or 0,
        }
    if config.linear_num_value_heads:
        own |= {
            "ssm.conv_kernel": config.linear_conv_kernel_dim or 0,
            "ssm.inner_size": config.linear_num_value_heads * (config.linear_value_head_dim or 0),
            "ssm.state_size": config.linear_key_head_dim or 0,
            "ssm.time_step_rank": config.linear_num_value_heads,
            "ssm.group_count": config.linear_num_key_heads or 0,
        }
    own |= {key: _value(config, value) for key, value in dialect.keys.items()}
    prefix = dialect.architecture
    return {
        "general.architecture": prefix,
        "general.name": "sparse",
        "tokenizer.ggml.model": "none",
        **{key if key.startswith(_PLAIN) else f"{prefix}.{key}": value for key, value in own.items()},
    }


def _pieces(
    group: TensorGroup, config: TransformerConfig, dialect: Dialect, roles: set[str]
) -> list[tuple[str, list[int]]]:
    """Names and dimensions of a group's tensors in GGUF; what our inventory lumps together comes apart."""
    name = dialect.names.get(group.role, group.role)
    heads = config.num_attention_heads or 1
    hidden = config.hidden_size
    if group.role == "attn_qkv_bias":
        if "attn_qkv" in roles:
            return [("attn_qkv.bias", [group.width])]
        width = config.head_dim or hidden // heads
        pair = (config.num_key_value_heads or heads) * width
        return [("attn_q.bias", [heads * width]), ("attn_k.bias", [pair]), ("attn_v.bias", [pair])]
    if group.role == "ffn_bias":
        return [("ffn_up.bias", [group.width - hidden]), ("ffn_down.bias", [hidden])]
    if group.role == "ffn_exps_bias":
        count = config.num_experts or 1
        width = config.moe_intermediate_size or config.intermediate_size or 1
        sides = [(f"ffn_{side}_exps.bias", [width, count]) for side in ("gate", "up")]
        return [*sides, ("ffn_down_exps.bias", [hidden, count])]
    if group.role in ("ssm_a", "ssm_d") and config.mamba_num_heads:
        return [(group.role, [1, group.width])]
    if group.role == "ssm_a" and config.mamba_d_state:
        return [("ssm_a", [config.mamba_d_state, config.mamba_d_inner or 1])]
    if group.role == "ssm_norm" and config.mamba_n_groups:
        return [("ssm_norm.weight", [group.width // config.mamba_n_groups, config.mamba_n_groups])]
    if group.role == "exp_probs_b" and group.role not in dialect.bare:
        return [("exp_probs_b.bias", [group.width])]
    if group.role in ("altup_correct_coef", "altup_predict_coef"):
        return [(f"{group.role}.weight", [STREAMS, group.width // STREAMS])]
    if group.role.startswith("shortconv_"):
        return [(f"shortconv.{group.role.removeprefix('shortconv_')}.weight", [group.width, group.rows])]
    dims = [group.width]
    if group.matrix:
        dims.append(group.rows)
    if group.stack > 1:
        dims.append(group.stack)
    if group.role in _BARE or group.role in dialect.bare:
        return [(name, dims)]
    if group.role.endswith("_bias"):
        base = group.role.removesuffix("_bias")
        return [(f"{dialect.names.get(base, base)}.bias", dims)]
    return [(f"{name}.weight", dims)]


def write_sparse(
    path: Path, config: TransformerConfig, dialect: Dialect, mix: str = "q8_0", native: str | None = None
) -> int:
    """Write the file; ``native`` experts keep the format they were published in.

    Returns the most that buffers of a CUDA card align and pad its tensors with [bytes]: each starts at a multiple of
    128, and rows of a quantized one end at a multiple of 512 elements.
    """
    groups = stored_tensors(config)
    kept = native if native == "mxfp4" and config.num_experts else None
    context = mix_context(config, groups, era="2025", imatrix=False, raised=frozenset(), native_experts=kept)
    offset = padding = count = 0
    table = b""

    def add(name: str, dims: list[int], kind: str) -> None:
        nonlocal offset, padding, count, table
        size = bytes_of(prod(dims), dims[0], FORMAT_CODES[kind]).item()
        shape = b"".join(struct.pack("<Q", length) for length in dims)
        table += _text(name) + struct.pack("<I", len(dims)) + shape + struct.pack("<IQ", _TYPES[kind], offset)
        offset += -(-size // ALIGNMENT) * ALIGNMENT
        over = 0 if kind in ("f32", "f16", "bf16") else -dims[0] % CARD_ROW
        padding += CARD_ALIGNMENT - 1 + (bytes_of(over, over, FORMAT_CODES[kind]).item() if over else 0)
        count += 1

    roles = {group.role for group in groups}
    for group in groups:
        if group.part in ("vision", "audio", "prediction") or group.role in dialect.absent:
            continue
        for layer in group.layers or (None,):
            for name, dims in _pieces(group, config, dialect, roles):
                kind = tensor_format(group, layer or 0, mix, context)
                add(name if layer is None else f"blk.{layer}.{name}", dims, kind)
    for name, width in dialect.extra.items():
        add(f"{name}.weight", [width], "f32")
    metadata = _metadata(config, dialect)
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(metadata))
    head += b"".join(_entry(key, value) for key, value in metadata.items()) + table
    head += b"\0" * (-len(head) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + offset)
    return padding
