"""What one measured row asks the library, in the words a caller would use, and the rate that was measured.

A row becomes the arguments of `willitrun.estimate_speed`: fit, report and the score through the public door all start
here, so that what is fitted is what a user gets. A row that cannot be asked (unknown model, device, format or runtime,
a quality flag, a load that nobody states) raises `RowSkipped` with the reason; nothing is guessed. What is left out is
left out by what a row says of itself, never by how well it is predicted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from accuracy.speed.commands import Command, read_command
from accuracy.speed.formats import is_gguf, quantization_of
from accuracy.speed.recipes import held_steps, is_drafted, is_inferencex, mean_length
from willitrun import load_catalog
from willitrun.hardware.platforms import platform_of
from willitrun.hardware.processors import cores_of, processor_of, processor_of_board
from willitrun.kernels.llm_levels import classify_era

#: (prompt, output) tokens of LocalScore's nine tests; its figures are means of the nine rates.
LOCALSCORE_TESTS = (
    (1024, 16), (4096, 256), (2048, 256), (2048, 768), (1024, 1024), (1280, 3072), (384, 1152), (64, 1024), (16, 1536),
)  # fmt: skip
#: The mean depth of the nine answers: decoding slows so little over them that one question stands for all.
LOCALSCORE_DECODE = (("cached_tokens", 1191), ("prompt_tokens", 1), ("output_tokens", 1010))

#: Spellings of runtimes in the data -> catalog ids. What is not here has no record, so nobody can ask for it.
RUNTIMES = {
    "llama.cpp": "llama.cpp",
    "llama.cpp-server": "llama.cpp",
    "llama-server": "llama.cpp",
    "llama.cpp (cpu, 2024-08)": "llama.cpp",
    "ollama/llama.cpp": "ollama",
    "ollama": "ollama",
    "lmstudio": "lm-studio",
    "ik_llama.cpp": "ik_llama.cpp",
    "llamafile/localscore": "llamafile",
    "vllm": "vllm",
    "sglang": "sglang",
    "trtllm": "tensorrt-llm",
    "tensorrt-llm": "tensorrt-llm",
    "exllamav2": "exllamav2",
    "exllama v2": "exllamav2",
    "mlx-lm": "mlx",
    "mlx-lm-0.31.2": "mlx",
    "mlx": "mlx",
    "mlc-llm": "mlc-llm",
    "mlc llm": "mlc-llm",
    "openvino-genai": "openvino",
    "transformers": "transformers",
}
GGML = frozenset({"llama.cpp", "ollama", "lm-studio", "ik_llama.cpp", "llamafile"})
SERVERS = frozenset({"vllm", "sglang", "tensorrt-llm"})
_BACKENDS = {
    "cuda": "cuda", "rocm": "rocm", "hip": "rocm", "vulkan": "vulkan", "vulcan": "vulkan", "metal": "metal",
    "mlx": "metal", "mps": "metal", "mlx4bit": "metal", "mlx8bit": "metal", "cpu": "cpu",
}  # fmt: skip
_SERVING_SYSTEMS = {
    "b200_sxm": "nvidia-b200-sxm-180gb",
    "h100_sxm": "nvidia-h100-sxm5-80gb",
    "gb200": "nvidia-gb200",
}
_SERVING_FORMATS = {"fp8": "fp8", "fp4": "nvfp4", "bf16": "bf16", "int4": "awq-int4"}
_KV_TYPES = {"q8_0": "q8_0", "q4_0": "q4_0", "fp8": "fp8", "fp8_e4m3": "fp8"}
#: Notes of the one source that states its offload: layers whose experts stay on the host, and whether MoE.
_OFFLOAD = re.compile(r"offload=(\d*);.*moe=(true|false)")
_ALL_LAYERS = frozenset({"all", "99", "999", "999999", "100"})
_BOARD = re.compile(r"\b(?:HiFive|DC-ROMA)\b|\bRISC-V\b")
_HOST = re.compile(r"\bcpu=([^;]+)")
_SYSTEM = re.compile(r"\bos=(Linux|Windows|Darwin)")
_RAM = re.compile(r"\bram=([\d.]+)GB")
#: A client takes an estimate of the network and of the server's front off what it measures, which is some tens of
#: milliseconds either way: shorter prompts tell little [s].
LEAST_PROMPT_S = 0.25
_FROM_CLIENT = "client-side measured"
#: Memory per core below which a processor's name is that of a virtual machine's host [GiB].
LEAST_RAM = 0.75
#: A prompt of this many times the answer takes about as long as it, on cards of any size.
LONG_PROMPT = 8
#: A context that a server was started with says nothing about how full it was; this sweep's is the depth.
_DEPTH_SWEEP = re.compile(r"objective=kv_dtype_sweep;.*context_len=(\d+)")
_SERVER_CONTEXT = re.compile(r"context_len=(\d+)")


class RowSkipped(Exception):
    """A row that the library cannot be asked about; the message is the reason that is counted."""


def machine_asked(
    device: str, count: int, host: tuple[tuple[str, str | int], ...], power_limit_w: float
) -> object:
    """A machine as `willitrun.describe_machine` takes it."""
    one: object = {"id": device, "power_limit": f"{power_limit_w:g} W"} if power_limit_w else device
    accelerators = [one] * count if device else []
    return {"accelerators": accelerators, "host": dict(host)} if host else accelerators


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to the library, what was measured, and where the row comes from.

    ``static_batch`` says that all prompts of the batch are prefilled together and nothing else is running, ``held_steps``
    for how many steps a server keeps requests back, which the kernel can be told and the public door cannot.
    """

    phase: str
    actual: float
    model: str
    device: str
    count: int
    host: tuple[tuple[str, str | int], ...]
    workload: tuple[tuple[str, int | float], ...]
    quantization: str
    runtime: tuple[tuple[str, object], ...]
    placement: tuple[tuple[str, object], ...]
    identifier: str
    source: str
    quant: str
    crowd: bool
    single_stream: bool
    static_batch: int = 0
    held_steps: float = 0.0
    power_limit_w: float = 0.0
    metric: str = field(default="", compare=False)

    @property
    def machine(self) -> object:
        """The machine as `willitrun.describe_machine` takes it."""
        return machine_asked(self.device, self.count, self.host, self.power_limit_w)


