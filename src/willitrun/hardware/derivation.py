"""A device that no record describes, derived from what its driver tells. Never from the nearest name.

Memory bandwidth follows from bus width and memory clock; dense peaks from the number of multiprocessors, their clock
and what one multiprocessor of that compute capability finishes per clock. Everything is labelled ``derived``.
"""

from __future__ import annotations

import re
from typing import Literal

from willitrun.frozen import frozen
from willitrun.hardware.findings import Sighting
from willitrun.records.accelerators import Accelerator, Form, Peaks
from willitrun.records.bases import Citation

__all__ = ["bandwidth_from_clock", "derive_accelerator", "derive_slice", "is_derived"]

READING = "driver-reading"
PROGRAMMING_GUIDE = "nvidia-cuda-programming-guide"
MIG_GUIDE = "nvidia-mig-user-guide"


@frozen
class _Rates:
    """Dense results per multiprocessor and clock [FLOP]; a fused multiply-add counts two.

    ``fp16`` and what follows from it (``fp8``, ``fp4``) accumulate in FP32. GeForce cards run that at half the rate
    from Turing on: ``geforce``.
    """

    fp32: int
    fp16_vector: int
    fp16: int | None = None
    int8: int | None = None
    bf16: bool = False
    fp8: bool = False
    fp4: int | None = None
    geforce: float = 1.0


# FP32 and FP16 vector: "Throughput of Native Arithmetic Instructions" of the CUDA C++ Programming Guide. Tensor: the
# architecture whitepapers' FMA per SM and clock (Volta 512, Turing 512, GA100 1024, GA10x 512, Ada 512, Hopper 2048,
# Blackwell 4096 in data-centre and 512 in RTX parts), times two.
_RATES: dict[str, _Rates] = {
    "6.0": _Rates(128, 256),
    "6.1": _Rates(256, 4, int8=1024),
    "7.0": _Rates(128, 256, 1024),
    "7.5": _Rates(128, 256, 1024, 2048, geforce=0.5),
    "8.0": _Rates(128, 512, 2048, 4096, bf16=True),
    "8.6": _Rates(256, 256, 1024, 2048, bf16=True, geforce=0.5),
    "8.7": _Rates(256, 512, 2048, 4096, bf16=True),
    "8.9": _Rates(256, 256, 1024, 2048, bf16=True, fp8=True, geforce=0.5),
    "9.0": _Rates(256, 1024, 4096, 8192, bf16=True, fp8=True),
    "10.0": _Rates(256, 512, 8192, 16_384, bf16=True, fp8=True, fp4=32_768),
    "12.0": _Rates(256, 256, 1024, 2048, bf16=True, fp8=True, fp4=4096, geforce=0.5),
    "12.1": _Rates(256, 256, 1024, 2048, bf16=True, fp8=True, fp4=4096),
}
_ARCHITECTURES = {
    "6": "Pascal",
    "7.0": "Volta",
    "7.5": "Turing",
    "8.9": "Ada Lovelace",
    "8": "Ampere",
    "9": "Hopper",
    "10": "Blackwell",
    "11": "Blackwell",
    "12": "Blackwell",
}
# TU116 and TU117 are Turing without tensor cores, and NVML tells no difference but the name.
_NO_TENSOR_CORES = re.compile(r"\bGTX 16\d\d\b|\bMX4[35]0\b|\bT(?:400|500|550|600|1000|1200)\b")


def is_derived(accelerator: Accelerator) -> bool:
    """Whether a record was derived from readings rather than looked up."""
    return accelerator.id.startswith("derived-")


def bandwidth_from_clock(bus_width_bits: int, memory_clock_hz: float) -> float | None:
    """Peak memory bandwidth [B/s] from NVML's bus width and maximum memory clock, or None where it is implausible.

    ``bus / 8 x clock x 2``: NVML's memory clock is half the data rate for GDDR5 to GDDR7 and HBM alike. A result
    whose data rate no memory of that width has is not believed.

    References
    ----------
    https://docs.nvidia.com/deploy/nvml-api/ (nvmlDeviceGetMemoryBusWidth, nvmlDeviceGetMaxClockInfo)

    Examples
    --------
    >>> bandwidth_from_clock(384, 10_501e6) / 1e9
    1008.096
    >>> bandwidth_from_clock(384, 40_000e6) is None
    True
    """
    transfers_per_s = 2 * memory_clock_hz
    # Stacked memory is wide and slow (HBM2 1 GT/s to HBM4 12 GT/s per pin), graphics memory narrow and fast (GDDR5
    # 3 GT/s to GDDR7 36 GT/s; DDR and LPDDR on small parts from 1.6 GT/s).
    low, high = (1.0e9, 12e9) if bus_width_bits >= 1024 else (1.6e9, 40e9)
    if not low <= transfers_per_s <= high:
        return None
    return bus_width_bits / 8 * transfers_per_s


