"""NVIDIA devices, from NVML readings: what is believed, what is left open, and why."""

from __future__ import annotations

import re
from typing import Any

from willitrun.hardware.findings import Findings, Sighting
from willitrun.hardware.identity import is_virtual
from willitrun.hardware.nvidia_presence import report_absence, report_visibility
from willitrun.hardware.pcie import read_link
from willitrun.hardware.readings import believed, error_of
from willitrun.hardware.surroundings import Surroundings
from willitrun.hardware.tegra import find_tegra
from willitrun.records.machines import ProcessUse, SoftwareVersion

__all__ = ["probe_nvidia"]

_MIB = 1 << 20
_TIB = 1 << 40
_ATS = 2
_LOST, _LATE = "GpuIsLost", "Deadline"
# Share of the memory by which free, used and reserved may miss the total.
_UNACCOUNTED = 0.005
_VGPU = 2
# Integrated parts whose driver has no memory of its own to report. Orin answers "not available" to the addressing
# mode, so the name decides there.
_INTEGRATED = re.compile(r"\(nvgpu\)|^(?:NVIDIA )?(?:GB10|Thor|Orin|Xavier|Tegra)\b", re.IGNORECASE)
# Grace Hopper and Grace Blackwell share addresses with their processor and have stacked memory of their own.
_OWN_MEMORY_WITH_ATS = ("9.0", "10.0", "10.3")
_PCI_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_MIG_PROFILE = re.compile(r"\bMIG\s+(\S+)")
# FP32 lanes per SM by compute capability: "Throughput of Native Arithmetic Instructions" in the CUDA C++
# Programming Guide. NVML counts lanes ("CUDA cores") and not SMs.
LANES_PER_SM = {
    "6.0": 64,
    "6.1": 128,
    "6.2": 128,
    "7.0": 64,
    "7.2": 64,
    "7.5": 64,
    "8.0": 64,
    "8.6": 128,
    "8.7": 128,
    "8.9": 128,
    "9.0": 128,
    "10.0": 128,
    "10.3": 128,
    "11.0": 128,
    "12.0": 128,
    "12.1": 128,
}


def probe_nvidia(surroundings: Surroundings) -> Findings:
    """NVIDIA devices that the driver lets this process see."""
    found = Findings()
    readings = surroundings.ask("nvml")
    readings = readings if isinstance(readings, dict) else {"status": "NVML was not asked"}
    status = readings.get("status")
    if status != "ok":
        if not find_tegra(surroundings, found):
            report_absence(surroundings, found, str(status), str(readings.get("message", "")))
        return found
    driver = readings.get("driver") if isinstance(readings.get("driver"), str) else None
    if driver:
        found.software.append(SoftwareVersion(name="nvidia-driver", version=driver))
    cuda = believed(readings.get("cuda"), 5000, 99_990)
    if cuda:
        version = f"{cuda // 1000}.{cuda % 1000 // 10}"
        found.software.append(
            SoftwareVersion(name="cuda-driver", version=version, detail="the newest CUDA this driver runs")
        )
    if _LATE in (error_of(readings.get("driver")), error_of(readings.get("cuda"))):
        found.report("nvml.driver", "timeout", "the driver does not answer when asked for its version")
    devices = readings.get("devices")
    for index, device in enumerate(devices if isinstance(devices, list) else []):
        if isinstance(device, dict):
            _device(surroundings, found, index, device, driver)
    if error := error_of(readings.get("count")):
        reason = f"the driver would not say how many devices there are: {error}"
        found.report("nvml", "timeout" if error == _LATE else "failed", reason)
    elif not devices:
        found.report(
            "nvml",
            "absent",
            "the NVIDIA driver runs, but shows no device",
            ("troubleshooting:gpu-not-detected",),
        )
    else:
        found.report("nvml", "ok", f"{len(found.devices)} device(s)")
        report_visibility(surroundings, found)
    return found


