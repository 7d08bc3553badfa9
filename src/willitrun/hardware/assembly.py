"""Findings of all probes, put together into one machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from willitrun.hardware.derivation import bandwidth_from_clock, derive_accelerator, derive_slice, is_derived
from willitrun.hardware.findings import Findings, Sighting
from willitrun.hardware.platforms import DEFAULT_PLATFORM
from willitrun.hardware.processors import compute_peak, memory_of, processor_of
from willitrun.hardware.recognition import Recognition, recognise
from willitrun.records.accelerators import Accelerator, HostPlatform
from willitrun.records.machines import Host, InstalledAccelerator, Link, Machine, ProbeReport
from willitrun.units import format_rate

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["assemble", "with_host_bandwidth"]

_TOLERANCE = 0.15


def assemble(
    findings: Iterable[Findings],
    *,
    source: Literal["detected", "capture"],
    catalog: Catalog,
    name: str | None = None,
) -> Machine:
    """One `Machine` out of what the probes found; the first probe that knows a host field decides it."""
    findings = list(findings)
    host: dict[str, Any] = {}
    reports: list[ProbeReport] = []
    sightings: list[Sighting] = []
    software: dict[str, Any] = {}
    for found in findings:
        for key, value in found.host.items():
            if value is not None and host.get(key) in (None, ()):
                host[key] = value
        for entry in found.software:
            software.setdefault(entry.name, entry)
        reports += found.reports
        sightings += found.devices
    sightings = _without_duplicates(sightings)
    devices = []
    for seen in sightings:
        recognised = recognise(seen, host, catalog)
        reports += recognised.reports
        devices.append(_install(seen, recognised, host, reports))
    machine = Machine(
        name=name or _title(devices, host),
        source=source,
        accelerators=tuple(devices),
        host=Host(**host),
        links=_links(sightings, devices, catalog),
        software=tuple(software.values()),
        probes=tuple(reports),
    )
    return _with_processor(machine, catalog)


def _without_duplicates(sightings: list[Sighting]) -> list[Sighting]:
    """Each device once: what the vendor's own library says goes before what the operating system lists."""
    own = {seen.vendor for seen in sightings if not seen.probe.startswith("windows")}
    return [seen for seen in sightings if not (seen.probe.startswith("windows") and seen.vendor in own)]


def _share_host_memory(seen: Sighting, host: dict[str, Any]) -> None:
    """A device without memory of its own has the host's: all of it in total, what is available now as free."""
    seen.shares_host_memory = True
    total, available = host.get("ram_total_bytes"), host.get("ram_available_bytes")
    seen.memory_total_bytes = seen.memory_free_bytes = None
    if total is None:
        return
    carved = seen.carve_out_bytes or 0
    seen.memory_total_bytes = total + carved
    seen.memory_free_bytes = available
    if seen.borrowed_bytes is not None:
        # The driver may promise to map more than is installed.
        seen.unified_budget_bytes = carved + min(seen.borrowed_bytes, total)
        free = (seen.borrowed_free_bytes, available, seen.carve_out_free_bytes)
        seen.memory_free_bytes = None if None in free else (free[2] or 0) + min(free[0] or 0, free[1] or 0)
    elif seen.unified_budget_bytes is not None:
        seen.unified_budget_bytes = min(seen.unified_budget_bytes, total)
        if available is not None:
            seen.memory_free_bytes = min(available, seen.unified_budget_bytes)


def _install(
    seen: Sighting, recognised: Recognition, host: dict[str, Any], reports: list[ProbeReport]
) -> InstalledAccelerator:
    accelerator = recognised.accelerator
    identity = recognised.identity
    looks_shared = seen.shares_host_memory or seen.looks_shared
    shared = looks_shared if accelerator is None else accelerator.unified_memory or seen.shares_host_memory
    if shared:
        _share_host_memory(seen, host)
        if seen.kind == "gpu":
            seen.kind = "apu" if seen.vendor == "amd" else "igpu"
    if accelerator is None:
        accelerator, identity = derive_accelerator(seen), "derived"
    elif seen.mig_parent is not None:
        accelerator = derive_slice(accelerator, seen)
    return InstalledAccelerator(
        accelerator=accelerator,
        identity=identity,
        reported_name=seen.reported_name,
        memory_total_bytes=seen.memory_total_bytes,
        memory_free_bytes=seen.memory_free_bytes,
        memory_reserved_bytes=seen.memory_reserved_bytes,
        processes=seen.processes,
        memory_bandwidth_bytes_per_s=_bandwidth(seen, accelerator, reports),
        memory_bus_width_bits=seen.bus_width_bits,
        memory_clock_hz=seen.memory_clock_hz,
        compute_units=seen.compute_units,
        compute_capability=seen.compute_capability,
        pcie_generation=seen.pcie_generation,
        pcie_lanes=seen.pcie_lanes,
        pcie_generation_max=seen.pcie_generation_max,
        pcie_lanes_max=seen.pcie_lanes_max,
        power_limit_w=seen.power_limit_w,
        power_default_w=seen.power_default_w,
        ecc=seen.ecc,
        mig_parent=seen.mig_parent,
        mig_profile=seen.mig_profile,
        mig_enabled=seen.mig_enabled,
        virtual=seen.virtual,
        display_active=seen.display_active,
        shares_host_memory=shared,
        unified_budget_bytes=seen.unified_budget_bytes,
        pci_id=seen.pci_id,
        driver_version=seen.driver_version,
    )


