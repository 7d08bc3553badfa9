"""Accelerators and hosts: what a device is, as its maker sold it."""

from datetime import date
from typing import Literal

from pydantic import Field

from willitrun.records.bases import (
    Bytes,
    BytesPerSecond,
    CitedRecord,
    FlopPerSecond,
    Hertz,
    Record,
    RecordId,
    TransfersPerSecond,
    Usd,
    Watt,
)

__all__ = ["Accelerator", "Form", "HostPlatform", "MemoryKind", "Peaks", "Vendor"]

Vendor = Literal[
    "nvidia",
    "amd",
    "intel",
    "apple",
    "qualcomm",
    "google",
    "amazon",
    "huawei",
    "broadcom",
    "rockchip",
    "generic",
]
Form = Literal[
    "desktop",
    "laptop",
    "workstation",
    "laptop-workstation",
    "server-sxm",
    "server-pcie",
    "server-oam",
    "server",
    "unified-soc",
    "igpu",
    "cpu",
    "cloud",
    "sbc",
]
MemoryKind = Literal[
    "GDDR5",
    "GDDR5X",
    "GDDR6",
    "GDDR6X",
    "GDDR7",
    "HBM",
    "HBM2",
    "HBM2e",
    "HBM3",
    "HBM3e",
    "HBM4",
    "DDR3",
    "DDR4",
    "DDR5",
    "LPDDR4",
    "LPDDR4X",
    "LPDDR5",
    "LPDDR5X",
    "system",
]


class Peaks(Record):
    """Dense peak rates at the boost clock [FLOP/s; OP/s for integers].

    Tensor rates are with FP32 accumulation unless the name says otherwise; sparsity is never counted.
    """

    fp32: FlopPerSecond | None = None
    fp16: FlopPerSecond | None = None
    """Vector (shader) half precision."""
    tf32_tensor: FlopPerSecond | None = None
    fp16_tensor: FlopPerSecond | None = None
    fp16_tensor_fp16_accumulate: FlopPerSecond | None = None
    bf16_tensor: FlopPerSecond | None = None
    int8: FlopPerSecond | None = None
    """Tensor INT8 or, where the chip has none, DP4A."""
    fp8_tensor: FlopPerSecond | None = None
    fp4_tensor: FlopPerSecond | None = None


class Accelerator(CitedRecord):
    """A GPU, an APU, a system-on-chip or another device that runs models."""

    vendor: Vendor
    kind: Literal["gpu", "apu", "igpu", "soc", "accelerator"]
    form: Form
    architecture: str | None = None
    chip: str | None = None
    memory: Bytes | None = None
    """What the driver shows, or the marketed capacity where no reading is known; None on unified memory."""
    memory_marketed: Bytes | None = None
    memory_type: MemoryKind | None = None
    memory_bus_width_bits: int | None = Field(None, gt=0, le=65536)
    memory_clock: Hertz | None = None
    """The clock NVML reports as maximum memory clock, where known."""
    memory_data_rate: TransfersPerSecond | None = None
    memory_bandwidth: BytesPerSecond | None = None
    l2_cache: Bytes | None = None
    compute_units: int | None = Field(None, gt=0)
    """SMs, CUs, Xe cores or GPU cores."""
    boost_clock: Hertz | None = None
    peaks: Peaks = Peaks.model_construct()
    compute_capability: str | None = Field(None, pattern=r"^\d{1,2}\.\d$")
    gfx_target: str | None = None
    tdp: Watt | None = None
    power_min: Watt | None = None
    power_max: Watt | None = None
    pcie_generation: int | None = Field(None, ge=1, le=7)
    pcie_lanes: int | None = Field(None, ge=1, le=32)
    link_bandwidth: BytesPerSecond | None = None
    """NVLink / Infinity Fabric / Xe Link, total of both directions, as sheets state it."""
    link_count: int | None = Field(None, gt=0)
    """Links that `link_bandwidth` is the sum of, where each leads to one neighbour; None where a switch joins all."""
    unified_memory: bool = False
    """The device computes out of the host's memory."""
    unified_memory_options: tuple[Bytes, ...] = ()
    """Memory sizes that the system is sold with, for unified memory."""
    os_names: tuple[str, ...] = ()
    """Names by which drivers and operating systems report the device, exactly."""
    pci_ids: tuple[str, ...] = ()
    """``vendor:device`` or ``vendor:device:revision``, lower-case hex."""
    ambiguous_with: tuple[RecordId, ...] = ()
    """Records that share a PCI id or an OS name."""
    told_apart_by: tuple[Literal["memory", "memory_clock", "compute_units", "revision", "form"], ...] = ()
    launched: date | None = None
    msrp: Usd | None = None

    @classmethod
    def _labels(cls) -> set[str]:
        return {"vendor", "kind", "form", "ambiguous_with", "told_apart_by", "os_names"}

    def facts(self) -> dict[str, object]:
        found = super().facts()
        if not any(value is not None for value in vars(self.peaks).values()):
            found.pop("peaks", None)
        if not self.unified_memory:
            found.pop("unified_memory", None)
        return found


class HostPlatform(CitedRecord):
    """A CPU platform by its memory channels, one CPU, or the vector units of a kind of core."""

    vendor: Vendor
    kind: Literal["platform", "cpu", "core"] = "platform"
    memory_type: MemoryKind | None = None
    memory_channels: int | None = Field(None, gt=0)
    memory_data_rate: TransfersPerSecond | None = None
    memory_bandwidth: BytesPerSecond | None = None
    cores: int | None = Field(None, gt=0)
    """Physical cores of one socket, of all kinds."""
    efficiency_cores: int | None = Field(None, gt=0)
    """How many of the cores are of the smaller kind (E cores, little cores)."""
    threads: int | None = Field(None, gt=0)
    """Hardware threads of all cores."""
    base_clock: Hertz | None = None
    boost_clock: Hertz | None = None
    """The highest clock of one (large) core."""
    efficiency_boost_clock: Hertz | None = None
    simd_width_bits: int | None = Field(None, ge=64, le=2048)
    """The widest vector of the large cores."""
    fp32_flop_per_cycle: int | None = Field(None, gt=0)
    """FP32 results of one large core per clock [FLOP]; a fused multiply-add counts two."""
    efficiency_fp32_flop_per_cycle: int | None = Field(None, gt=0)
    fp32_peak: FlopPerSecond | None = None
    """All cores of one socket together: measured, or derived at the base clock, which all of them sustain."""
    instruction_sets: tuple[str, ...] = ()
    pcie_generation: int | None = Field(None, ge=1, le=7)
    os_names: tuple[str, ...] = ()
    launched: date | None = None

    @classmethod
    def _labels(cls) -> set[str]:
        return {"vendor", "kind", "os_names"}
