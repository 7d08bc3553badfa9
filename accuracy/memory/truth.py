"""Predicted against allocated: full-size models without data in a real llama.cpp.

Run ``python -m accuracy.memory.truth``. It builds llama.cpp where the user's cache has none (`llamacpp_build`), writes
a sparse GGUF per model (`sparse_gguf`), loads it on the CPU and on devices that hold nothing (``probe/null_device.c``),
and compares what llama.cpp says that it allocated with what `willitrun.estimate_memory` says. It fails where weights or
a cache are off at all, or where fewer compute buffers agree than did before. Files hold the text part of a model, and
so does the prediction: a vision tower is a file of its own.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accuracy.memory.llamacpp_build import LLAMA_CPP, VERSION, build_probe
from accuracy.memory.llamacpp_probe import MIB, Allocation, Options, allocations
from accuracy.memory.sparse_gguf import DIALECTS, write_sparse
from willitrun import Placement, Runtime, Workload, describe_machine, estimate_memory, load_catalog
from willitrun.estimators.workloads import ENCODER_TASKS
from willitrun.records.results import MemoryEstimate

__all__ = ["Comparison", "compare", "main"]

KINDS = {"1": "f16", "8": "q8_0", "2": "q4_0"}
OWED_COMPUTE = 0.90
HELD_COMPUTE = 1.0
"""What held when this was last run, of all models: less is a loss and fails."""
TOLERANCE = 0.01
ROUNDING = 0.0051 * MIB
"""Sizes are printed to two decimals of a MiB; buffers of several devices add theirs."""


def _grid(**fixed: int | str) -> list[Options]:
    return [
        {**fixed, "n_ctx": context, "n_ubatch": batch, "flash": flash}
        for context in (4096, 32768)
        for batch in (128, 512, 2048)
        for flash in (0, 1)
    ]


def _cases(devices: str | None, quantized_cache: bool) -> list[Options]:
    """What every model is loaded with: contexts, batches and flash attention, then one option at a time."""
    placed: dict[str, int | str] = {"devices": devices, "n_gpu_layers": 999} if devices else {}
    one: dict[str, int | str] = {**placed, "n_ctx": 32768, "n_ubatch": 512, "flash": 1}
    return [
        *_grid(**placed),
        one | {"n_seq_max": 4},
        one | {"n_seq_max": 4, "kv_unified": 1},
        one | ({"type_k": 8, "type_v": 8} if quantized_cache else {"n_ubatch": 1024}),
        one | {"n_ctx": 16384, "swa_full": 1},
        one | {"n_ctx": 131072},
        one | {"n_ctx": 1000, "n_ubatch": 256, "flash": 0},
    ]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One load: allocated and predicted bytes of each part, on the devices."""

    model: str
    options: Options
    weights: tuple[float, float]
    padding: int
    """The most that buffers of a device align and pad the file's tensors with; 0 where the file is mapped."""
    cache: tuple[float, float]
    compute: tuple[float, float]

    @property
    def weights_exact(self) -> bool:
        """Weights agree to print precision, but for what a device pads."""
        return -2 * ROUNDING <= self.weights[0] - self.weights[1] <= self.padding + 2 * ROUNDING

    @property
    def cache_exact(self) -> bool:
        """KV cache and recurrent state agree to print precision."""
        return abs(self.cache[0] - self.cache[1]) <= 3 * ROUNDING

    @property
    def compute_error(self) -> float:
        """Predicted over allocated, less one."""
        return self.compute[1] / self.compute[0] - 1

    @property
    def weights_error(self) -> float:
        """Predicted less allocated [bytes]."""
        return self.weights[1] - self.weights[0]