def _bandwidth(seen: Sighting, accelerator: Accelerator, reports: list[ProbeReport]) -> float | None:
    """Bandwidth of this very device, believed only beside the record that describes it."""
    if seen.vendor != "nvidia" or seen.mig_parent is not None or seen.virtual:
        # A slice has a share of the bus, and a virtual device none of its own; the record says what is left.
        return None
    if not seen.bus_width_bits or not seen.memory_clock_hz:
        return None
    derived = bandwidth_from_clock(seen.bus_width_bits, seen.memory_clock_hz)
    stated = None if is_derived(accelerator) else accelerator.memory_bandwidth
    if derived is not None and (stated is None or abs(derived / stated - 1) <= _TOLERANCE):
        return derived
    told = f"{seen.bus_width_bits} bit at {seen.memory_clock_hz / 1e6:.0f} MHz"
    reason = (
        f"{told} is no data rate that memory has"
        if derived is None or stated is None
        else f"{told} gives {derived / 1e9:.0f} GB/s, the record states {stated / 1e9:.0f} GB/s; the record is used"
    )
    reports.append(ProbeReport(probe=f"{seen.probe}.bandwidth", status="failed", reason=reason))
    return None


def _links(
    sightings: list[Sighting], devices: list[InstalledAccelerator], catalog: Catalog
) -> tuple[Link, ...]:
    """NVLinks between the devices and from them to a Grace processor; PCIe is a property of each device."""
    addresses = {seen.pci_address: i for i, seen in enumerate(sightings) if seen.pci_address}
    links: list[Link] = []
    switched = tuple(i for i, seen in enumerate(sightings) if "switch" in seen.nvlink_peers)
    if len(switched) > 1:
        total = min((devices[i].accelerator.link_bandwidth or 0.0) for i in switched)
        if total:
            links.append(Link(kind="nvlink", devices=switched, bandwidth_bytes_per_s=total / 2))
    for i, seen in enumerate(sightings):
        peers = {addresses[peer] for peer in seen.nvlink_peers if peer in addresses}
        total = devices[i].accelerator.link_bandwidth or 0.0
        for other in sorted(peers):
            if other > i and total:
                share = sum(addresses.get(peer) == other for peer in seen.nvlink_peers) / len(
                    seen.nvlink_peers
                )
                links.append(Link(kind="nvlink", devices=(i, other), bandwidth_bytes_per_s=total / 2 * share))
    for i, (seen, device) in enumerate(zip(sightings, devices, strict=True)):
        # The one such link with a cited rate is that of Grace Hopper; a shared memory needs none.
        known = catalog.interconnects.get("nvlink-c2c")
        hopper = seen.chip_to_chip and device.accelerator.architecture == "Hopper"
        if hopper and known is not None and not device.shares_host_memory:
            rate = known.bandwidth_per_direction
            links.append(Link(kind="c2c", devices=(i,), bandwidth_bytes_per_s=rate))
    return tuple(links)


def _with_processor(machine: Machine, catalog: Catalog) -> Machine:
    """What no system tells of the host and its record does: rates of the processor, bandwidth of its memory."""
    host = machine.host
    record = processor_of(host.cpu, catalog)
    peak = None if record is None else compute_peak(record)
    if peak is not None and host.fp32_flop_per_s is None:
        peak *= host.sockets or 1
        machine = machine.model_copy(update={"host": host.model_copy(update={"fp32_flop_per_s": peak})})
    return with_host_bandwidth(machine, catalog, record)


FEW_CORES = 4
"""Cores below which a processor may be unable to draw the bandwidth of its memory: a core keeps a limited number of
cache lines in flight. No source in the catalog tells the limit of a core, so it is said and not guessed."""


def with_host_bandwidth(machine: Machine, catalog: Catalog, record: HostPlatform | None) -> Machine:
    """The bandwidth of the host's memory: of the memory it shares, else of its record, else of its platform."""
    host = machine.host
    if host.memory_bandwidth_bytes_per_s is not None or host.ram_total_bytes is None:
        return machine
    shared = [
        d.accelerator for d in machine.accelerators if d.shares_host_memory and d.accelerator.memory_bandwidth
    ]
    if shared:
        changes: dict[str, Any] = {
            "memory_bandwidth_bytes_per_s": max(
                accelerator.memory_bandwidth or 0.0 for accelerator in shared
            ),
            "memory_type": shared[0].memory_type,
        }
        note = f"the processor reads memory as fast as {shared[0].name}, with which it shares it"
    else:
        known = memory_of(host.cpu, record, catalog)
        record = known or catalog.hosts.get(DEFAULT_PLATFORM)
        if record is None:
            return machine
        changes = {
            "memory_bandwidth_bytes_per_s": record.memory_bandwidth,
            "memory_type": record.memory_type,
            "memory_channels": record.memory_channels,
        }
        rate = format_rate(record.memory_bandwidth or 0.0, "B/s")
        why = f"the platform of {host.cpu} with all channels filled" if known else "no system tells it"
        note = f"host memory is taken for {record.name} ({rate}): {why}"
        if host.usable_cores is not None and host.usable_cores < FEW_CORES:
            note += f"; how much of it {host.usable_cores:g} cores can draw is unknown, and may be far less"
    return machine.model_copy(
        update={"host": host.model_copy(update=changes), "assumptions": (*machine.assumptions, note)}
    )


def _title(devices: list[InstalledAccelerator], host: dict[str, Any]) -> str:
    """A name for the machine that identifies nobody: its devices, or its processor."""
    names = list(dict.fromkeys(device.accelerator.name for device in devices))
    return " + ".join(names) if names else str(host.get("cpu") or "this machine")