def _device(
    surroundings: Surroundings, found: Findings, index: int, device: dict[str, Any], driver: str | None
) -> None:
    see = ("troubleshooting:gpu-fell-off-the-bus", "troubleshooting:gpu-not-detected")
    errors = {error_of(device.get(reading)) for reading in ("name", "memory_v2", "memory_v1", "pci")}
    if error := error_of(device.get("handle")) or (_LATE if errors == {_LATE} else None):
        late = error == _LATE
        reason = (
            f"the driver does not answer for device {index}"
            if late
            else f"the driver refuses device {index}: {error}"
        )
        found.report(f"nvml.device{index}", "timeout" if late else "failed", reason, see)
        return
    if _LOST in errors:
        # It went away while it was read: what was read before is of a device that is no more.
        reason = f"device {index} went away while it was read: {_LOST}"
        found.report(f"nvml.device{index}", "failed", reason, see)
        return
    name = device.get("name") if isinstance(device.get("name"), str) else None
    pci = device.get("pci")
    pci = pci if isinstance(pci, dict) else {}
    seen = Sighting(
        vendor="nvidia",
        probe=f"nvml.device{index}",
        reported_name=name or None,
        pci_id=_matching(_PCI_ID, pci.get("id")),
        pci_address=_matching(_PCI_ADDRESS, pci.get("address")),
        driver_version=driver,
        bus_width_bits=believed(device.get("bus_width_bits"), 32, 16_384),
        compute_capability=_capability(device.get("compute_capability")),
        processes=_processes(device.get("processes")),
        ecc=_first_flag(device.get("ecc")),
        mig_enabled=_first_flag(device.get("mig")),
        display_active=_flag(device.get("display_active")),
        chip_to_chip=_flag(device.get("chip_to_chip")),
    )
    clock = believed(device.get("memory_clock_mhz"), 100, 40_000)
    seen.memory_clock_hz = clock * 1e6 if clock else None
    clock = believed(device.get("sm_clock_mhz"), 100, 10_000)
    seen.compute_clock_hz = clock * 1e6 if clock else None
    cores = believed(device.get("cores"), 32, 1_000_000)
    lanes = LANES_PER_SM.get(seen.compute_capability or "")
    if cores and lanes and cores % lanes == 0:
        seen.compute_units = cores // lanes
    virtualization = believed(device.get("virtualization"), 0, 16)
    seen.virtual = None if virtualization is None else virtualization == _VGPU
    if name and is_virtual(name):
        seen.virtual = True
    for field, reading in (("power_limit_w", "power_limit_mw"), ("power_default_w", "power_default_mw")):
        milliwatts = believed(device.get(reading), 1000, 10_000_000)
        setattr(seen, field, milliwatts / 1000 if milliwatts else None)
    peers = device.get("nvlinks")
    seen.nvlink_peers = tuple(map(str, peers)) if isinstance(peers, list) else ()
    if (seen.bus_width_bits is None or seen.memory_clock_hz is None) and not seen.virtual:
        found.report(
            f"nvml.device{index}.bandwidth",
            "not-supported",
            "the driver does not tell bus width and memory clock",
        )
    if any(error_of(reading) == _LATE for reading in device.values()):
        reason = "the driver answers slowly: there was no time for all of its readings"
        found.report(f"nvml.device{index}.slow", "timeout", reason, ("troubleshooting:gpu-not-detected",))
    _pcie(surroundings, seen, device)
    _memory(surroundings, found, seen, device)
    if seen.mig_enabled:
        _slices(found, seen, device)
    else:
        found.devices.append(seen)


def _memory(surroundings: Surroundings, found: Findings, seen: Sighting, device: dict[str, Any]) -> None:
    total, free, reserved = _memory_of(device)
    seen.memory_total_bytes, seen.memory_free_bytes, seen.memory_reserved_bytes = total, free, reserved
    if total is not None:
        if free is None:
            reason = (
                "free, used and reserved memory do not add up to the total: how much is free is left open"
            )
            found.report(f"{seen.probe}.free", "failed", reason)
        return
    error = error_of(device.get("memory_v2")) or error_of(device.get("memory_v1")) or "an impossible value"
    integrated = bool(_INTEGRATED.search(seen.reported_name or "")) or (
        # A discrete card that refuses is not unified memory: addresses translated by the CPU's tables are the sign.
        error == "NotSupported"
        and device.get("addressing_mode") == _ATS
        and seen.compute_capability not in _OWN_MEMORY_WITH_ATS
    )
    if not integrated:
        see = ("troubleshooting:gpu-not-detected",)
        found.report(f"{seen.probe}.memory", "failed", f"the driver does not tell the memory: {error}", see)
        return
    seen.shares_host_memory, seen.kind = True, "soc"
    model = surroundings.ask("text", "/proc/device-tree/model")
    seen.module = model.strip("\0 \n") if isinstance(model, str) else None
    found.report(
        f"{seen.probe}.memory",
        "ok",
        "unified memory: the device computes out of the host's RAM, which is reported",
    )