def derive_accelerator(seen: Sighting) -> Accelerator:
    """A record for a device that the catalog does not know, from its readings alone; unknown fields stay None."""
    bandwidth = None
    if seen.bus_width_bits and seen.memory_clock_hz and seen.vendor == "nvidia":
        bandwidth = bandwidth_from_clock(seen.bus_width_bits, seen.memory_clock_hz)
    peaks = _peaks(seen) if seen.vendor == "nvidia" else Peaks()
    name = seen.reported_name or f"unknown {seen.vendor} device {seen.pci_id or ''}".strip()
    reading = (Citation(source=READING, basis="derived", rule="as the driver reports it"),)
    cite: dict[str, tuple[Citation, ...]] = {"*": reading}
    if bandwidth is not None:
        cite["memory_bandwidth"] = (
            Citation(source=READING, basis="derived", rule="bus / 8 x memory clock x 2"),
        )
    if peaks != Peaks():
        rule = "multiprocessors x clock x results per clock of the compute capability"
        cite["peaks"] = (Citation(source=PROGRAMMING_GUIDE, basis="derived", rule=rule),)
    return Accelerator(
        id=f"derived-{_slug(name)}",
        name=name,
        vendor=seen.vendor,
        kind=seen.kind,
        form=_form(seen),
        architecture=_architecture(seen.compute_capability),
        memory=None if seen.shares_host_memory else seen.memory_total_bytes,
        memory_bus_width_bits=seen.bus_width_bits,
        memory_clock=seen.memory_clock_hz,
        memory_bandwidth=bandwidth,
        compute_units=seen.compute_units,
        boost_clock=seen.compute_clock_hz,
        peaks=peaks,
        compute_capability=seen.compute_capability,
        gfx_target=seen.gfx_target,
        tdp=seen.power_default_w,
        pcie_generation=seen.pcie_generation_max,
        pcie_lanes=seen.pcie_lanes_max,
        unified_memory=seen.shares_host_memory,
        cite=cite,
        flags=("derived from readings: no record describes this device",),
    )


def derive_slice(whole: Accelerator, seen: Sighting) -> Accelerator:
    """A MIG slice as a device of its own: memory and multiprocessors as read, the rest in their proportion.

    Bandwidth goes with the slice's share of the memory and peaks with its share of the multiprocessors, because a
    GPU instance owns its memory slices with their controllers and its SMs.

    References
    ----------
    https://docs.nvidia.com/datacenter/tesla/mig-user-guide/ ("Supported MIG profiles")
    """
    eighths = None
    whole_memory = seen.mig_parent_memory_bytes or whole.memory
    if seen.memory_total_bytes and whole_memory:
        # Memory comes in eighths of the device; what the slice reports is a little less than its share.
        eighths = min(8, max(1, round(8 * seen.memory_total_bytes / whole_memory)))
    units = seen.compute_units
    share = units / whole.compute_units if units and whole.compute_units else None
    peaks = Peaks()
    if share is not None and share <= 1:
        scaled = {key: value * share for key, value in whole.peaks.model_dump().items() if value is not None}
        peaks = Peaks(**scaled)
    rule = (Citation(source=MIG_GUIDE, basis="derived", rule="the slice's share of the whole device"),)
    bandwidth = whole.memory_bandwidth * eighths / 8 if whole.memory_bandwidth and eighths else None
    return Accelerator(
        id=f"derived-{_slug(seen.reported_name or whole.name)}",
        name=seen.reported_name or f"{whole.name} MIG {seen.mig_profile or 'slice'}",
        vendor=whole.vendor,
        kind=whole.kind,
        form=whole.form,
        architecture=whole.architecture,
        chip=whole.chip,
        memory=seen.memory_total_bytes,
        memory_type=whole.memory_type,
        memory_bandwidth=bandwidth,
        compute_units=units,
        boost_clock=whole.boost_clock,
        peaks=peaks,
        compute_capability=whole.compute_capability or seen.compute_capability,
        tdp=None,
        pcie_generation=whole.pcie_generation,
        pcie_lanes=whole.pcie_lanes,
        cite={"*": rule},
        flags=("a MIG slice: bandwidth and peaks are its share of the whole device",),
    )


def _peaks(seen: Sighting) -> Peaks:
    rates = _RATES.get(seen.compute_capability or "")
    if rates is None or seen.compute_units is None or seen.compute_clock_hz is None:
        return Peaks()
    per_s = seen.compute_units * seen.compute_clock_hz
    name = seen.reported_name or ""
    if rates.fp16 is None or (seen.compute_capability == "7.5" and _NO_TENSOR_CORES.search(name)):
        # The GTX 16 series has DP4A at four times the FP32 rate and no tensor cores.
        return Peaks(
            fp32=rates.fp32 * per_s,
            fp16=rates.fp16_vector * per_s,
            int8=4 * rates.fp32 * per_s if rates.int8 else None,
        )
    factor = rates.geforce if "GeForce" in name else 1.0
    tensor = rates.fp16 * factor * per_s
    return Peaks(
        fp32=rates.fp32 * per_s,
        fp16=rates.fp16_vector * per_s,
        fp16_tensor=tensor,
        fp16_tensor_fp16_accumulate=rates.fp16 * per_s,
        bf16_tensor=tensor if rates.bf16 else None,
        tf32_tensor=tensor / 2 if rates.bf16 else None,
        int8=rates.int8 * per_s if rates.int8 else None,
        fp8_tensor=2 * tensor if rates.fp8 else None,
        fp4_tensor=rates.fp4 * per_s if rates.fp4 else None,
    )


def _architecture(capability: str | None) -> str | None:
    if capability is None:
        return None
    return _ARCHITECTURES.get(capability) or _ARCHITECTURES.get(capability.split(".")[0])


def _form(seen: Sighting) -> Form:
    name = (seen.reported_name or "").lower()
    forms: dict[Literal["gpu", "apu", "igpu", "soc", "accelerator"], Form] = {
        "apu": "igpu",
        "igpu": "igpu",
        "soc": "unified-soc",
        "accelerator": "server",
    }
    if seen.kind in forms:
        return forms[seen.kind]
    if "laptop" in name or "mobile" in name or "max-q" in name:
        return "laptop"
    if "sxm" in name:
        return "server-sxm"
    return "server" if seen.virtual else "desktop"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9._+-]+", "-", name.lower()).strip("-.")[:100] or "device"
