"""What one measured row asks the kernel: work, load, levels and the rate that was measured.

A row that cannot be described (unknown model, device or format, a flag, speculative decoding) raises `RowSkipped`
with the reason; nothing is guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from accuracy.speed.architectures import describe_work, read_quantization
from accuracy.speed.library_work import library_work, quantization_of
from accuracy.speed.processors import describe_processor
from willitrun.kernels.llm_levels import classify_era, classify_format

_GGML = frozenset({"llama.cpp", "ik_llama.cpp", "llamafile"})

#: (prompt, output) tokens of LocalScore's nine tests; its figures are means of the nine rates.
LOCALSCORE_TESTS = (
    (1024, 16), (4096, 256), (2048, 256), (2048, 768), (1024, 1024), (1280, 3072), (384, 1152), (64, 1024), (16, 1536),
)  # fmt: skip

#: Beyond this depth the KV fields of a record decide the time; records that are not certain stay out.
LONGEST_UNCERTAIN_TOKENS = 4096.0

_RUNTIMES = {
    "llama.cpp": "llama.cpp",
    "llama.cpp-server": "llama.cpp",
    "llama.cpp (cpu, 2024-08)": "llama.cpp",
    "ollama/llama.cpp": "llama.cpp",
    "ollama": "llama.cpp",
    "lmstudio": "llama.cpp",
    "ik_llama.cpp": "ik_llama.cpp",
    "llamafile/localscore": "llamafile",
    "vllm": "vllm",
    "sglang": "sglang",
    "trtllm": "tensorrt-llm",
    "tensorrt-llm": "tensorrt-llm",
    "exllamav2": "exllama",
    "exllama v2": "exllama",
    "exllama v1": "exllama",
    "mlx-lm": "mlx",
    "mlx": "mlx",
    "mlc-llm": "mlc",
    "mlc llm": "mlc",
    "openvino-genai": "openvino",
    "autoawq": "autoawq",
    "transformers": "transformers",
    "gpt-fast (torch.compile)": "pytorch",
    "deepspeed-mii": "deepspeed",
}
_BACKENDS = {
    "cuda": "cuda", "rocm": "rocm", "hip": "rocm", "vulkan": "vulkan", "vulcan": "vulkan", "metal": "metal",
    "mlx": "metal", "xpu": "sycl", "sycl": "sycl", "cpu": "cpu",
}  # fmt: skip
_VENDOR_BACKEND = {"nvidia": "cuda", "amd": "rocm", "apple": "metal", "intel": "sycl", "cpu": "cpu"}
_SERVING_SYSTEMS = {
    "b200_sxm": "nvidia-b200-sxm-180gb",
    "h100_sxm": "nvidia-h100-sxm5-80gb",
    "gb200": "nvidia-b200-sxm-180gb",
}
_SERVING_FORMATS = {"fp8": "fp8", "fp4": "nvfp4", "bf16": "bf16", "int4": "int4"}
#: Share of device memory that a server gives to weights and cache (default utilization less activations).
SERVING_MEMORY_SHARE = 0.87
#: Notes of the one source that states its offload: layers whose experts stay on the host, and whether MoE.
_OFFLOAD = re.compile(r"offload=(\d*);.*moe=(true|false)")
_SERVERS = frozenset({"vllm", "sglang", "tensorrt-llm"})


class RowSkipped(Exception):
    """A row that the kernel cannot be asked about; the message is the reason that is counted."""


def _float(text: str | None, default: float) -> float:
    try:
        return float(text) if text not in (None, "") else default
    except ValueError:
        return default


def _name_family(model: Mapping[str, Any]) -> str:
    """Return the architecture of the text model as configs name it (``model_type``)."""
    arch = model["arch"]
    name = arch.get("model_type") or model.get("architecture") or model["family"]
    name = {"phi-msft": "phi"}.get(name, name)
    return f"{name}_text" if arch.get("vision") and not name.endswith("_text") else name


def _base_load() -> dict[str, float]:
    return {
        "concurrency": 1.0,
        "prompt_tokens": 512.0,
        "cached_tokens": 0.0,
        "output_tokens": 128.0,
        "context_tokens": 0.0,
        "microbatch_tokens": 512.0,
        "prefill_sequences": 1.0,
        "interference": 0.0,
        "draft_tokens": 0.0,
        "acceptance": 0.0,
        "host_dense_fraction": 0.0,
        "host_expert_fraction": 0.0,
        "tensor": 1.0,
        "pipeline": 1.0,
        "data": 1.0,
        "expert_shards": 1.0,
        "max_sequences": math.inf,
        "kv_pool_bytes": math.inf,
    }


def _kv_bytes(text: str) -> float:
    lowered = text.lower()
    if "fp8" in lowered:
        return 1.0
    return {"q8_0": 34 / 32, "q4_0": 18 / 32}.get(lowered.split("/")[0], 2.0)


def _microbatch(runtime: str, record: Mapping[str, str]) -> float:
    if runtime in {"llama.cpp", "ik_llama.cpp", "llamafile"}:
        return _float(record.get("n_ubatch"), 512.0)
    return {"mlx": 2048.0, "vllm": 8192.0, "sglang": 8192.0, "tensorrt-llm": 8192.0}.get(runtime, 1e9)


def _read_offload(offload: re.Match[str], gpu_layers: str, work: Mapping[str, float]) -> dict[str, float]:
    """Return the host fractions: experts of k layers, or all of the layers below ``-ngl`` and the output matrix."""
    if offload.group(2) == "true":
        if not offload.group(1) or not work["n_moe_layers"]:
            raise RowSkipped("offload of experts not stated")
        return {"host_expert_fraction": min(float(offload.group(1)) / work["n_moe_layers"], 1.0)}
    if not gpu_layers.isdigit():
        raise RowSkipped("offload of layers not stated")
    share = max(1.0 - float(gpu_layers) / work["n_layers"], 0.0)
    return {"host_dense_fraction": share}


def describe_single(
    record: Mapping[str, str], devices: Mapping[str, Any], models: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    # "spill-suspect" marks files larger than the card; where the offload is stated there is nothing to suspect.
    offload = _OFFLOAD.search(record["notes"])
    if record["qc_flag"] and not (offload and record["qc_flag"] == "spill-suspect;"):
        raise RowSkipped("quality flag")
    if record["spec_decode"]:
        raise RowSkipped("speculative decoding")
    device = devices.get(record["hardware_id"])
    device_id = record["hardware_id"]
    if device is None and record["backend"] == "cpu":
        device, device_id = describe_processor(record["device"]), record["device"]
    if device is None:
        raise RowSkipped("device without rates")
    model = models.get(record["model_norm"].lower())
    if model is None or not model["arch"].get("n_layers") or not model["arch"].get("hidden_size"):
        raise RowSkipped("model without architecture")
    parsed = read_quantization(record["quant"])
    if parsed is None:
        raise RowSkipped("unknown format")
    runtime = _RUNTIMES.get(record["runtime"].lower())
    if runtime is None:
        raise RowSkipped("unknown runtime")
    backend = _BACKENDS.get(record["backend"].lower()) or _VENDOR_BACKEND.get(device["vendor"])
    if backend is None or (backend == "cpu") != (device["vendor"] == "cpu"):
        raise RowSkipped("CPU run with no host bandwidth")
    resident = {"", "all", "99", "999", "100", "0" if backend == "cpu" else "all"}
    if record["cpu_offload_ngl"] not in resident and not offload:
        raise RowSkipped("partial offload")
    total, active = _float(record["params_b"], 0.0), _float(record["active_params_b"], 0.0)
    if active and active < 0.8 * total and not model["arch"].get("moe"):
        raise RowSkipped("MoE without expert fields")
    count = int(_float(record["device_count"], 1.0))
    reach = max(_float(record["context_depth"], 0.0), _float(record["prompt_tokens"], 0.0))
    if model["arch_confidence"] != "high" and reach > LONGEST_UNCERTAIN_TOKENS:
        raise RowSkipped("long context on an architecture that is not certain")
    parallelism = record["parallelism"].lower()
    tensor = float(count) if parallelism.startswith("tp") or (count > 1 and runtime in _SERVERS) else 1.0
    if count > 1 and tensor == 1.0 and runtime not in {"llama.cpp", "llamafile"}:
        raise RowSkipped("unknown parallelism")
    if "rpc" in parallelism or re.search(r"rpc_nodes=\d", record["notes"]):
        raise RowSkipped("several machines")
    if record["metric_def"].startswith("llama-benchy") and _float(record["batch_size_concurrency"], 1.0) > 1:
        raise RowSkipped("server load with prompts that are not stated")
    stated = _float(record["model_size_gib"], 0.0) * 2**30 or None
    if record["model_size_src"] != "source":
        stated = None
    bits_key, identifier = parsed
    cache_bytes = _kv_bytes(record["kv_cache_type"])
    work = library_work(
        record["model_norm"],
        quantization_of(record["quant"]),
        "gguf" if runtime in _GGML else "safetensors",
        kv_bytes_per_value=cache_bytes,
        stated_bytes=stated,
    ) or describe_work(
        model,
        bits_key,
        stated_bytes=stated,
        kv_bytes_per_value=cache_bytes,
        mixed_precision_experts=bits_key == "mxfp4" and runtime in _SERVERS,
    )
    batch = _float(record["batch_size_concurrency"], 1.0)
    prompt = _float(record["prompt_tokens"], 0.0)
    output = _float(record["gen_tokens"], 0.0)
    depth = _float(record["context_depth"], -1.0)
    phase = record["phase"]
    load = _base_load() | {"concurrency": batch, "microbatch_tokens": _microbatch(runtime, record)}
    load |= {"tensor": tensor, "pipeline": count / tensor, "expert_shards": tensor}
    value = float(record["value_tok_s"])
    if phase == "decode":
        # llama-bench states the depth at which a run starts; others only the prompt before it.
        start = depth if depth >= 0 else prompt
        load |= {"context_tokens": start + (output or 128.0) / 2, "output_tokens": output or 128.0}
        if record["metric_def"].startswith("end-to-end"):
            raise RowSkipped("end-to-end decode figure")
    elif phase == "prefill":
        load |= {"prompt_tokens": prompt or 512.0, "prefill_sequences": batch}
        load["cached_tokens"] = depth if depth > 0 and depth != prompt else 0.0
    elif record["metric_def"].startswith("(input+output)"):
        if runtime in {"llama.cpp", "llamafile"}:
            raise RowSkipped("server parallelism not described")
        phase = "static"
        value = value / ((prompt + output) * batch)  # batches per second
        load |= {
            "prompt_tokens": prompt,
            "output_tokens": output,
            "prefill_sequences": batch,
            "context_tokens": prompt + output / 2,
        }
    else:
        raise RowSkipped("throughput at an unknown load")
    if not value > 0:
        raise RowSkipped("no value")
    if phase != "decode" and math.isinf(device["fp32"]):
        raise RowSkipped("processor without a core count")
    if offload and record["qc_flag"]:
        phase = f"offload-{phase}"
        load |= _read_offload(offload, record["cpu_offload_ngl"], work)
    flash = {"1.0": "flash", "0.0": "plain"}.get(record["flash_attn"])
    base = {
        "phase": phase,
        "actual": value,
        "device_id": device_id,
        "device": device,
        "model": record["model_norm"],
        "family": _name_family(model),
        "source": record["source_id"],
        "work": work,
        "runtime": runtime,
        "backend": backend,
        "era": classify_era(record["date_or_version"]),
        "format": classify_format(identifier),
        "attention": flash,
        "single_stream": count == 1 and batch == 1,
        # A processor's memory is assumed, so its rows say as little as unchecked ones.
        "crowd": record["reliability"] == "C" or device["vendor"] == "cpu",
        "id": record["row_id"],
        "quant": record["quant"],
        "count": count,
    }
    if record["metric_def"].startswith("LocalScore"):
        if phase == "decode":
            mean = sum(p + o / 2 for p, o in LOCALSCORE_TESTS) / len(LOCALSCORE_TESTS)
            yield base | {"load": load | {"context_tokens": mean}}
            return
        for prompt_tokens, _ in LOCALSCORE_TESTS:
            yield base | {"load": load | {"prompt_tokens": float(prompt_tokens)}}
        return
    yield base | {"load": load}


def describe_serving(
    record: Mapping[str, str], devices: Mapping[str, Any], models: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    if record["label_suspect"] == "1":
        raise RowSkipped("suspect label")
    device_id = _SERVING_SYSTEMS.get(record["system"], "")
    device = devices.get(device_id)
    model = models.get(record["model_path"].lower())
    if device is None or model is None:
        raise RowSkipped("unknown device or model")
    tensor, data = float(record["tp_size"]), _float(record["attention_dp_size"], 1.0)
    moe_tensor, moe_expert = float(record["moe_tp_size"]), float(record["moe_ep_size"])
    if tensor * data > 8 or tensor > 8:
        raise RowSkipped("mislabelled parallelism")
    parsed = read_quantization(_SERVING_FORMATS[record["precision"]])
    assert parsed is not None
    bits_key, identifier = parsed
    runtime = _RUNTIMES[record["backend"]]
    cache_bytes = 1.0 if record["precision"] in {"fp8", "fp4"} else 2.0
    work = library_work(
        record["model_path"],
        quantization_of(_SERVING_FORMATS[record["precision"]]),
        "safetensors",
        kv_bytes_per_value=cache_bytes,
        stated_bytes=None,
    ) or describe_work(model, bits_key, kv_bytes_per_value=cache_bytes)
    prompt, output = float(record["isl"]), float(record["osl"])
    concurrency = _float(record["concurrency"], 0.0) or _float(record["batch_size"], 1.0) * data
    load = _base_load() | {
        "concurrency": concurrency,
        "prompt_tokens": prompt,
        "output_tokens": output,
        "context_tokens": prompt + output / 2,
        "microbatch_tokens": 8192.0,
        "interference": 1.0,
        "tensor": tensor,
        "data": data,
        "expert_shards": max(moe_tensor * moe_expert, 1.0) if work["n_experts"] > 1 else tensor,
    }
    held = work["dense_bytes"] * data + work["expert_bytes"] + 2 * work["lm_head_bytes"] * data
    pool = SERVING_MEMORY_SHARE * device["memory_bytes"] * tensor * data - held
    if pool > 0:
        load["kv_pool_bytes"] = pool * work["kv_heads"] / max(work["kv_heads"], tensor)
    depth = prompt + output
    saturated = concurrency > load["kv_pool_bytes"] / (
        depth * work["kv_bytes_per_token"] + work["state_bytes"]
    )
    base = {
        "device_id": device_id if record["system"] != "gb200" else "nvidia-gb200",
        "device": device,
        "model": record["model_path"],
        "family": _name_family(model),
        "source": "serving-silicon",
        "work": work,
        "load": load,
        "runtime": runtime,
        "backend": "cuda",
        "era": classify_era(record["measured"]),
        "format": classify_format(identifier),
        "attention": None,
        "single_stream": False,
        "crowd": False,
        "id": record["id"],
        "quant": record["precision"],
        "count": int(tensor * data),
    }
    for phase, column in (("tpot", "silicon_tpot_ms"), ("ttft", "silicon_ttft_ms")):
        value = _float(record[column], 0.0)
        if phase == "ttft" and saturated:
            continue  # requests queue for cache: there is no steady time to a first token
        if value > 0:
            yield base | {"phase": phase, "actual": 1000.0 / value}
