"""Fit what has no rule and write ``catalogs/calibrations/memory.toml``.

Run ``python -m accuracy.memory.fit --data ../shared/data``. Ranges are 5 % and 95 % quantiles over
configurations with the finite-sample correction of conformal prediction, asymmetric: the lowest and the highest
row of a configuration count for the ends, its median for the best estimate.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from accuracy.memory import diffusion, finetuning, gguf, llamacpp, loads, pytorch, vllm
from accuracy.memory.formats import ROOT
from willitrun.estimators.overheads import SYMMETRIC_MEMORY

__all__ = ["fit", "main", "publisher_mixes", "size_range", "size_ranges"]

MIB, GIB = 2**20, 2**30

# Read off start-up logs and maintainers' statements collected in mem_overhead.csv and the load logs: bytes.
CONTEXTS: dict[str, tuple[float, float, float, int]] = {
    "context.llama.cpp.linux": (113 * MIB, 300 * MIB, 723 * MIB, 5),
    "context.llama.cpp.windows": (450 * MIB, 700 * MIB, 1200 * MIB, 3),
    "context.llama.cpp.macos": (0, 32 * MIB, 160 * MIB, 2),
    "context.pytorch.linux": (274 * MIB, 350 * MIB, 1403 * MIB, 7),
    "context.pytorch.windows": (350 * MIB, 600 * MIB, 1200 * MIB, 3),
}


def _quantile(values: Iterable[float], level: float) -> float:
    """Conformal quantile: the finite-sample rank, outwards; the extreme value where the sample is small."""
    array = np.asarray(sorted(values), dtype=np.float64)
    count = len(array)
    rank = np.ceil((count + 1) * level) if level > 0.5 else np.floor((count + 1) * level)
    return float(array[int(np.clip(rank, 1, count)) - 1])


PRINTED = 1e-3
"""Logs print hundredths of MiB: a median this near one is one."""


def _range(values: Iterable[float]) -> dict[str, float]:
    found = spread((number, value) for number, value in enumerate(values))
    return found | {"best": 1.0} if abs(found["best"] - 1) < PRINTED else found


def spread(pairs: Iterable[tuple[object, float]]) -> dict[str, float]:
    """Range of one value per configuration: its median for the best, its extremes for the ends."""
    groups: dict[object, list[float]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(float(value))
    low = _quantile((min(values) for values in groups.values()), 0.05)
    high = _quantile((max(values) for values in groups.values()), 0.95)
    best = float(np.median([np.median(values) for values in groups.values()]))
    inside = [low <= value <= high for values in groups.values() for value in values]
    return {
        "low": min(low, best),
        "best": best,
        "high": max(high, best),
        "n": len(groups),
        "coverage": float(np.mean(inside)),
    }


SIZE_CLASSES = ("ud-low", "ud-middle", "ud-high", "large-embedding")


def size_class(quantization: str) -> str:
    """Which publisher's habit a mix follows: Unsloth's dynamic ones, bartowski's large ones, by bits."""
    if quantization.startswith("ud-"):
        bits = re.search(r"q(\d)", quantization)
        number = int(bits.group(1)) if bits else 4
        return "ud-low" if number <= 3 else "ud-high" if number >= 6 else "ud-middle"
    return "large-embedding"


ENOUGH_MIXES = 10
"""Configurations from which on a publisher's mix gets a range of its own."""


def publisher_mixes(data: Path) -> list[gguf.Sized]:
    """Files whose name says that a publisher chose the types: Unsloth's dynamic ones, bartowski's large ones."""
    return [
        sized
        for sized in gguf.score(data / "mem_gguf_sizes.csv", data / "models.jsonl")
        if not sized.standard
        and 0.75 < sized.ratio < 1.5
        and (sized.quantization.startswith("ud-") or sized.quantization.endswith(("_l", "_xl")))
    ]


def size_ranges(files: Iterable[gguf.Sized]) -> dict[str, dict[str, float]]:
    """Measured over predicted size by mix and by class of mixes.

    The best factor is the mix's own median. The width is learnt over all mixes of a class, one value per model:
    a publisher treats a model alike in all of its files, so models are what is exchangeable.
    """
    scored = list(files)
    own: dict[str, list[float]] = defaultdict(list)
    for sized in scored:
        own[sized.quantization].append(sized.ratio)
        own[size_class(sized.quantization)].append(sized.ratio)
    centre = {name: float(np.median(values)) for name, values in own.items()}
    around: dict[str, list[tuple[object, float]]] = defaultdict(list)
    for sized in scored:
        relative = sized.ratio / centre[sized.quantization]
        around[size_class(sized.quantization)].append((sized.matched, relative))
        around[""].append((sized.matched, relative))
    widths = {name: spread(pairs) for name, pairs in around.items()}
    found = {"gguf-size": widths[""]}
    for name, values in own.items():
        width = widths[size_class(name)] if name not in SIZE_CLASSES else widths[name]
        best = centre[name]
        if name in SIZE_CLASSES or len(values) >= ENOUGH_MIXES:
            found[f"gguf-size.{name}"] = {
                "low": best * width["low"],
                "best": best,
                "high": best * width["high"],
                "n": len(values),
                "coverage": width["coverage"],
            }
    return found


