"""What a probe hands back: devices it saw, facts about the host, software, and reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from willitrun.records.accelerators import Vendor
from willitrun.records.machines import ProbeReport, ProcessUse, SoftwareVersion

__all__ = ["Findings", "Sighting"]


@dataclass(slots=True)
class Sighting:
    """One device as its driver describes it, before anybody says which product it is. Unknown is None, never 0."""

    vendor: Vendor
    probe: str
    reported_name: str | None = None
    kind: Literal["gpu", "apu", "igpu", "soc", "accelerator"] = "gpu"
    pci_id: str | None = None
    """``vendor:device`` in lower-case hex."""
    pci_revision: str | None = None
    pci_address: str | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    processes: tuple[ProcessUse, ...] = ()
    bus_width_bits: int | None = None
    memory_clock_hz: float | None = None
    compute_clock_hz: float | None = None
    compute_units: int | None = None
    compute_capability: str | None = None
    gfx_target: str | None = None
    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    pcie_generation_max: int | None = None
    pcie_lanes_max: int | None = None
    power_limit_w: float | None = None
    power_default_w: float | None = None
    ecc: bool | None = None
    mig_parent: str | None = None
    mig_profile: str | None = None
    mig_enabled: bool | None = None
    mig_parent_memory_bytes: int | None = None
    virtual: bool | None = None
    display_active: bool | None = None
    shares_host_memory: bool = False
    looks_shared: bool = False
    """No record is needed to see that it computes out of the host's memory; a record, where there is one, decides."""
    carve_out_bytes: int | None = None
    """Host memory that the firmware set aside for the device; the system does not count it as RAM."""
    carve_out_free_bytes: int | None = None
    borrowed_bytes: int | None = None
    """Host memory that the device may map besides (GTT)."""
    borrowed_free_bytes: int | None = None
    unified_budget_bytes: int | None = None
    driver_version: str | None = None
    module: str | None = None
    """The board that carries a system-on-chip, from the device tree."""
    nvlink_peers: tuple[str, ...] = ()
    """PCI addresses at the other ends of active NVLinks, one per link; ``switch`` for an NVSwitch."""
    chip_to_chip: bool | None = None


@dataclass(slots=True)
class Findings:
    """Everything one probe found."""

    devices: list[Sighting] = field(default_factory=list)
    host: dict[str, Any] = field(default_factory=dict)
    """Fields of `Host`, where this probe knows them."""
    software: list[SoftwareVersion] = field(default_factory=list)
    reports: list[ProbeReport] = field(default_factory=list)

    def report(
        self,
        probe: str,
        status: Literal["ok", "absent", "not-supported", "denied", "timeout", "failed", "skipped"],
        reason: str = "",
        see: tuple[str, ...] = (),
    ) -> None:
        """Say what came of a probe or of one field of it."""
        self.reports.append(ProbeReport(probe=probe, status=status, reason=reason, see=see))
