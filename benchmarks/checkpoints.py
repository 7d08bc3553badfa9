"""Seconds to describe checkpoints: a GGUF with 151,936 tokens and as many merges, a sharded safetensors header.

    python benchmarks/checkpoints.py

Files are made here, sparse: no download, next to no disk.
"""

from __future__ import annotations

import json
import struct
import tempfile
import time
import tracemalloc
from pathlib import Path

from willitrun.checkpoints import describe_model

TOKENS = 151_936
LAYERS = 36
REPEATS = 7


def string(raw: bytes) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(raw)) + raw


def write_gguf(path: Path) -> None:
    """An 8B-sized Qwen 3 in one type, with a vocabulary of real size."""
    numbers = {
        "block_count": LAYERS,
        "context_length": 40_960,
        "embedding_length": 4096,
        "feed_forward_length": 12_288,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "attention.key_length": 128,
    }
    entries = [string(b"general.architecture") + struct.pack("<I", 8) + string(b"qwen3")]
    entries += [
        string(f"qwen3.{key}".encode()) + struct.pack("<II", 4, value) for key, value in numbers.items()
    ]
    tokens = b"".join(string(f"Ġtoken{number}".encode()) for number in range(TOKENS))
    merges = b"".join(string(f"Ġto ken{number}".encode()) for number in range(TOKENS))
    entries.append(string(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, TOKENS) + tokens)
    entries.append(string(b"tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, TOKENS) + merges)
    entries.append(
        string(b"tokenizer.ggml.token_type") + struct.pack("<IIQ", 9, 5, TOKENS) + b"\1\0\0\0" * TOKENS
    )
    shapes = {
        "token_embd.weight": (4096, TOKENS),
        "output.weight": (4096, TOKENS),
        "output_norm.weight": (4096,),
    }
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (4096,),
                "attn_q": (4096, 4096),
                "attn_k": (4096, 1024),
                "attn_v": (4096, 1024),
                "attn_output": (4096, 4096),
                "attn_q_norm": (128,),
                "attn_k_norm": (128,),
                "ffn_norm": (4096,),
                "ffn_gate": (4096, 12_288),
                "ffn_up": (4096, 12_288),
                "ffn_down": (12_288, 4096),
            }.items()
        }
    offset, directory = 0, []
    for name, shape in shapes.items():
        kind, size = (0, 4 * shape[0]) if len(shape) == 1 else (12, shape[0] * shape[-1] // 256 * 144)
        directory.append(
            string(name.encode())
            + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            + struct.pack("<IQ", kind, offset)
        )
        offset += -(-size // 32) * 32
    header = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(entries)) + b"".join(entries + directory)
    with path.open("wb") as stream:
        stream.write(header)
        stream.truncate(-(-len(header) // 32) * 32 + offset)


def write_safetensors(folder: Path, experts: int = 128, layers: int = 48, shards: int = 16) -> None:
    """A mixture of experts stored tensor by tensor: 18 thousand of them."""
    config = {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": experts,
        "num_experts_per_tok": 8,
        "vocab_size": TOKENS,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    names = [
        f"model.layers.{layer}.mlp.experts.{expert}.{part}.weight"
        for layer in range(layers)
        for expert in range(experts)
        for part in ("gate_proj", "up_proj", "down_proj")
    ]
    size, where = 2048 * 768 * 2, {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        mine = names[shard::shards]
        where |= dict.fromkeys(mine, file)
        header = json.dumps(
            {
                name: {"dtype": "BF16", "shape": [768, 2048], "data_offsets": [at * size, (at + 1) * size]}
                for at, name in enumerate(mine)
            }
        ).encode()
        with (folder / file).open("wb") as stream:
            stream.write(struct.pack("<Q", len(header)) + header)
            stream.truncate(8 + len(header) + len(mine) * size)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def report(name: str, path: Path) -> None:
    """Time one description, and say what it allocates at most."""
    describe_model(path)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        describe_model(path)
        seconds.append(time.perf_counter() - started)
    tracemalloc.start()
    describe_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds.sort()
    print(
        f"{name}: median {seconds[REPEATS // 2]:.4f} s, best {seconds[0]:.4f} s, peak {peak / 2**20:.1f} MiB"
    )


def main() -> None:
    """Print one line per kind of checkpoint."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_gguf(folder / "bench.gguf")
        report(f"GGUF, {TOKENS:,} tokens and merges", folder / "bench.gguf")
        stored = folder / "stored"
        stored.mkdir()
        write_safetensors(stored)
        report("safetensors, 18,432 tensors in 16 shards", stored)


if __name__ == "__main__":
    main()
