"""What a machine can do, as the numbers that the speed kernels read."""

from __future__ import annotations

import math

from willitrun.errors import MissingDataError
from willitrun.estimators.topology import (
    DIRECT_HOP_S,
    DIRECT_PEER_S,
    PCIE_HOP_S,
    PCIE_PEER_S,
    cable_bytes_per_s,
)
from willitrun.frozen import frozen
from willitrun.kernels.llm_levels import classify_generation, classify_memory
from willitrun.records.accelerators import Accelerator
from willitrun.records.machines import InstalledAccelerator, Machine
from willitrun.records.results import Reason

__all__ = ["DeviceRates", "device_rates", "host_bytes_per_s", "pcie_bytes_per_s"]

NAN = math.nan

# One direction of one lane after line coding [bytes/s]: 128b/130b from PCIe 3.0, 242B/256B flits from 6.0.
# https://pcisig.com/faq (transfer rates 2.5, 5, 8, 16, 32, 64 GT/s)
_PCIE_LANE = {1: 0.25e9, 2: 0.5e9, 3: 8e9 / 8 * 128 / 130, 4: 16e9 / 8 * 128 / 130, 5: 32e9 / 8 * 128 / 130,
              6: 64e9 / 8 * 242 / 256}  # fmt: skip

DEFAULT_PCIE = (4, 16)
POWER_EXPONENT = 0.5
"""Compute peaks of a capped card follow (limit / full power) to this power: an assumption and no fact. What was measured
(RTX 3090 at 250 to 300 W, vLLM, 128 requests at once) grew with exponents of 0 to 0.3, of which memory has a part."""
WATT_PER_UNIT_CYCLE = 2e-9
"""Board power per compute unit and clock where no sheet says it [W s]: an assumption, near the middle of what cards of the
last ten years were sold with (1 to 5)."""


@frozen(eq=False)
class DeviceRates:
    """Rates of one device, NaN where it has no such path [bytes/s, FLOP/s, s], and its level names."""

    name: str
    vendor: str
    memory_class: str | None
    generation: str | None
    memory_bytes_per_s: float
    fp32: float
    fp16: float
    fp16_fast: float
    int8: float
    fp8: float
    fp4: float
    link_bytes_per_s: float
    hop_s: float
    peer_s: float
    pcie_bytes_per_s: float
    compute_units: float
    boost_hz: float
    issue_per_s: float
    """Compute units x clock: what instruction issue allows."""
    compute_w: float
    """Board power at the cap, that of its like where no sheet says it."""
    tf32: float
    bf16: float
    power_w: float
    cites: tuple[str, ...]


def pcie_bytes_per_s(generation: int | None, lanes: int | None) -> float:
    """Bandwidth of a PCIe link, one direction, after coding [bytes/s].

    >>> round(pcie_bytes_per_s(4, 16) / 1e9, 1)
    31.5
    """
    return _PCIE_LANE[generation or DEFAULT_PCIE[0]] * (lanes or DEFAULT_PCIE[1])


def host_link_bytes_per_s(device: InstalledAccelerator, machine: Machine) -> float:
    """Bandwidth from the host to a device, one direction [bytes/s]: its slot as negotiated, or the cable that is stated."""
    accelerator = device.accelerator
    pcie = pcie_bytes_per_s(
        device.pcie_generation or device.pcie_generation_max or accelerator.pcie_generation,
        device.pcie_lanes or accelerator.pcie_lanes,
    )
    stated, beside = cable_bytes_per_s(device, machine)
    if stated is None:
        return pcie
    return max(pcie, stated) if beside else stated


