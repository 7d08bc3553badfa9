"""`doctor`: what was found, what was not and why, and what is misconfigured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from willitrun.checkups.findings import Finding
from willitrun.checkups.software import examine_software
from willitrun.records.machines import InstalledAccelerator, Machine
from willitrun.records.presentation import Presented
from willitrun.units import format_bytes, format_rate

__all__ = ["DoctorReport", "Finding", "doctor"]

_GIB = 1 << 30
# Lanes below which loading and offloading crawl: a quarter of an x16 slot.
_FEW_LANES = 4
_POWER_MARGIN = 0.95
_VENDORS = ("nvml", "amd", "intel", "apple")
_LITTLE_DISK = 20 * _GIB
# What to look at first where no GPU is seen, by the kind of place this is.
_NO_GPU = {
    "container": (" A container sees a GPU only if it is passed in (--gpus all).", "container-without-gpu"),
    "wsl2": (" Under WSL2 the driver is that of Windows; none belongs inside.", "wsl-cuda-not-found"),
}


class DoctorReport(Presented):
    """Everything the doctor found, problems first."""

    machine: str
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing needs attention."""
        return not any(finding.severity == "problem" for finding in self.findings)

    def summary(self) -> str:
        problems = sum(finding.severity == "problem" for finding in self.findings)
        if problems == 0:
            return f"{self.machine}: nothing needs attention."
        return f"{self.machine}: {problems} {'thing needs' if problems == 1 else 'things need'} attention."

    def rows(self) -> tuple[tuple[str, str], ...]:
        return tuple((f"{finding.severity}: {finding.title}", finding.message) for finding in self.findings)


def doctor(machine: Machine | None = None) -> DoctorReport:
    """Examine a machine; without one, this one.

    Parameters
    ----------
    machine
        A detected machine, or one from a capture; a described one has nothing that could be misconfigured.

    Examples
    --------
    >>> from willitrun.hardware.descriptions import describe_machine
    >>> doctor(describe_machine("ddr5-5600-dual")).healthy
    True
    """
    if machine is None:
        from willitrun.hardware.detection import detect

        machine = detect()
    found = [finding for check in _CHECKS for finding in check(machine)]
    order = {"problem": 0, "note": 1, "good": 2}
    unique = {(finding.code, finding.message): finding for finding in found}
    return DoctorReport(
        machine=machine.name,
        findings=tuple(sorted(unique.values(), key=lambda finding: order[finding.severity])),
    )


def _devices(machine: Machine) -> Iterator[Finding]:
    for index, device in enumerate(machine.accelerators):
        record = device.accelerator
        memory = device.memory_total_bytes
        facts = [f"{format_bytes(memory)} of memory" if memory else "memory unknown"]
        if device.shares_host_memory and device.unified_budget_bytes:
            facts.append(f"of which it may use {format_bytes(device.unified_budget_bytes)}")
        bandwidth = device.memory_bandwidth_bytes_per_s or record.memory_bandwidth
        facts.append(format_rate(bandwidth, "B/s") if bandwidth else "bandwidth unknown")
        known = device.identity != "derived"
        message = f"{record.name}: {', '.join(facts)}."
        if not known:
            message += (
                " No record describes it; its figures are derived from what the driver tells, or unknown."
            )
        yield Finding(
            code="device-found" if known else "device-unknown",
            severity="good" if known else "note",
            title=f"Device {index}",
            message=message,
        )
    if not machine.accelerators and machine.source != "described":
        where, entry = _NO_GPU.get(machine.host.virtualization or "", ("", None))
        looked = "; ".join(
            report.reason
            for report in machine.probes
            if report.status == "absent" and report.probe in _VENDORS
        )
        where = (f" Looked for: {looked}." if looked else "") + where
        yield Finding(
            code="no-accelerator",
            severity="note",
            title="No GPU",
            message=f"No accelerator was found; models run on the processor.{where}",
            see=tuple(f"troubleshooting:{name}" for name in (entry, "gpu-not-detected") if name),
        )


def _host(machine: Machine) -> Iterator[Finding]:
    host = machine.host
    facts = [
        host.cpu or "processor unknown",
        f"{host.cores} cores" if host.cores else "cores unknown",
        f"{format_bytes(host.ram_total_bytes)} of RAM" if host.ram_total_bytes else "RAM unknown",
    ]
    if host.ram_available_bytes is not None:
        facts.append(f"{format_bytes(host.ram_available_bytes)} of it available")
    if host.disk_free_bytes is not None:
        facts.append(f"{format_bytes(host.disk_free_bytes)} of disk free")
    yield Finding(code="host-found", severity="good", title="Host", message=f"{', '.join(facts)}.")