def _float(text: str | None, default: float) -> float:
    try:
        return float(text) if text not in (None, "") else default
    except ValueError:
        return default


def _whole(text: str | None, default: int) -> int:
    return int(_float(text, default))


@lru_cache(maxsize=256)
def _era(text: str) -> str | None:
    """The date or version as a runtime's version, where it tells the era."""
    return text if classify_era(text) else None


def _host(record: Mapping[str, str], on_cpu: bool) -> tuple[tuple[str, str | int], ...]:
    """What a row says of its host: processor, memory, system."""
    found: dict[str, str | int] = {}
    cores = None
    name = _HOST.search(record["notes"])
    if name:
        found["cpu"] = name.group(1).strip()
    elif on_cpu:
        found["cpu"] = record["device"].strip()
    if on_cpu:
        cpu = str(found.get("cpu", ""))
        cores = cores_of(cpu, load_catalog())
        known = processor_of(cpu, load_catalog()) or platform_of(cpu)
        if cores is None and not known and not cpu.startswith("Apple "):
            raise RowSkipped("processor of which neither memory nor cores are known")
        threads = _whole(record["n_threads"], 0)
        if cores is None and not threads and not cpu.startswith("Apple "):
            # Makers sell some parts to clouds alone: what a name stands for there is a share of it.
            raise RowSkipped("processor of which nobody says how many cores ran")
        if threads:
            # As many cores as it was told to use; threads beyond the cores share their vector units.
            found["cores"] = min(threads, cores) if cores else threads
    system = _SYSTEM.search(record["notes"])
    if system:
        found["os"] = system.group(1)
    ram = _RAM.search(record["notes"])
    if ram and on_cpu and cores and not found.get("cores") and float(ram.group(1)) < LEAST_RAM * cores:
        raise RowSkipped("memory of a part of the processor, and how many of its cores is not stated")
    if ram and float(ram.group(1)) >= 1:
        found["ram"] = f"{ram.group(1)} GiB"
    return tuple(found.items())