def predict(model: str, options: Options) -> MemoryEstimate:
    """What a user gets for the text part of a model under these options, through the public door."""
    record = load_catalog().models[model]
    assert record.transformer is not None
    text = DIALECTS[model].apply(record.transformer)
    slots = int(options.get("n_seq_max", 1))
    unified = bool(options.get("kv_unified", 0)) or slots == 1
    devices = len(str(options["devices"]).split(",")) if "devices" in options else 0
    machine = describe_machine(
        {
            "name": "null",
            "accelerators": ["nvidia-geforce-rtx-4090"] * devices,
            "host": {"ram": "8192 GiB", "cpu": "any", "cores": 8, "memory_bandwidth": "80 GB/s"},
        }
    )
    encoder = record.task in ENCODER_TASKS
    load = {"context_tokens": int(options["n_ctx"]) // slots, "prompt_tokens": 1}
    return estimate_memory(
        record.model_copy(update={"transformer": text}),
        machine,
        Workload(**load, **({} if encoder else {"output_tokens": 1})),
        quantization="q8_0",
        runtime=Runtime(
            name="llama.cpp",
            backend="cuda" if devices else "cpu",
            n_ubatch=min(int(options["n_ubatch"]), int(options["n_ctx"])),
            n_seq_max=slots,
            kv_unified=unified,
            kv_dtype_k=KINDS[str(options.get("type_k", 1))],
            kv_dtype_v=KINDS[str(options.get("type_v", 1))],
            flash_attention=bool(options["flash"]),
            swa_full=bool(options.get("swa_full", 0)),
        ),
        placement=Placement(gpu_layers=999, cpu_moe_layers=0) if devices else None,
    )


def _compare(model: str, found: Allocation, padding: int) -> Comparison:
    estimate = predict(model, found.options)
    weights = sum(device.weights_bytes for device in estimate.per_device)
    cache = sum(device.kv_cache_bytes + device.state_bytes for device in estimate.per_device)
    compute = sum(device.activation_bytes for device in estimate.per_device)
    return Comparison(
        model,
        found.options,
        (found.on_devices("weights"), float(weights)),
        padding if "devices" in found.options else 0,
        (found.cache_bytes + found.on_devices("state"), float(cache)),
        (found.on_devices("compute"), float(compute)),
    )


def compare(model: str, probe: Path, devices: Sequence[str | None] = (None, "24")) -> Iterator[Comparison]:
    """Load one model in every case and set the prediction beside it."""
    record = load_catalog().models[model]
    assert record.transformer is not None
    config = DIALECTS[model].apply(record.transformer)
    # A quantized cache stores blocks of 32 within a head.
    head = config.head_dim or config.hidden_size // (config.num_attention_heads or config.hidden_size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{model}.gguf"
        padding = write_sparse(path, config, DIALECTS[model], native=record.quantization)
        for device in devices:
            try:
                every = allocations(probe, path, _cases(device, head % 32 == 0))
            except RuntimeError:
                # This llama.cpp aborts on a quantized cache of some models (granite-3.0-1b-a400m); the rest must load.
                print(f"{model}: without a quantized cache", file=sys.stderr)
                every = allocations(probe, path, _cases(device, False))
            for found in every:
                yield _compare(model, found, padding)


FIELDS = ("n_ctx", "n_ubatch", "flash", "n_seq_max", "kv_unified", "type_k", "type_v", "swa_full")
_HEADER = f"""\
# What a real llama.cpp allocated for full-size models without data, Q8_0: bytes of cache and state, and of the compute
# buffer, on one null device (devices = 24) or on the CPU. Empty options are the defaults of llama.h; type 8 is q8_0.
# Derivation: cells x (K + V elements x bytes) summed over layers; the largest stage of the graph (kernels/kv_cells.py,
# kernels/compute_buffers.py). Source: llama.cpp {LLAMA_CPP} of llama-cpp-python {VERSION}, written by
# `python -m accuracy.memory.truth --vectors FILE`.
"""


def _write_vectors(path: Path, found: Sequence[Comparison]) -> None:
    """Every third load of a model and every one with an option of its own."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(_HEADER)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("model", "devices", *FIELDS, "cache_mib", "compute_mib"))
        for number, item in enumerate(found):
            if number % 3 and len(item.options) <= 5:
                continue
            options = [item.options.get(name, "") for name in ("devices", *FIELDS)]
            writer.writerow(
                (item.model, *options, f"{item.cache[0] / MIB:.2f}", f"{item.compute[0] / MIB:.4f}")
            )


def main() -> int:
    """Print a line per model; 1 where less than the owed share agrees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=sorted(DIALECTS))
    parser.add_argument("--one-of", type=int, default=1, metavar="N", help="load every Nth model only")
    parser.add_argument("--vectors", type=Path, help="write the loads as conformance vectors to this file")
    parser.add_argument("--verbose", action="store_true", help="print every case that is off")
    arguments = parser.parse_args()
    probe = build_probe()
    print(f"llama.cpp {LLAMA_CPP}, of llama-cpp-python {VERSION}\n")
    print("| model | loads | weights exact | KV and state exact | compute within 1 % | worst |")
    print("|---|---:|---:|---:|---:|---:|")
    every: list[Comparison] = []
    for model in arguments.models[:: arguments.one_of]:
        found = list(compare(model, probe))
        every += found
        error = np.array([item.compute_error for item in found])
        print(
            f"| {model} | {len(found)} | {np.mean([item.weights_exact for item in found]):.0%} "
            f"| {np.mean([item.cache_exact for item in found]):.0%} | {np.mean(abs(error) <= TOLERANCE):.0%} "
            f"| {error[abs(error).argmax()]:+.1%} |",
            flush=True,
        )
        for item in found if arguments.verbose else ():
            if not (item.weights_exact and item.cache_exact) or abs(item.compute_error) > TOLERANCE:
                print(
                    f"  {item.model} {dict(item.options)} weights off {item.weights_error:.0f} cache {item.cache[0] / MIB:.2f} {item.cache[1] / MIB:.2f} "
                    f"compute {item.compute[0] / MIB:.2f} {item.compute[1] / MIB:.2f}",
                    file=sys.stderr,
                )
    if arguments.vectors:
        _write_vectors(arguments.vectors, every)
    weights = np.mean([item.weights_exact for item in every])
    cache = np.mean([item.cache_exact for item in every])
    compute = np.mean([abs(item.compute_error) <= TOLERANCE for item in every])
    print(
        f"\n{len(every)} loads: weights exact {weights:.1%}, KV and state exact {cache:.1%}, "
        f"compute buffers within 1 % {compute:.1%}"
    )
    if compute < OWED_COMPUTE:
        print(f"Compute buffers miss the {OWED_COMPUTE:.0%} that are owed.")
    # What held is known of all models together; of some of them what is owed must hold.
    least = HELD_COMPUTE if arguments.models == sorted(DIALECTS) and arguments.one_of == 1 else OWED_COMPUTE
    return int(weights < 1.0 or cache < 1.0 or compute < least)


if __name__ == "__main__":
    sys.exit(main())
