"""How much memory a model may use: free now, as if idle, or by the nameplate less what the system keeps."""

from __future__ import annotations

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError
from willitrun.frozen import frozen
from willitrun.records.machines import InstalledAccelerator, Machine
from willitrun.records.results import Reason
from willitrun.units import format_bytes

__all__ = ["Availability", "Deduction", "available_memory", "driver_reserve_bytes"]


@frozen
class Deduction:
    """Bytes of a device, or of the host, that no model gets, and why."""

    name: str
    cause: str
    bytes: int


@frozen
class Availability:
    """Bytes that a model may use, by device, and what limits them.

    ``unified`` says that host and devices share one memory (or that the host computes itself).
    """

    devices: tuple[int, ...]
    names: tuple[str, ...]
    host: int
    unified: bool
    reasons: tuple[Reason, ...] = ()
    deductions: tuple[Deduction, ...] = ()


def driver_reserve_bytes(total: int, catalog: Catalog) -> int:
    """What the driver keeps of a device of so many bytes, where nobody read it [bytes]."""
    reserve = catalog.calibrations["system-reserve"].coefficients
    return min(round(reserve["device_base_bytes"] + reserve["device_fraction"] * total), total)


def available_memory(
    machine: Machine, memory: str, catalog: Catalog, *, on_host: bool = False
) -> Availability:
    """Available bytes of each device and of the host.

    Parameters
    ----------
    machine
        Detected or described.
    memory
        ``free``: now, where it was detected; ``idle``: as if no other process held any; ``nameplate``: what
        is installed. A described machine has no "now": its nameplate less the system's reserve is taken.
    on_host
        The host itself computes; devices are left out.

    Raises
    ------
    MissingDataError
        No source says how much memory a device or the host has.
    """
    reserve = catalog.calibrations["system-reserve"].coefficients
    reasons: list[Reason] = []
    taken: list[Deduction] = []
    host = _host(machine, memory, reserve, reasons, taken)
    if on_host or not machine.accelerators:
        return Availability((host,), (machine.host.cpu or "CPU",), host, True, tuple(reasons), tuple(taken))
    devices = tuple(
        _device(machine, device, memory, catalog, host, reasons, taken) for device in machine.accelerators
    )
    return Availability(
        devices,
        tuple(device.accelerator.name for device in machine.accelerators),
        host,
        all(device.shares_host_memory for device in machine.accelerators),
        tuple(reasons),
        tuple(taken),
    )


def _host(
    machine: Machine, memory: str, reserve: dict[str, float], reasons: list[Reason], taken: list[Deduction]
) -> int:
    host = machine.host
    total = host.ram_total_bytes
    if total is None:
        raise MissingDataError(
            f"{machine.name}: no source says how much RAM the host has.", hint="Pass host={'ram': '32 GiB'}."
        )
    kept = round(reserve["host_base_bytes"] + reserve["host_fraction"] * total)
    if memory == "nameplate":
        room = total
    elif memory == "free" and host.ram_available_bytes is not None:
        room = host.ram_available_bytes
    else:
        room = max(total - kept, 0)
    limit = host.memory_limit_bytes
    if limit is not None and limit < total:
        reasons.append(
            Reason.model_construct(
                code="cgroup-limit",
                message=f"A container limit of {format_bytes(limit)} stands below the machine's {format_bytes(total)} of RAM.",
                numbers={"memory_limit_bytes": limit, "ram_total_bytes": total},
            )
        )
        room = min(room, limit)
    if room < total:
        cause = "used now" if memory == "free" and host.ram_available_bytes is not None else "system"
        taken.append(
            Deduction("host", cause if limit is None or limit > room else "container limit", total - room)
        )
    return room


def _device(
    machine: Machine,
    device: InstalledAccelerator,
    memory: str,
    catalog: Catalog,
    host: int,
    reasons: list[Reason],
    taken: list[Deduction],
) -> int:
    name = device.accelerator.name
    if device.shares_host_memory:
        return _unified(machine, device, memory, host, reasons, taken)
    total = device.memory_total_bytes or device.accelerator.memory or device.accelerator.memory_marketed
    if total is None:
        raise MissingDataError(f"{name}: no source says how much memory it has.")
    if memory == "nameplate":
        return total
    if memory == "free" and device.memory_free_bytes is not None:
        held = total - device.memory_free_bytes - (device.memory_reserved_bytes or 0)
        if held > total // 20:
            holders = ", ".join(process.name for process in device.processes[:3])
            reasons.append(
                Reason.model_construct(
                    code="memory-held-by-others",
                    message=f"{format_bytes(held)} of {name} is held{f' by {holders}' if holders else ' by other processes'}.",
                    numbers={"held_bytes": held, "free_bytes": device.memory_free_bytes},
                )
            )
        taken.append(Deduction(name, "driver", device.memory_reserved_bytes or 0))
        taken.append(Deduction(name, "other processes", max(held, 0)))
        return device.memory_free_bytes
    kept = device.memory_reserved_bytes
    kept = driver_reserve_bytes(total, catalog) if kept is None else min(kept, total)
    taken.append(Deduction(name, "driver", kept))
    # No other program does not mean no desktop: what draws it stays.
    if machine.host.system == "windows" and device.display_active is not False:
        desktop = round(catalog.calibrations["system-reserve"].coefficients["windows_desktop_bytes"])
        desktop = min(desktop, total - kept)
        taken.append(Deduction(name, "desktop", desktop))
        kept += desktop
    return total - kept


def _lends_half(machine: Machine, device: InstalledAccelerator) -> bool:
    """Whether the driver's own limit is half of the memory, and nobody read what it is set to.

    References
    ----------
    "drm/amdgpu: Adjust logic around GTT size (v3)", Linux commit f7ba887f606b: max(3 GiB, half of system memory).
    """
    return device.accelerator.vendor == "amd" and machine.host.system == "linux"


def _unified(
    machine: Machine,
    device: InstalledAccelerator,
    memory: str,
    host: int,
    reasons: list[Reason],
    taken: list[Deduction],
) -> int:
    total = machine.host.ram_total_bytes
    assert total is not None  # _host has raised
    budget = device.unified_budget_bytes
    if budget is None:
        budget = total if memory == "nameplate" else host
    if budget < total:
        message = f"{device.accelerator.name} may use {format_bytes(budget)} of the {format_bytes(total)} it shares with the host."
        if device.unified_budget_bytes is None and _lends_half(machine, device):
            message += (
                f" Beyond what the firmware sets aside, Linux lends it {format_bytes(total // 2)} unless the kernel is "
                "told more (ttm.pages_limit): it is taken to be."
            )
        reasons.append(
            Reason.model_construct(
                code="unified-memory-budget",
                message=message,
                numbers={"budget_bytes": budget, "ram_total_bytes": total},
            )
        )
    if memory == "nameplate":
        room = budget
    elif memory == "free" and device.memory_free_bytes is not None:
        # A driver that tells what is free knows about carve-outs that RAM does not show.
        room = device.memory_free_bytes
    else:
        room = min(budget, host) if budget <= total else budget
    if room < total:
        cause = "the system's budget for the GPU" if room == budget else "system and other processes"
        taken.append(Deduction(device.accelerator.name, cause, total - room))
    return room