def _placement(record: Mapping[str, str], runtime: str, count: int) -> dict[str, object]:
    parallelism = record["parallelism"].lower()
    if "rpc" in parallelism or re.search(r"rpc_nodes=[1-9]", record["notes"]):
        raise RowSkipped("several machines")
    if count == 1:
        return {"strategy": "single"}
    if runtime in GGML:
        # Labelled TP by two sources, but the program of the time splits by layers unless told otherwise.
        return {"strategy": "layer"}
    if parallelism.startswith("tp") or runtime in SERVERS:
        return {"tp": count}
    raise RowSkipped("unknown parallelism")


def _offload(record: Mapping[str, str], command: Command, runtime: str, placement: dict[str, object]) -> bool:
    """Write what lies on the host into the placement; True where anything does."""
    if command.by_pattern:
        raise RowSkipped("tensors placed by a pattern of names")
    if command.cpu_moe_layers and record["cpu_offload_ngl"] in {"", *_ALL_LAYERS} and runtime in GGML:
        placement |= {"gpu_layers": 999, "cpu_moe_layers": command.cpu_moe_layers}
        return True
    stated = _OFFLOAD.search(record["notes"])
    layers = record["cpu_offload_ngl"]
    if stated and record["qc_flag"]:
        if stated.group(2) == "true":
            if not stated.group(1):
                raise RowSkipped("offload of experts not stated")
            placement["cpu_moe_layers"] = int(stated.group(1))
        elif not layers.isdigit():
            raise RowSkipped("offload of layers not stated")
        else:
            placement["gpu_layers"] = int(layers)
        return True
    if layers in _ALL_LAYERS and runtime in GGML:
        placement["gpu_layers"] = 999
        placement["cpu_moe_layers"] = 0
    elif layers.isdigit() and int(layers) > 0:
        placement["gpu_layers"] = int(layers)
        return True
    elif layers == "0":
        raise RowSkipped("accelerator that holds no layer")
    elif layers and layers not in _ALL_LAYERS:
        raise RowSkipped("offload of layers not stated")
    return False


def _prompt_in_time(record: Mapping[str, str]) -> bool:
    """Whether a user's rate may count the time of a prompt much longer than the answer: llama-bench times them apart."""
    if "llama-bench" in record["notes"]:
        return False
    prompt, output = _whole(record["prompt_tokens"], 0), _whole(record["gen_tokens"], 0)
    return prompt >= LONG_PROMPT * max(output, 1)


