"""Write a GGUF with real tensor names, shapes and types but no data: a sparse file of full apparent size."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from willitrun.estimators.inventory import tensor_inventory
from willitrun.kernels.gguf_mixes import MixContext, tensor_format
from willitrun.kernels.weights import FORMAT_CODES, TensorGroup, bytes_of
from willitrun.records.models import TransformerConfig

__all__ = ["Dialect", "write_sparse"]

Value = bool | int | float | str
ALIGNMENT = 32
_TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "q4_k": 12, "q6_k": 14, "bf16": 30}


@dataclass(frozen=True)
class Dialect:
    """How an architecture is spelt in GGUF.

    ``names`` maps our roles to its tensor names, ``keys`` adds metadata under the architecture's prefix.
    """

    architecture: str
    keys: Mapping[str, Value | Sequence[int]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _entry(key: str, value: Value | Sequence[int]) -> bytes:
    if isinstance(value, bool):
        return _text(key) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return _text(key) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return _text(key) + struct.pack("<If", 6, value)
    if isinstance(value, str):
        return _text(key) + struct.pack("<I", 8) + _text(value)
    body = b"".join(struct.pack("<i", number) for number in value)
    return _text(key) + struct.pack("<IIQ", 9, 5, len(value)) + body


def _metadata(config: TransformerConfig, dialect: Dialect) -> dict[str, Value | Sequence[int]]:
    heads = config.num_attention_heads or 0
    own: dict[str, Value | Sequence[int]] = {
        "block_count": config.num_hidden_layers,
        "context_length": 131072,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size or 0,
        "attention.head_count": heads,
        "attention.head_count_kv": config.num_key_value_heads or heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
        "vocab_size": config.vocab_size,
    }
    if config.head_dim and not config.kv_lora_rank:
        own |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    if config.num_experts:
        own |= {
            "expert_count": config.num_experts,
            "expert_used_count": config.num_experts_per_tok or 1,
            "expert_feed_forward_length": config.moe_intermediate_size or 0,
        }
    if config.sliding_window:
        own["attention.sliding_window"] = config.sliding_window
    own |= dict(dialect.keys)
    prefix = dialect.architecture
    return {
        "general.architecture": prefix,
        "general.name": "sparse",
        "tokenizer.ggml.model": "none",
        **{f"{prefix}.{key}": value for key, value in own.items()},
    }


def _pieces(group: TensorGroup, config: TransformerConfig) -> list[tuple[str, list[int]]]:
    """Names and dimensions of a group's tensor; lumped biases come apart."""
    if group.role == "attn_qkv_bias":
        heads = config.num_attention_heads or 1
        width = config.head_dim or config.hidden_size // heads
        pair = (config.num_key_value_heads or heads) * width
        return [("attn_q.bias", [heads * width]), ("attn_k.bias", [pair]), ("attn_v.bias", [pair])]
    if group.role == "ssm_a":
        return [("ssm_a", [config.mamba_d_state or 1, config.mamba_d_inner or 1])]
    if group.role == "ssm_d":
        return [("ssm_d", [group.width])]
    dims = [group.width]
    if group.matrix:
        dims.append(group.rows)
    if group.stack > 1:
        dims.append(group.stack)
    if group.role.endswith("_bias"):
        return [(f"{group.role.removesuffix('_bias')}.bias", dims)]
    return [(f"{group.role}.weight", dims)]


def write_sparse(path: Path, config: TransformerConfig, dialect: Dialect, mix: str = "q8_0") -> int:
    """Write the file and return the bytes of its tensors."""
    context = MixContext(config.num_hidden_layers, n_value_tensors=config.num_hidden_layers)
    offset = total = count = 0
    table = b""
    for group in tensor_inventory(config):
        if group.part in ("vision", "prediction"):
            continue
        name = dialect.names.get(group.role, group.role)
        for layer in group.layers or (None,):
            for piece, dims in _pieces(group, config):
                kind = tensor_format(group, layer or 0, mix, context)
                spelt = piece.replace(group.role, name, 1)
                full = spelt if layer is None else f"blk.{layer}.{spelt}"
                elements = 1
                for size in dims:
                    elements *= size
                size = bytes_of(elements, dims[0], FORMAT_CODES[kind]).item()
                shape = b"".join(struct.pack("<Q", length) for length in dims)
                table += _text(full) + struct.pack("<I", len(dims)) + shape
                table += struct.pack("<IQ", _TYPES[kind], offset)
                offset += -(-size // ALIGNMENT) * ALIGNMENT
                total += size
                count += 1
    metadata = _metadata(config, dialect)
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(metadata))
    head += b"".join(_entry(key, value) for key, value in metadata.items()) + table
    head += b"\0" * (-len(head) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + offset)
    return total
