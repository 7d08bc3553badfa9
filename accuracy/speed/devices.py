"""Rates and level codes of a device from a row of ``hardware.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from willitrun.kernels.llm_levels import classify_generation, classify_memory

NAN = float("nan")

#: One direction of a PCIe lane after coding [bytes/s], by generation.
_PCIE_LANE = {2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}

#: Dual-channel DDR5-5600 behind a card whose host is not known (the library's stated default host).
DEFAULT_HOST_BYTES_PER_S = 89.6e9

#: Latency of one collective hop [s]: direct accelerator links, and PCIe through the host.
DIRECT_HOP_S, PCIE_HOP_S = 4e-6, 20e-6


def _number(row: Mapping[str, str], key: str, scale: float = 1.0) -> float:
    text = row.get(key) or ""
    try:
        return float(text) * scale
    except ValueError:
        return NAN


def load_devices(path: Path) -> dict[str, dict[str, object]]:
    """Return device id -> peaks, rates, and level names; devices without a bandwidth are left out."""
    devices: dict[str, dict[str, object]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            device = describe_device(row)
            if device is not None:
                devices[row["id"]] = device
    return devices


def describe_device(row: Mapping[str, str]) -> dict[str, object] | None:
    """Return the rates of one hardware row, or None without bandwidth or any compute peak."""
    bandwidth = _number(row, "bandwidth_gb_s", 1e9)
    fp32 = _number(row, "fp32_tflops", 1e12)
    half = _number(row, "fp16_tensor_tflops_dense_fp32acc", 1e12)
    vector_half = _number(row, "fp16_vector_tflops", 1e12)
    int8 = _number(row, "int8_tops_dense", 1e12)
    if math.isnan(bandwidth):
        return None
    vendor = row["vendor"].lower()
    generation = classify_generation(vendor, row["compute_capability_or_gfx"] or row["arch"])
    if math.isnan(half) and vendor in {"amd", "intel"} and vector_half > fp32:
        half = vector_half
    # Matrix units that accumulate in FP16 run at half the INT8 rate on every NVIDIA generation since Turing.
    fast_half = half
    if generation in {"turing", "ampere", "ada", "hopper", "blackwell"} and int8 > 0 and not math.isnan(half):
        fast_half = max(half, int8 / 2)
    lanes = _number(row, "pcie_gen"), _number(row, "pcie_lanes")
    pcie = _PCIE_LANE.get(int(lanes[0]), 1.969e9) * lanes[1] if not any(map(math.isnan, lanes)) else 31.5e9
    direct = _number(row, "nvlink_gb_s", 1e9)
    return {
        "vendor": vendor if row["kind"] != "platform" else "cpu",
        "memory_class": classify_memory(row["mem_type"] or ""),
        "generation": generation,
        "memory_bytes": _number(row, "memory_gib", 2.0**30),
        "memory_bytes_per_s": bandwidth,
        "fp32": fp32 if not math.isnan(fp32) else half,
        "issue": _issue_rate(row, fp32),
        "fp16": half,
        "fast_half": fast_half,
        "int8": int8,
        "fp8": _number(row, "fp8_tflops_dense", 1e12),
        "fp4": _number(row, "fp4_tflops_dense", 1e12),
        "pcie": pcie,
        # Sheets state both directions of a direct link together.
        "link": pcie if math.isnan(direct) else direct / 2,
        "hop": PCIE_HOP_S if math.isnan(direct) else DIRECT_HOP_S,
    }


def _issue_rate(row: Mapping[str, str], fp32: float) -> float:
    """Return units x clock [1/s]; from the FP32 peak (128 lanes x 2 FLOP per unit) where a sheet has no clock."""
    units, clock = _number(row, "sm_or_cu"), _number(row, "boost_mhz", 1e6)
    if not math.isnan(units * clock):
        return units * clock
    return math.inf if math.isnan(fp32) else fp32 / 256.0