def device_rates(device: InstalledAccelerator, machine: Machine) -> tuple[DeviceRates, tuple[Reason, ...]]:
    """Rates of an installed accelerator, scaled to its power cap and its link as negotiated.

    Raises
    ------
    MissingDataError
        No source says the memory bandwidth, or any compute peak.
    """
    accelerator = device.accelerator
    reasons: list[Reason] = []
    bandwidth = accelerator.memory_bandwidth or device.memory_bandwidth_bytes_per_s
    if bandwidth is None and device.shares_host_memory:
        bandwidth = machine.host.memory_bandwidth_bytes_per_s
    if bandwidth is None:
        raise MissingDataError(
            f"{accelerator.name}: no source says its memory bandwidth.",
            hint="Describe the device with memory_bandwidth = '... GB/s'.",
        )
    peaks = accelerator.peaks
    half = peaks.fp16_tensor or peaks.bf16_tensor
    if half is None and peaks.fp16 is not None and peaks.fp16 > (peaks.fp32 or 0.0):
        half = peaks.fp16
    fp32 = peaks.fp32 or half
    if fp32 is None:
        raise MissingDataError(f"{accelerator.name}: no source says any compute peak.")
    generation = classify_generation(
        accelerator.vendor,
        accelerator.compute_capability or accelerator.gfx_target or accelerator.architecture or "",
    ) or classify_generation(accelerator.vendor, accelerator.architecture or "")
    fast = peaks.fp16_tensor_fp16_accumulate
    if fast is None and half is not None and peaks.int8 and generation in (
        "turing", "ampere", "ada", "hopper", "blackwell", "blackwell-rtx",
    ):  # fmt: skip
        # Matrix units that accumulate in FP16 run at half the INT8 rate on NVIDIA since Turing.
        fast = max(half, peaks.int8 / 2)
    scale = _power_scale(device, reasons)
    issue = _issue_rate(accelerator, fp32)
    pcie = host_link_bytes_per_s(device, machine)
    link, hop, peer = _neighbours(device, machine, pcie)

    def rate(value: float | None) -> float:
        return NAN if value is None else value * scale

    return (
        DeviceRates(
            name=accelerator.name,
            vendor=accelerator.vendor,
            memory_class=classify_memory(accelerator.memory_type or ""),
            generation=generation,
            memory_bytes_per_s=bandwidth,
            fp32=fp32 * scale,
            fp16=rate(half),
            fp16_fast=rate(fast if fast is not None else half),
            int8=rate(peaks.int8),
            fp8=rate(peaks.fp8_tensor),
            fp4=rate(peaks.fp4_tensor),
            link_bytes_per_s=link,
            hop_s=hop,
            peer_s=peer,
            pcie_bytes_per_s=pcie,
            compute_units=float(accelerator.compute_units or NAN),
            boost_hz=float(accelerator.boost_clock or NAN),
            issue_per_s=issue * scale,
            compute_w=(_board_w(accelerator) or WATT_PER_UNIT_CYCLE * issue) * scale,
            tf32=rate(peaks.tf32_tensor),
            bf16=rate(peaks.bf16_tensor),
            power_w=float(accelerator.tdp or NAN),
            cites=tuple(
                dict.fromkeys(
                    citation.source
                    for field in ("memory_bandwidth", "peaks")
                    for citation in accelerator.citations(field)
                )
            ),
        ),
        tuple(reasons),
    )


def _issue_rate(accelerator: Accelerator, fp32: float) -> float:
    if accelerator.compute_units and accelerator.boost_clock:
        return accelerator.compute_units * accelerator.boost_clock
    # 128 lanes of two FLOP per unit and clock, where a sheet gives no clock.
    return fp32 / 256.0


def _board_w(accelerator: Accelerator) -> float | None:
    """Power of a board; what a processor's sheet gives is a base that makers of machines configure at will."""
    return None if accelerator.form == "igpu" else accelerator.tdp


def _power_scale(device: InstalledAccelerator, reasons: list[Reason]) -> float:
    limit, full = device.power_limit_w, device.power_default_w or device.accelerator.tdp
    if limit is None or full is None or limit >= 0.97 * full:
        return 1.0
    scale = float((limit / full) ** POWER_EXPONENT)
    reasons.append(
        Reason.model_construct(
            code="power-capped",
            message=f"{device.accelerator.name} is capped at {limit:.0f} W of {full:.0f} W; compute peaks are taken at {scale:.0%}.",
            numbers={"power_limit_w": limit, "power_default_w": full},
        )
    )
    return scale


def _neighbours(device: InstalledAccelerator, machine: Machine, pcie: float) -> tuple[float, float, float]:
    """Bandwidth [bytes/s], latency [s] and what each further one adds [s] to the devices beside it, where no link says
    otherwise."""
    direct = device.accelerator.link_bandwidth
    bridged = device.accelerator.form in ("desktop", "workstation", "server-pcie")
    if direct is None or (bridged and machine.source != "described"):
        # Cards in slots have the link only where a bridge was seen; on boards it is always there.
        return pcie, PCIE_HOP_S, PCIE_PEER_S
    # Sheets state both directions of a direct link together.
    return direct / 2, DIRECT_HOP_S, DIRECT_PEER_S


def host_bytes_per_s(machine: Machine) -> float:
    """Memory bandwidth of the host [bytes/s].

    Raises
    ------
    MissingDataError
        No source says the host's memory bandwidth.
    """
    host = machine.host
    if host.memory_bandwidth_bytes_per_s is None:
        raise MissingDataError(
            f"{machine.name}: no source says the bandwidth of the host's memory.",
            hint="Describe the host with memory = 'ddr5-5600-dual' or memory_bandwidth = '... GB/s'.",
        )
    return host.memory_bandwidth_bytes_per_s
