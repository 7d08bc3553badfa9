"""Predicted against allocated: full-size models without data in a real llama.cpp on the CPU.

Run ``python -m accuracy.memory.truth --facts ../shared/data/models.jsonl --python PYTHON``, where ``PYTHON`` is an
interpreter that has ``llama-cpp-python`` (it builds from source in some minutes). Only the KV cache and compute
buffers take memory; weights are mapped holes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.memory.configurations import config_of, models
from accuracy.memory.formats import ROOT
from accuracy.memory.sparse_gguf import Dialect, write_sparse
from willitrun.estimators.inventory_cache import buffer_shape, kv_layout
from willitrun.kernels.compute_buffers import device_buffer
from willitrun.kernels.kv_cache import cells_cache
from willitrun.records.models import TransformerConfig

__all__ = ["DIALECTS", "Allocation", "allocate", "main"]

MIB = 2**20
_KINDS = {1: "f16", 8: "q8_0"}

DIALECTS: dict[str, Dialect] = {
    "meta-llama/Llama-3.1-8B-Instruct": Dialect("llama", {"rope.dimension_count": 128}),
    "Qwen/Qwen2.5-7B-Instruct": Dialect("qwen2"),
    "Qwen/Qwen3-8B": Dialect("qwen3"),
    "Qwen/Qwen3-30B-A3B": Dialect("qwen3moe"),
    "google/gemma-2-2b-it": Dialect(
        "gemma2", {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    ),
    "google/gemma-3-4b-it": Dialect("gemma3"),
    "deepseek-ai/DeepSeek-V2-Lite-Chat": Dialect(
        "deepseek2",
        {
            "attention.head_count_kv": 1,
            "attention.key_length": 576,
            "attention.value_length": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
            "attention.kv_lora_rank": 512,
            "rope.dimension_count": 64,
            "leading_dense_block_count": 1,
            "expert_shared_count": 2,
            "expert_weights_scale": 1.0,
            "expert_gating_func": 1,
        },
    ),
    "allenai/OLMo-2-1124-7B-Instruct": Dialect(
        "olmo2", names={"attn_norm": "post_attention_norm", "ffn_norm": "post_ffw_norm"}
    ),
    "microsoft/Phi-3.5-mini-instruct": Dialect("phi3", {"rope.dimension_count": 96}),
}

# Runs in the interpreter that has llama-cpp-python and nothing of ours.
_LOADER = r"""
import ctypes, json, re, sys
import llama_cpp as L
log = []
@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def keep(level, text, user):
    line = text.decode("utf8", "replace")
    if "input tensor" not in line:
        log.append(line)
L.llama_log_set(keep, ctypes.c_void_p(0))
L.llama_backend_init()
options = L.llama_model_default_params()
options.n_gpu_layers = 0
model = L.llama_model_load_from_file(sys.argv[1].encode(), options)
loaded = "".join(log)
answer = {"error": loaded[-1500:], "rows": []}
if model:
    answer = {"weights": re.findall(r"model buffer size =\s*([\d.]+)", loaded), "rows": []}
    for case in json.loads(sys.argv[2]):
        log.clear()
        options = L.llama_context_default_params()
        options.n_batch = 2048
        for key, value in case.items():
            setattr(options, "flash_attn_type" if key == "flash" else key, value)
        context = L.llama_init_from_model(model, options)
        text = "".join(log)
        sizes = re.findall(r"size =\s*([\d.]+) MiB \(\s*(\d+) cells,\s*(\d+) layers", text)
        compute = re.findall(r"compute buffer size =\s*([\d.]+)", text)
        answer["rows"].append({"case": case, "kv": sizes, "compute": compute[-1:]})
        if context:
            L.llama_free(context)
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Allocation:
    """One load: what was printed and what the kernels say [MiB]; NaN where nothing was printed."""

    model: str
    case: dict[str, Any]
    kv_printed: float
    kv_predicted: float
    compute_printed: float
    compute_predicted: float


def _cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = [
        {"n_ctx": context, "n_ubatch": batch, "n_seq_max": slots, "flash": flash, "swa_full": False}
        for context in (4096, 32768)
        for batch in (128, 512, 2048)
        for slots in (1, 4)
        for flash in (0, 1)
    ]
    one: dict[str, Any] = {"n_ctx": 32768, "n_ubatch": 512, "n_seq_max": 1, "flash": 1, "swa_full": False}
    return [
        *cases,
        one | {"n_seq_max": 4, "kv_unified": True},
        one | {"type_k": 8, "type_v": 8},
        one | {"n_ctx": 131072},
        one | {"n_ctx": 1000, "flash": 0, "swa_full": True},
    ]


def allocate(name: str, config: TransformerConfig, python: str) -> Iterator[Allocation | float]:
    """Load one model in every case; first the relative error of its weights, then the allocations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sparse.gguf"
        tensors = write_sparse(path, config, DIALECTS[name])
        arguments = [python, "-c", _LOADER, str(path), json.dumps(_cases())]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=600)
    answer = json.loads(done.stdout) if done.stdout else {"error": done.stderr[-500:], "rows": []}
    if "error" in answer:
        print(f"{name}: not loaded: {answer['error'][-300:]}", file=sys.stderr)
        return
    yield tensors / MIB / sum(float(size) for size in answer["weights"]) - 1
    layout, shape = kv_layout(config), buffer_shape(config)
    for row in answer["rows"]:
        case = row["case"]
        kind = _KINDS[case.get("type_k", 1)]
        if not row["kv"] or not row["compute"]:
            continue
        slots = case["n_seq_max"]
        kv = cells_cache(
            layout,
            case["n_ctx"],
            sequences=slots,
            unified=slots == 1 or case.get("kv_unified", False),
            n_ubatch=case["n_ubatch"],
            swa_full=case["swa_full"],
            kind_k=kind,
            kind_v=kind,
        ).item()
        compute = device_buffer(
            shape,
            max(int(cells) for _, cells, _ in row["kv"]),
            n_ubatch=min(case["n_ubatch"], case["n_ctx"]),
            flash_attention=bool(case["flash"]),
            single_buffer=True,
        ).item()
        printed = sum(float(size) for size, _, _ in row["kv"])
        yield Allocation(name, case, printed, kv / MIB, float(row["compute"][0]), compute / MIB)


def main() -> None:
    """Print one line per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=Path, default=ROOT.parent / "shared" / "data" / "models.jsonl")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--models", nargs="*", default=sorted(DIALECTS))
    arguments = parser.parse_args()
    rows = {row["id"]: row for row in models(arguments.facts)}
    print("| model | loads | weights error | KV exact | compute within 1 % | worst |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in arguments.models:
        config = config_of(rows[name])
        if config is None:
            continue
        error, found = float("nan"), []
        for item in allocate(name, config, arguments.python):
            if isinstance(item, float):
                error = item
            else:
                found.append(item)
        if found:
            exact = np.mean([abs(load.kv_printed - load.kv_predicted) < 0.0101 for load in found])
            off = np.array([abs(load.compute_predicted / load.compute_printed - 1) for load in found])
            print(
                f"| {name} | {len(found)} | {error:.1e} | {exact:.0%} | {np.mean(off < 0.01):.0%} "
                f"| {off.max():.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