def _probe_failures(machine: Machine) -> Iterator[Finding]:
    titles = {"failed": "could not be read", "denied": "access denied", "timeout": "no answer in time"}
    for report in machine.probes:
        if report.status not in titles:
            continue
        # A single field that is missing is worth a note; a device or driver that is missing is a problem.
        whole = report.status != "failed" or report.probe.count(".") == 0 or bool(report.see)
        yield Finding(
            code=f"probe-{report.status}",
            severity="problem" if whole else "note",
            title=f"{report.probe}: {titles[report.status]}",
            message=_sentence(report.reason),
            see=report.see,
        )


def _mig(machine: Machine) -> Iterator[Finding]:
    for report in machine.probes:
        if report.probe.endswith(".mig"):
            yield Finding(
                code="mig-without-slice" if report.status == "absent" else "mig-several-slices",
                severity="problem" if report.status == "absent" else "note",
                title="MIG",
                message=_sentence(report.reason),
                see=report.see,
            )


def _links(machine: Machine) -> Iterator[Finding]:
    for device in machine.accelerators:
        lanes, most = device.pcie_lanes, device.pcie_lanes_full
        if lanes is None or most is None or lanes >= most or device.shares_host_memory:
            continue
        generation = f"PCIe {device.pcie_generation}.0 " if device.pcie_generation else ""
        yield Finding(
            code="pcie-narrow",
            severity="problem" if lanes <= _FEW_LANES else "note",
            title="PCIe link",
            message=f"{device.accelerator.name} runs at {generation}x{lanes} of x{most}: loading, offloading and "
            "splitting over cards are slower; a model that lies in its memory is not.",
            see=("troubleshooting:pcie-width",),
        )


def _power(machine: Machine) -> Iterator[Finding]:
    for device in machine.accelerators:
        limit, full = device.power_limit_w, device.power_default_w
        if limit is not None and full is not None and limit < _POWER_MARGIN * full:
            yield Finding(
                code="power-capped",
                severity="note",
                title="Power limit",
                message=f"{device.accelerator.name} is held at {limit:.0f} W of {full:.0f} W.",
                see=("troubleshooting:power-cap",),
            )


def _held_memory(machine: Machine) -> Iterator[Finding]:
    for device in machine.accelerators:
        total, free = device.memory_total_bytes, device.memory_free_bytes
        if total is None or free is None or device.shares_host_memory:
            continue
        held = total - free - (device.memory_reserved_bytes or 0)
        if held > total // 5:
            names = ", ".join(dict.fromkeys(process.name for process in device.processes[:4]))
            yield Finding(
                code="memory-held",
                severity="note",
                title="Memory in use",
                message=f"{format_bytes(held)} of {device.accelerator.name} is held{f' by {names}' if names else ''}.",
                see=("troubleshooting:cuda-oom-other-process",),
            )


def _limits(machine: Machine) -> Iterator[Finding]:
    host = machine.host
    limit, total = host.memory_limit_bytes, host.ram_total_bytes
    if limit is not None and total is not None and limit < total:
        yield Finding(
            code="cgroup-limit",
            severity="note",
            title="Container limit",
            message=f"This process may use {format_bytes(limit)} of the machine's {format_bytes(total)} of RAM.",
            see=("troubleshooting:container-memory-limit",),
        )
    if host.virtualization == "wsl2" and total is not None:
        yield Finding(
            code="wsl-memory",
            severity="note",
            title="WSL2",
            message=f"Windows gives this virtual machine {format_bytes(total)} of RAM, by default half of what is installed.",
            see=("troubleshooting:wsl-memory-limit",),
        )
    if host.disk_free_bytes is not None and host.disk_free_bytes < _LITTLE_DISK:
        message = f"{format_bytes(host.disk_free_bytes)} are free where models are downloaded to."
        yield Finding(
            code="disk-nearly-full",
            severity="note",
            title="Disk",
            message=message,
            see=("troubleshooting:disk-full",),
        )


def _unified(machine: Machine) -> Iterator[Finding]:
    for device in machine.accelerators:
        if _carved_little(device):
            yield Finding(
                code="unified-budget-small",
                severity="note",
                title="Unified memory",
                message=f"{device.accelerator.name} may use {format_bytes(device.unified_budget_bytes or 0)} of "
                f"{format_bytes(device.memory_total_bytes or 0)}; the firmware or a kernel setting (GTT, wired limit) decides.",
                see=("troubleshooting:metal-working-set-exceeded",)
                if device.accelerator.vendor == "apple"
                else ("troubleshooting:integrated-gpu-small-carve-out",),
            )


def _carved_little(device: InstalledAccelerator) -> bool:
    budget, total = device.unified_budget_bytes, device.memory_total_bytes
    return budget is not None and total is not None and budget < 0.6 * total


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".") if text else ""


_CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    _devices,
    _host,
    _probe_failures,
    _mig,
    _links,
    _power,
    _held_memory,
    examine_software,
    _limits,
    _unified,
)