def size_range(quantization: str, ranges: dict[str, dict[str, float]]) -> dict[str, float]:
    """The range of one mix, or of its class."""
    return ranges.get(f"gguf-size.{quantization}") or ranges[f"gguf-size.{size_class(quantization)}"]


def _buffers(data: Path) -> tuple[dict[str, dict[str, float]], list[dict[str, object]]]:
    compute: list[float] = []
    total: list[float] = []
    partial: list[float] = []
    for load in loads.loads(data / "mem_llamacpp.csv"):
        # A log of several loads prints the layers of one and the buffers of another: its cache tells.
        if abs(load.ratio("cache") - 1) > 0.01:
            continue
        (compute if load.where == "all layers on GPU" else partial).append(1 / load.ratio("buffers"))
    residuals: list[dict[str, object]] = []
    for log in llamacpp.score(data / "mem_llamacpp.csv"):
        if log.flagged or not log.devices or log.compute_predicted <= 0 or log.engine.startswith("ik"):
            continue
        if log.whole:
            total.append(1 / log.sum_ratio)
            if abs(log.sum_ratio - 1) > 0.01:
                residuals.append({"row": log.row, "term": "sum", "ratio": round(1 / log.sum_ratio, 4)})
    ranges = {
        "compute-buffer.llama.cpp": _range(compute),
        "total.llama.cpp": _range(total),
        "compute-buffer.llama.cpp.partial": _range(partial),
    }
    return ranges, residuals


def _transformers(data: Path) -> dict[str, dict[str, float]]:
    peaks: dict[str, list[tuple[object, float]]] = defaultdict(list)
    runs: dict[tuple[str, ...], dict[str, pytorch.Peak]] = defaultdict(dict)
    for peak in pytorch.score(data / "mem_other.csv", data / "models.jsonl"):
        if peak.devices != 1:
            continue
        stage, _, metric = peak.metric.partition(".")
        key = (peak.model, peak.sequences, peak.tokens)
        if "max_memory_allocated" in peak.metric:
            peaks["peak.transformers"].append((key, peak.ratio))
        elif "speed benchmark" in peak.domain:
            peaks["peak.transformers.tables"].append((key, peak.ratio))
        runs[(peak.run, stage)][metric.partition("(")[0]] = peak
    for (_, stage), metrics in runs.items():
        allocated, reserved = metrics.get("max_memory_allocated"), metrics.get("max_memory_reserved")
        if allocated is None or reserved is None:
            continue
        # Weights are allocated once; holes come from what comes and goes.
        live = allocated.measured_bytes - allocated.weights_bytes
        if live > 0:
            share = (reserved.measured_bytes - allocated.measured_bytes) / live
            key = (allocated.model, allocated.sequences, allocated.tokens)
            peaks[f"slack.transformers.{stage}"].append((key, share))
    return {name: spread(pairs) for name, pairs in peaks.items()}


