"""Writers of tiny checkpoints: every test file is made here, nothing is downloaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

_FORMATS = {
    "u8": (0, "B"),
    "u32": (4, "I"),
    "i32": (5, "i"),
    "f32": (6, "f"),
    "bool": (7, "B"),
    "u64": (10, "Q"),
}
# Type number, elements and bytes of a block.
GGML = {
    "q4_0": (2, 32, 18),
    "f32": (0, 1, 4),
    "f16": (1, 1, 2),
    "q8_0": (8, 32, 34),
    "q4_k": (12, 256, 144),
    "q6_k": (14, 256, 210),
}


def _string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def _value(value: object) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    assert isinstance(value, list)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
    code, letter = _FORMATS["bool" if isinstance(value[0], bool) else "i32"]
    return struct.pack(f"<IIQ{len(value)}{letter}", 9, code, len(value), *value)


def gguf_bytes(
    metadata: Mapping[str, object],
    tensors: Sequence[tuple[str, tuple[int, ...], str]],
    *,
    version: int = 3,
    data: bool = True,
) -> bytes:
    """A GGUF file with zeros for tensor data."""
    out = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(metadata))]
    out += [_string(key) + _value(value) for key, value in metadata.items()]
    offset = 0
    for name, shape, form in tensors:
        code, block, size = GGML[form]
        out.append(_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        out.append(struct.pack("<IQ", code, offset))
        elements = 1
        for extent in shape:
            elements *= extent
        offset += -(-(elements // block * size) // 32) * 32
    header = b"".join(out)
    padded = header + b"\0" * (-len(header) % 32)
    return padded + (b"\0" * offset if data else b"")


def safetensors_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]], *, data: bool = True) -> bytes:
    """A safetensors file with zeros for tensor data."""
    sizes = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4, "U8": 1, "F8_E4M3": 1, "I64": 8}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape) in tensors.items():
        elements = 1
        for extent in shape:
            elements *= extent
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [at, at + elements * sizes[dtype]],
        }
        at += elements * sizes[dtype]
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + (b"\0" * at if data else b"")


LLAMA_METADATA: dict[str, object] = {
    "general.architecture": "llama",
    "general.name": "Tiny Llama",
    "general.file_type": 15,
    "llama.block_count": 2,
    "llama.context_length": 2048,
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 512,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "c", "é"],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.token_type": [1, 1, 1, 1],
}


def llama_tensors(layers: int = 2) -> list[tuple[str, tuple[int, ...], str]]:
    """Tensors of a two-layer Llama as llama.cpp's Q4_K_M would store them."""
    found: list[tuple[str, tuple[int, ...], str]] = [
        ("token_embd.weight", (256, 320), "q4_k"),
        ("output_norm.weight", (256,), "f32"),
        ("output.weight", (256, 320), "q6_k"),
    ]
    for layer in range(layers):
        found += [
            (f"blk.{layer}.attn_norm.weight", (256,), "f32"),
            (f"blk.{layer}.attn_q.weight", (256, 256), "q4_k"),
            (f"blk.{layer}.attn_k.weight", (256, 128), "q4_k"),
            (f"blk.{layer}.attn_v.weight", (256, 128), "q6_k"),
            (f"blk.{layer}.attn_output.weight", (256, 256), "q4_k"),
            (f"blk.{layer}.ffn_norm.weight", (256,), "f32"),
            (f"blk.{layer}.ffn_gate.weight", (256, 512), "q4_k"),
            (f"blk.{layer}.ffn_up.weight", (256, 512), "q4_k"),
            (f"blk.{layer}.ffn_down.weight", (512, 256), "q6_k"),
        ]
    return found


LLAMA_CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def llama_stored(layers: int = 2) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The tensors of `LLAMA_CONFIG` under their Hugging Face names."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {
        "model.embed_tokens.weight": ("BF16", (100, 64)),
        "model.norm.weight": ("BF16", (64,)),
        "lm_head.weight": ("BF16", (100, 64)),
    }
    for layer in range(layers):
        start = f"model.layers.{layer}."
        found |= {
            f"{start}input_layernorm.weight": ("BF16", (64,)),
            f"{start}post_attention_layernorm.weight": ("BF16", (64,)),
            f"{start}self_attn.q_proj.weight": ("BF16", (64, 64)),
            f"{start}self_attn.k_proj.weight": ("BF16", (32, 64)),
            f"{start}self_attn.v_proj.weight": ("BF16", (32, 64)),
            f"{start}self_attn.o_proj.weight": ("BF16", (64, 64)),
            f"{start}mlp.gate_proj.weight": ("BF16", (128, 64)),
            f"{start}mlp.up_proj.weight": ("BF16", (128, 64)),
            f"{start}mlp.down_proj.weight": ("BF16", (64, 128)),
        }
    return found


class Writers:
    """The writers above, for test modules that pytest imports by path."""

    gguf = staticmethod(gguf_bytes)
    safetensors = staticmethod(safetensors_bytes)
    llama_tensors = staticmethod(llama_tensors)
    llama_stored = staticmethod(llama_stored)

    @property
    def metadata(self) -> dict[str, object]:
        return dict(LLAMA_METADATA)

    @property
    def config(self) -> dict[str, object]:
        return dict(LLAMA_CONFIG)


@pytest.fixture(scope="session")
def write() -> Writers:
    return Writers()


@pytest.fixture
def store(tmp_path: Path) -> Callable[[str, bytes | str | Mapping[str, object]], Path]:
    """Write a file into the test's folder and return its path."""

    def put(name: str, content: bytes | str | Mapping[str, object]) -> Path:
        path = tmp_path / name
        if isinstance(content, Mapping):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put
