"""Measurements as columns: work, rates, load, level codes and what was measured, one block for kernel and fit.

A row that cannot be described (unknown model, device or format, a flag, speculative decoding) is skipped and
counted by reason, never guessed.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.speed.architectures import load_models
from accuracy.speed.devices import DEFAULT_HOST_BYTES_PER_S, load_devices
from accuracy.speed.rows import RowSkipped, describe_serving, describe_single
from willitrun.kernels.llm_inputs import LlmLoad, LlmRates, LlmWork
from willitrun.kernels.llm_levels import AXES, level_code
from willitrun.kernels.llm_peaks import select_compute_peak

DATA_FILES = ("llm_speed.csv", "serving_speed.csv", "hardware.csv", "models.jsonl")
PHASES = ("decode", "prefill", "offload-decode", "offload-prefill", "static", "tpot", "ttft")


@dataclass(frozen=True, slots=True)
class Observations:
    """Measured rows as columns. ``row`` maps a kernel row to its observation (LocalScore has nine each)."""

    work: LlmWork
    rates: LlmRates
    load: LlmLoad
    codes: dict[str, np.ndarray]
    row: np.ndarray
    phase: np.ndarray
    actual: np.ndarray  # a rate: tokens/s, or 1/s for latencies
    device: np.ndarray
    model: np.ndarray
    family: np.ndarray
    source: np.ndarray
    vendor_class: np.ndarray
    configuration: np.ndarray
    single_stream: np.ndarray
    crowd: np.ndarray
    identifier: np.ndarray
    skipped: dict[str, int]

    def __len__(self) -> int:
        return len(self.actual)


def digest_data(folder: Path) -> str:
    """Return the sha256 over the data files that the fit reads, names and contents in order."""
    total = hashlib.sha256()
    for name in DATA_FILES:
        total.update(name.encode())
        total.update((folder / name).read_bytes())
    return f"sha256:{total.hexdigest()}"


def load_observations(folder: Path) -> Observations:
    """Read the calibration data of ``folder`` into columns."""
    devices = load_devices(folder / "hardware.csv")
    models = load_models(folder / "models.jsonl")
    skipped: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for name, describe in (("llm_speed.csv", describe_single), ("serving_speed.csv", describe_serving)):
        with (folder / name).open(encoding="utf-8", newline="") as stream:
            for record in csv.DictReader(stream):
                try:
                    rows.extend(describe(record, devices, models))
                except RowSkipped as reason:
                    skipped[f"{name}: {reason}"] += 1
    return pack_rows(rows, dict(skipped))


def pack_rows(rows: list[dict[str, Any]], skipped: dict[str, int]) -> Observations:
    """Return rows as columns; consecutive rows of one identifier and phase are parts of one observation."""
    keys = [(row["id"], row["phase"]) for row in rows]
    first = [i for i, key in enumerate(keys) if i == 0 or keys[i - 1] != key]
    owner = np.zeros(len(rows), dtype=np.int64)
    owner[first[1:]] = 1
    owner = np.cumsum(owner)
    heads = [rows[i] for i in first]

    def column(values: Any) -> np.ndarray:
        return np.array(list(values), dtype=np.float64)

    codes = {
        "vendor": [level_code("vendor", r["device"]["vendor"]) for r in rows],
        "memory_class": [level_code("memory_class", r["device"]["memory_class"]) for r in rows],
        "generation": [level_code("generation", r["device"]["generation"]) for r in rows],
        "kind": [level_code("kind", "moe" if r["work"]["n_experts"] > 1 else "dense") for r in rows],
        **{
            axis: [level_code(axis, r[axis]) for r in rows]
            for axis in ("runtime", "backend", "era", "format", "attention")
        },
    }
    packed = {axis: np.array(codes[axis], dtype=np.int64) for axis in AXES}

    def peak(name: str) -> np.ndarray:
        return column(r["device"][name] for r in rows)

    compute = select_compute_peak(
        int8_ops_per_s=peak("int8"),
        fp8_flop_per_s=peak("fp8"),
        fp4_flop_per_s=peak("fp4"),
        fp16_flop_per_s=peak("fp16"),
        fp16_accumulate_fp16_flop_per_s=peak("fast_half"),
        fp32_flop_per_s=peak("fp32"),
        runtime=packed["runtime"],
        backend=packed["backend"],
        format=packed["format"],
    )
    half = np.where(np.isnan(peak("fp16")), peak("fp32"), peak("fp16"))
    rates = LlmRates(
        memory_bytes_per_s=peak("memory_bytes_per_s"),
        compute_flop_per_s=compute,
        attention_flop_per_s=half,
        issue_per_s=peak("issue"),
        link_bytes_per_s=peak("link"),
        link_latency_s=peak("hop"),
        host_bytes_per_s=np.array([DEFAULT_HOST_BYTES_PER_S]),
        host_flop_per_s=np.array([math.inf]),
        pcie_bytes_per_s=peak("pcie"),
    )
    text = {
        "device": [h["device_id"] for h in heads],
        "model": [h["model"] for h in heads],
        "family": [h["family"] for h in heads],
        "source": [h["source"] for h in heads],
        "vendor_class": [f"{h['device']['vendor']}/{h['device']['memory_class']}" for h in heads],
        "configuration": [
            "|".join(
                str(part)
                for part in (
                    h["phase"], h["source"], h["device_id"], h["count"], h["model"], h["quant"], h["runtime"],
                    h["backend"],
                )
            )
            for h in heads
        ],
        "identifier": [h["id"] for h in heads],
        "phase": [h["phase"] for h in heads],
    }  # fmt: skip
    return Observations(
        work=LlmWork(**{f.name: column(r["work"][f.name] for r in rows) for f in fields(LlmWork)}),
        rates=rates,
        load=LlmLoad(**{f.name: column(r["load"][f.name] for r in rows) for f in fields(LlmLoad)}),
        codes=packed,
        row=owner,
        actual=column(h["actual"] for h in heads),
        single_stream=np.array([h["single_stream"] for h in heads]),
        crowd=np.array([h["crowd"] for h in heads]),
        skipped=skipped,
        **{name: np.array(values) for name, values in text.items()},
    )