def ask_single(record: Mapping[str, str]) -> Iterator[Ask]:
    """The questions of one row of ``llm_speed.csv``."""
    stated = _OFFLOAD.search(record["notes"])
    # "spill-suspect" marks files larger than the card; where the offload is stated there is nothing to suspect.
    if record["qc_flag"] and not (stated and record["qc_flag"] == "spill-suspect;"):
        raise RowSkipped("quality flag")
    command = read_command(record["notes"])
    if record["spec_decode"] or command.drafts:
        raise RowSkipped("speculative decoding whose cost per draft is not stated")
    runtime = RUNTIMES.get(record["runtime"].lower())
    if runtime is None:
        raise RowSkipped("runtime without a record")
    quantization = quantization_of(record["quant"])
    if quantization is None:
        raise RowSkipped("format without a rule")
    if runtime in GGML and not is_gguf(quantization):
        raise RowSkipped("format without a rule")
    if not record["model_norm"]:
        raise RowSkipped("model not named")
    if "super" in record["device"].lower() and "super" not in record["hardware_id"]:
        raise RowSkipped("device joined to another variant")
    if "kernel GEMV" in record["notes"]:
        raise RowSkipped("kernel made for one sequence")
    metric = record["metric_def"]
    prompt, output = _whole(record["prompt_tokens"], 0), _whole(record["gen_tokens"], 0)
    batch = _whole(record["batch_size_concurrency"], 1)
    if "kind=single_stream" in record["notes"] and batch > 1:
        raise RowSkipped("one stream of several sequences")
    if metric.startswith("llama-benchy") and batch > 1:
        raise RowSkipped("server load with prompts that are not stated")
    if metric.startswith("tok/s out") and record["phase"] == "decode" and _prompt_in_time(record):
        raise RowSkipped("rate of an answer after a long prompt, whose time may be in it")
    if metric.startswith("end-to-end") and record["phase"] == "decode":
        raise RowSkipped("end-to-end decode figure")
    if record["prompt_tokens"] and record["gen_tokens"] and not prompt and not output:
        raise RowSkipped("neither prompt nor answer stated")
    if "/" in record["backend"]:
        raise RowSkipped("several back ends named")
    backend = _BACKENDS.get(record["backend"].lower())
    on_cpu = backend == "cpu"
    device = "" if on_cpu else record["hardware_id"]
    if not on_cpu and not device:
        raise RowSkipped("device without a record")
    host = record["device"].partition("(")[0]
    if not on_cpu and (processor_of_board(host) or _BOARD.search(host) or "Raspberry Pi" in record["notes"]):
        # One PCIe lane and drivers that work around the board's incoherent memory: not what the card does elsewhere.
        raise RowSkipped("card on a single-board computer")
    count = 1 if on_cpu else _whole(record["device_count"], 1)
    placement = _placement(record, runtime, count)
    offload = False if on_cpu else _offload(record, command, runtime, placement)
    options: dict[str, object] = {
        "name": runtime,
        "backend": backend,
        "version": _era(record["date_or_version"]),
    }
    options["flash_attention"] = {"1.0": True, "0.0": False}.get(record["flash_attn"])
    if (record["n_ubatch"] or command.microbatch) and runtime in GGML:
        options["n_ubatch"] = _whole(record["n_ubatch"], command.microbatch or 512)
    kv = _KV_TYPES.get(record["kv_cache_type"].lower().split("/")[0])
    if kv and (runtime in GGML) != (kv == "fp8"):
        options["kv_dtype_k"] = options["kv_dtype_v"] = kv
    value = float(record["value_tok_s"])
    if not value > 0:
        raise RowSkipped("no value")
    depth = _whole(record["context_depth"], -1 if command.depth is None else command.depth)
    phase, static = record["phase"], 0
    if phase == "decode":
        # llama-bench states the depth at which a run starts; others only the prompt before it.
        start = depth if depth >= 0 else prompt
        sweep = _DEPTH_SWEEP.search(record["notes"])
        if sweep:
            start = int(sweep.group(1))
        load = {
            "cached_tokens": start,
            "prompt_tokens": 1,
            "output_tokens": output or 128,
            "concurrency": batch,
        }
    elif phase == "prefill":
        if _FROM_CLIENT in record["notes"] and prompt * batch < LEAST_PROMPT_S * value:
            raise RowSkipped("prompt too short to time from the client")
        if _SERVER_CONTEXT.search(record["notes"]) and not prompt:
            raise RowSkipped("prompt not stated")
        load = {"prompt_tokens": prompt or 512, "output_tokens": 1, "concurrency": batch}
        load["cached_tokens"] = depth if depth > 0 and depth != prompt else 0
        static = batch
    elif metric.startswith("(input+output)"):
        if runtime in GGML:
            raise RowSkipped("server parallelism not described")
        phase, static = "static", batch
        value = value / ((prompt + output) * batch)  # batches per second
        load = {"prompt_tokens": prompt, "output_tokens": output, "concurrency": batch}
    else:
        raise RowSkipped("throughput at an unknown load")
    common = {
        "phase": f"offload-{phase}" if offload else phase,
        "actual": value,
        "model": record["model_norm"],
        "device": device,
        "count": count,
        "host": _host(record, on_cpu),
        "quantization": quantization,
        "runtime": tuple((name, option) for name, option in options.items() if option is not None),
        "placement": tuple(placement.items()),
        "identifier": record["row_id"],
        "source": record["source_id"],
        "quant": record["quant"],
        # A processor's memory is assumed, so its rows say as little as unchecked ones.
        "crowd": record["reliability"] == "C" or on_cpu,
        "single_stream": count == 1 and batch == 1,
        "static_batch": static,
        "power_limit_w": _float(record["power_limit_w"], 0.0) if device else 0.0,
        "metric": metric,
    }
    if metric.startswith("LocalScore"):
        if phase == "decode":
            yield Ask(**common, workload=LOCALSCORE_DECODE)  # type: ignore[arg-type]
            return
        for tokens, _ in LOCALSCORE_TESTS:
            one = {"prompt_tokens": tokens, "output_tokens": 1}
            yield Ask(**common, workload=tuple(one.items()))  # type: ignore[arg-type]
        return
    yield Ask(**common, workload=tuple(load.items()))  # type: ignore[arg-type]


