"""Machines: what is installed, what is free now, and what could not be read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from willitrun.records.accelerators import Accelerator
from willitrun.records.bases import Bytes, BytesPerSecond, FlopPerSecond, Hertz, Record, Watt
from willitrun.records.presentation import Presented

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["Host", "InstalledAccelerator", "Link", "Machine", "ProbeReport", "ProcessUse", "SoftwareVersion"]


class ProbeReport(Record):
    """What one probe found, or why it found nothing."""

    probe: str
    """``nvml``, ``amd-sysfs``, ``cgroup``, ... or a field of it: ``nvml.memory_clock``."""
    status: Literal["ok", "absent", "not-supported", "denied", "timeout", "failed", "skipped"]
    reason: str = ""
    duration_s: float = 0.0
    see: tuple[str, ...] = ()


class ProcessUse(Record):
    """Device memory held by another process. No user names, no arguments."""

    name: str
    pid: int | None = None
    used_bytes: Bytes | None = None


class InstalledAccelerator(Record):
    """One device in a machine. A field that could not be read is None, never 0."""

    accelerator: Accelerator
    """The catalog record, or a derived one for a device that no record describes."""
    identity: Literal["pci-id", "name", "normalised-name", "catalog-id", "derived", "given"] = "catalog-id"
    reported_name: str | None = None
    memory_total_bytes: Bytes | None = None
    memory_free_bytes: Bytes | None = None
    memory_reserved_bytes: Bytes | None = None
    """Held by the driver itself; no process can have it."""
    processes: tuple[ProcessUse, ...] = ()
    memory_bandwidth_bytes_per_s: BytesPerSecond | None = None
    """From bus width and memory clock of this very device, where the driver tells them."""
    memory_bus_width_bits: int | None = None
    memory_clock_hz: Hertz | None = None
    compute_units: int | None = None
    compute_capability: str | None = None
    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    pcie_generation_max: int | None = None
    pcie_lanes_max: int | None = None
    power_limit_w: Watt | None = None
    power_default_w: Watt | None = None
    ecc: bool | None = None
    mig_parent: str | None = None
    """Name of the whole device, for a MIG slice."""
    mig_profile: str | None = None
    mig_enabled: bool | None = None
    virtual: bool | None = None
    """A vGPU profile."""
    display_active: bool | None = None
    shares_host_memory: bool = False
    unified_budget_bytes: Bytes | None = None
    """How much of the host's memory the device may use (Metal working set, GTT), where known."""
    pci_id: str | None = None
    driver_version: str | None = None

    @property
    def pcie_lanes_full(self) -> int | None:
        """Lanes that the product has. What the driver calls the maximum may be that of the slot."""
        told = [n for n in (self.accelerator.pcie_lanes, self.pcie_lanes_max) if n is not None]
        return max(told, default=None)


class SoftwareVersion(Record):
    """A driver or runtime found on the machine."""

    name: str
    version: str | None = None
    detail: str = ""


class Host(Record):
    """CPU, memory, disk and system of a machine."""

    cpu: str | None = None
    sockets: int | None = None
    cores: int | None = Field(None, gt=0)
    """Physical cores."""
    usable_cores: float | None = Field(None, gt=0)
    """What affinity and quotas leave."""
    instruction_sets: tuple[str, ...] = ()
    fp32_flop_per_s: FlopPerSecond | None = None
    ram_total_bytes: Bytes | None = None
    ram_available_bytes: Bytes | None = None
    memory_limit_bytes: Bytes | None = None
    """The smallest cgroup limit above this process, if any."""
    swap_total_bytes: Bytes | None = None
    huge_pages_bytes: Bytes | None = None
    """Set aside as huge pages: part of the total that ordinary programs cannot have."""
    memory_bandwidth_bytes_per_s: BytesPerSecond | None = None
    memory_type: str | None = None
    memory_channels: int | None = None
    disk_free_bytes: Bytes | None = None
    disk_read_bytes_per_s: BytesPerSecond | None = None
    system: Literal["linux", "windows", "macos"] | None = None
    system_version: str | None = None
    virtualization: Literal["container", "wsl2", "vm"] | None = None
    pcie_generation: int | None = None


class Link(Record):
    """A link between devices (by index); one from the host names a single device, or none for all of them."""

    kind: Literal["pcie", "nvlink", "infinity-fabric", "c2c", "usb4", "thunderbolt", "ethernet", "oculink"]
    devices: tuple[int, ...] = ()
    """Indices of the devices it joins; empty: all of them."""
    bandwidth_bytes_per_s: BytesPerSecond
    """Per direction."""


class Machine(Presented):
    """A machine, detected or described."""

    name: str
    source: Literal["detected", "described", "capture"]
    accelerators: tuple[InstalledAccelerator, ...] = ()
    host: Host = Host.model_construct()
    links: tuple[Link, ...] = ()
    software: tuple[SoftwareVersion, ...] = ()
    probes: tuple[ProbeReport, ...] = ()
    assumptions: tuple[str, ...] = ()
    """What was assumed because nobody said it: host memory, CPU, PCIe."""

    # The written forms of a machine. They look names up and replay probes, so their code lives in `hardware`,
    # above the records; it is imported when called (`.importlinter` lists the two imports with this reason).

    def to_query(self) -> str:
        """The parts that decide verdicts, as a URL query to share; see `willitrun.hardware.queries.to_query`.

        >>> from willitrun import describe_machine
        >>> describe_machine("rtx-3090").to_query()[:44]
        'gpu=nvidia-geforce-rtx-3090~pcie+4.0+x16&ram'
        """
        from willitrun.hardware.queries import to_query

        return to_query(self)

    @classmethod
    def from_query(cls, text: str, *, catalog: "Catalog | None" = None) -> "Machine":
        """The machine that a query describes.

        >>> len(Machine.from_query("gpu=rtx-3090&gpu=rtx-3090&ram=128+GiB").accelerators)
        2
        """
        from willitrun.hardware.queries import from_query

        return from_query(text, catalog=catalog)

    def to_capture(self) -> dict[str, Any]:
        """The machine as plain data, without process names and ids: what a bug report may carry."""
        from willitrun.hardware.captures import to_capture

        return to_capture(self)

    @classmethod
    def from_capture(cls, data: Mapping[str, Any], *, catalog: "Catalog | None" = None) -> "Machine":
        """The machine of a capture: readings are replayed through the probes, a finished machine is read."""
        from willitrun.hardware.captures import from_capture

        return from_capture(data, catalog=catalog)

    def summary(self) -> str:
        if not self.accelerators:
            devices = "no GPU"
        else:
            counted: dict[str, int] = {}
            for device in self.accelerators:
                counted[device.accelerator.name] = counted.get(device.accelerator.name, 0) + 1
            devices = " + ".join(f"{n} x {name}" if n > 1 else name for name, n in counted.items())
        from willitrun.units import format_bytes

        ram = self.host.ram_total_bytes
        return f"{devices}, {format_bytes(ram) if ram else 'unknown'} RAM ({self.source})"