def _vllm(data: Path) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    table = pd.read_csv(data / "mem_vllm.csv")
    era = table.vllm_version.astype(str).str.extract(r"(\d+)\.(\d+)").astype(float)
    new = era[1] >= vllm.SAMPLER_CHANGED[1]
    start = {
        "vllm.sampler_bytes": 14.1,
        "vllm.sampler_bytes_before_0.12": 38.4,
        "vllm.forward_copies": 8.0,
        "vllm.activation_base_bytes": 0.05 * GIB,
        "vllm.non_torch_bytes": float(table[(table.tp == 1) & (era[1] >= 6)].non_torch_gib.median() * GIB),
        "vllm.non_torch_tp_bytes": float(table[(table.tp > 1) & new].non_torch_gib.median() * GIB),
    }
    logs = list(vllm.score(data / "mem_vllm.csv", data / "models.jsonl", start))
    fresh = [log for log in logs if log.version.startswith("v0.19") and log.activation_printed > 0]
    # Two unknowns, the slope over vocabulary and the constant: a robust line through medians per model.
    by_model = {log.model: (log.activation_predicted, log.activation_printed) for log in fresh}
    pairs = np.array(list(by_model.values()))
    slope, base = np.polyfit(pairs[:, 0] - start["vllm.activation_base_bytes"] / GIB, pairs[:, 1], 1)
    fitted = dict(start)
    fitted["vllm.sampler_bytes"] = float(start["vllm.sampler_bytes"] * slope)
    fitted["vllm.activation_base_bytes"] = float(max(base, 0.0) * GIB)
    logs = list(vllm.score(data / "mem_vllm.csv", data / "models.jsonl", fitted))
    ratio = [
        ((log.model, log.version), log.activation_printed / log.activation_predicted)
        for log in logs
        if log.activation_printed > 0 and not log.multimodal
    ]
    tokens = [
        ((log.model, log.version), log.pool_printed / log.pool_predicted)
        for log in logs
        if log.pool_printed > 0.5 and log.pool_predicted > 0.5
    ]
    graphs = table.cudagraph_gib[(table.cudagraph_gib > 0)].dropna() * GIB
    single = table.non_torch_gib[(table.tp == 1)].dropna() * GIB
    # Before 0.7 the line also counted the device context: https://github.com/vllm-project/vllm/pull/12126
    many = table[(table.tp > 1) & table.non_torch_gib.notna() & (era[1] >= 7)]
    machines = zip(many.vllm_version.astype(str), many.gpu_total_gib, many.non_torch_gib * GIB, strict=True)
    parallel = [((version, total), held) for version, total, held in machines]
    newer = era[1][many.index] >= SYMMETRIC_MEMORY[1]
    hopper = many[newer & many.gpu.astype(str).str.contains("h100", case=False)]
    ranges = {
        "activation.vllm": spread(ratio),
        "kv-pool.vllm": spread(tokens),
        "graphs.vllm": _range(graphs),
        "non-torch.vllm.single": _range(single),
        "non-torch.vllm.parallel": spread(parallel),
        "non-torch.vllm.parallel.symmetric": _range(hopper.non_torch_gib * GIB),
    }
    return fitted, ranges


def fit(data: Path) -> str:
    """The calibration as TOML text."""
    coefficients, ranges = _vllm(data)
    buffers, residuals = _buffers(data)
    ranges |= buffers | size_ranges(publisher_mixes(data)) | _transformers(data)
    coefficients |= diffusion.fit(data / "mem_diffusion.csv")
    stages = diffusion.score(data / "mem_diffusion.csv", coefficients)
    ranges["live.diffusion"] = _range(stage.live_ratio for stage in stages)
    runs = ((re.sub(r"_mbc\d+", "", run.name), run.ratio) for run in finetuning.score(data / "mem_other.csv"))
    ranges["peak.training"] = spread(runs)
    ranges |= {
        name: {"low": low, "best": best, "high": high, "n": n, "coverage": 1.0}
        for name, (low, best, high, n) in CONTEXTS.items()
    }
    files = sorted(data.glob("mem_*.csv"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    rows = sum(len(pd.read_csv(path, low_memory=False)) for path in files)
    lines = [
        "# Fitted numbers, not facts. Written by `python -m accuracy.memory.fit`; do not edit by hand.",
        'id = "memory"',
        'kind = "memory"',
        'method = """Conformal quantiles 5 and 95 % and the median over configurations. Intervals named context.*, graphs.* and '
        "non-torch.* are additive bytes; all others are factors on the predicted bytes (measured over predicted). "
        'vLLM: line through activation peaks over vocabulary. Diffusion: bytes per pixel by family."""',
        f"fitted = {date(2026, 11, 24).isoformat()}",
        f'data_digest = "sha256:{digest}"',
        f"n_rows = {rows}",
        f"n_configurations = {sum(int(entry['n']) for entry in ranges.values())}",
        "",
        "[coefficients]",
        *(f'"{name}" = {value:.6g}' for name, value in sorted(coefficients.items())),
        "",
    ]
    for name, entry in sorted(ranges.items()):
        body = ", ".join(f"{key} = {_plain(value)}" for key, value in entry.items())
        lines.append(f'intervals."{name}" = {{ {body} }}')
    head = lines.index("[coefficients]")
    moved = [line for line in lines if line.startswith("intervals.")]
    lines = [line for line in lines if not line.startswith("intervals.")]
    lines[head:head] = [*moved, ""]
    for entry in residuals:
        lines += ["", "[[residuals]]", *(f"{key} = {_toml(value)}" for key, value in entry.items())]
    return "\n".join(lines) + "\n"


def _plain(value: float) -> str:
    return str(round(value)) if value > 1000 or value == int(value) else f"{value:.5f}"


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    text = fit(arguments.data)
    target = ROOT / "catalogs" / "calibrations" / "memory.toml"
    target.write_text(text, encoding="utf-8")
    print(f"{target.relative_to(ROOT)}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