def _memory_of(device: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Total, free and reserved [bytes]; the second version of the call separates what the driver holds."""
    whole = None
    for version, parts in (("memory_v2", ("free", "used", "reserved")), ("memory_v1", ("free", "used"))):
        memory = device.get(version)
        if not isinstance(memory, dict) or error_of(memory):
            continue
        total = believed(memory.get("total"), 64 * _MIB, 4 * _TIB)
        known = [part for key in parts if isinstance(part := memory.get(key), int)]
        if total is None or max(known, default=0) > total:
            # A part that is larger than the whole speaks against all of the reading.
            continue
        whole = whole or total
        if len(known) == len(parts) and abs(sum(known) - total) <= _UNACCOUNTED * total:
            free = believed(memory.get("free"), 0, total)
            return total, free, believed(memory.get("reserved"), 0, total // 2)
    # The parts make up the whole; where they don't, one of them is wrong and nothing says which.
    return whole, None, None


def _slices(found: Findings, parent: Sighting, device: dict[str, Any]) -> None:
    see = ("troubleshooting:mig-slice-too-small", "troubleshooting:gpu-not-detected")
    listed = device.get("slices")
    slices = [part for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
    if error_of(listed) == _LATE:
        # Reported as slow already; whether there are slices is open.
        return
    if not slices:
        found.report(
            f"{parent.probe}.mig",
            "absent",
            f"MIG is on for {parent.reported_name}, but no slice is visible: CUDA sees no device on it",
            see,
        )
        return
    for number, part in enumerate(slices):
        total, free, reserved = _memory_of(part)
        name = part.get("name") if isinstance(part.get("name"), str) else None
        match = _MIG_PROFILE.search(name or "")
        found.devices.append(
            Sighting(
                vendor="nvidia",
                probe=f"{parent.probe}.mig{number}",
                reported_name=name or parent.reported_name,
                pci_id=parent.pci_id,
                pci_address=parent.pci_address,
                driver_version=parent.driver_version,
                memory_total_bytes=total,
                memory_free_bytes=free,
                memory_reserved_bytes=reserved,
                processes=_processes(part.get("processes")),
                compute_units=believed(part.get("sm_count"), 1, 1024),
                compute_capability=parent.compute_capability,
                compute_clock_hz=parent.compute_clock_hz,
                bus_width_bits=parent.bus_width_bits,
                memory_clock_hz=parent.memory_clock_hz,
                pcie_generation=parent.pcie_generation,
                pcie_lanes=parent.pcie_lanes,
                power_limit_w=parent.power_limit_w,
                power_default_w=parent.power_default_w,
                ecc=parent.ecc,
                # A slice stays one even where the driver names neither it nor its card.
                mig_parent=parent.reported_name
                or (name[: match.start()].strip() if name and match else None)
                or "a MIG device",
                mig_parent_memory_bytes=parent.memory_total_bytes,
                mig_profile=match[1] if match else None,
                mig_enabled=True,
            )
        )
    if len(slices) > 1:
        text = f"{len(slices)} MIG slices on {parent.reported_name}: one CUDA process sees one of them"
        found.report(f"{parent.probe}.mig", "ok", text, see)


def _pcie(surroundings: Surroundings, seen: Sighting, device: dict[str, Any]) -> None:
    link = read_link(surroundings, f"/sys/bus/pci/devices/{seen.pci_address}") if seen.pci_address else None
    # NVML's maximum generation is what card and slot can do together; the current one drops while idle.
    seen.pcie_generation = _least(
        believed(device.get("pcie_generation_max"), 1, 7), link.generation if link else None
    )
    seen.pcie_lanes = _least(believed(device.get("pcie_lanes_now"), 1, 32), link.lanes if link else None)
    own = believed(device.get("pcie_generation_device"), 1, 7)
    seen.pcie_generation_max = own or (link.generation_max if link else None)
    seen.pcie_lanes_max = max(
        (n for n in (believed(device.get("pcie_lanes_max"), 1, 32), link.lanes_max if link else None) if n),
        default=None,
    )


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _processes(listed: Any) -> tuple[ProcessUse, ...]:
    if not isinstance(listed, list):
        return ()
    return tuple(
        ProcessUse(
            name=str(process.get("name") or "unknown"),
            pid=believed(process.get("pid"), 0, 1 << 32),
            used_bytes=believed(process.get("used"), 0, 4 * _TIB),
        )
        for process in listed
        if isinstance(process, dict)
    )


def _matching(pattern: re.Pattern[str], value: Any) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _capability(value: Any) -> str | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    major, minor = believed(value[0], 1, 99), believed(value[1], 0, 9)
    return None if major is None or minor is None else f"{major}.{minor}"


def _flag(value: Any) -> bool | None:
    number = believed(value, 0, 1)
    return None if number is None else bool(number)


def _first_flag(value: Any) -> bool | None:
    return _flag(value[0]) if isinstance(value, list) and value else None