def ask_serving(record: Mapping[str, str]) -> Iterator[Ask]:
    """The questions of one row of ``serving_speed.csv``: time per output token, time to first token."""
    if record["label_suspect"] == "1":
        raise RowSkipped("suspect label")
    tensor, data = _whole(record["tp_size"], 1), _whole(record["attention_dp_size"], 1)
    moe_tensor, moe_expert = _whole(record["moe_tp_size"], 1), _whole(record["moe_ep_size"], 1)
    shards = max(moe_tensor * moe_expert, 1)
    if tensor * data > 8:
        if moe_tensor != moe_expert:
            raise RowSkipped("mislabelled parallelism")
        # The dump multiplies what its source states: experts over as many accelerators as attention (the same
        # measurements stand there once more with that label).
        tensor, data = (moe_tensor, 1) if data == 1 else (1, moe_tensor)
    if shards > tensor * data and moe_tensor == moe_expert:
        shards = moe_tensor
    if is_drafted(record, tensor, moe_expert):
        raise RowSkipped("speculative decoding whose cost per draft is not stated")
    concurrency = _whole(record["concurrency"], 0) or _whole(record["batch_size"], 1) * data
    placement = {"tp": tensor, "dp": data, "ep": max(shards, tensor)}
    kv = "fp8" if record["precision"] in {"fp8", "fp4"} else None
    options = {
        "name": RUNTIMES[record["backend"]],
        "backend": "cuda",
        "version": _era(record["measured"]),
        "kv_dtype_k": kv,
        "kv_dtype_v": kv,
    }
    prompt, output = _whole(record["isl"], 1), _whole(record["osl"], 1)
    held = 0.0
    if is_inferencex(prompt, output):
        held = held_steps(record, tensor, data, concurrency)
        prompt, output = mean_length(prompt), mean_length(output)
    load = {"prompt_tokens": prompt, "output_tokens": output, "concurrency": concurrency}
    for phase, column in (("tpot", "silicon_tpot_ms"), ("ttft", "silicon_ttft_ms")):
        value = _float(record[column], 0.0)
        if value > 0:
            yield Ask(
                phase=phase,
                actual=1000.0 / value,
                model=record["model_path"],
                device=_SERVING_SYSTEMS.get(record["system"], ""),
                count=tensor * data,
                host=(),
                workload=tuple(load.items()),
                quantization=_SERVING_FORMATS[record["precision"]],
                runtime=tuple((name, option) for name, option in options.items() if option is not None),
                placement=tuple(placement.items()),
                identifier=record["id"],
                source="serving-silicon",
                quant=record["precision"],
                crowd=False,
                single_stream=False,
                held_steps=held,
            )
