"""What captured numbers and a machine say about the causes of a failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from willitrun.errors import UnitError
from willitrun.records.machines import Machine
from willitrun.units import format_bytes, parse_bytes

__all__ = ["PROBES", "finding", "read_numbers", "shortfall", "weigh"]

Numbers = Mapping[str, int]
Details = Mapping[str, str]

_SUFFIXES = {"_bytes": 1, "_mb": 2**20, "_mib": 2**20, "_gib": 2**30}
_AMOUNT = re.compile(r"\A(\d[\d.,]*) ?(bytes|[KMGT]i?B|B)\Z")


def read_numbers(groups: Mapping[str, str]) -> tuple[dict[str, int], dict[str, str]]:
    """Split captures into amounts [bytes] and other details.

    A group named ``..._1024`` holds decimal unit names for binary amounts, as Metal's messages do;
    ``..._bytes``, ``..._mb`` and ``..._gib`` hold plain numbers in that unit.

    Examples
    --------
    >>> read_numbers({"tried": "2.37 GiB", "free_gib": "20.1", "device": "0"})
    ({'tried': 2544768123, 'free': 21582210662}, {'device': '0'})
    """
    numbers: dict[str, int] = {}
    details: dict[str, str] = {}
    for name, text in groups.items():
        suffix = next((end for end in _SUFFIXES if name.endswith(end)), None)
        if suffix is not None:
            numbers[name.removesuffix(suffix)] = round(Fraction(_plain(text)) * _SUFFIXES[suffix])
            continue
        match = _AMOUNT.match(text)
        if match is None:
            details[name] = text
            continue
        unit = "B" if match[2] == "bytes" else match[2]
        if name.endswith("_1024") and unit in ("KB", "MB", "GB", "TB"):
            unit = f"{unit[0]}iB"
        try:
            numbers[name.removesuffix("_1024")] = parse_bytes(f"{_plain(match[1])} {unit}")
        except UnitError:
            details[name] = text
    return numbers, details


def _plain(text: str) -> str:
    """Digits with a decimal point: ``1900,00`` and ``1,900.5`` are both written in logs."""
    text = text.rstrip(".,")
    if "," in text and "." not in text and len(text) - text.rindex(",") != 4:
        text = text.replace(",", ".")
    return text.replace(",", "")


def shortfall(numbers: Numbers) -> int | None:
    """How many bytes were missing, where the log tells; None otherwise."""
    tried, free = numbers.get("tried"), _free(numbers)
    if tried is None or free is None or tried <= free:
        return None
    return tried - free


def _free(numbers: Numbers) -> int | None:
    if "free" in numbers:
        return numbers["free"]
    total = numbers.get("total")
    held = sum(numbers[name] for name in ("allocated", "other") if name in numbers)
    return None if total is None or not held else max(0, total - held)


def finding(numbers: Numbers, details: Details) -> str:
    """What the numbers mean, and what would have fitted."""
    parts: list[str] = []
    tried, free, missing = numbers.get("tried"), _free(numbers), shortfall(numbers)
    if missing is not None and free is not None and tried is not None:
        parts.append(
            f"It asked for {format_bytes(tried)} with {format_bytes(free)} free: "
            f"{format_bytes(missing)} more, or a request smaller by that, would have fitted."
        )
    elif tried is not None and free is not None:
        parts.append(
            f"It asked for {format_bytes(tried)} although {format_bytes(free)} were free: "
            "the room is in pieces, or something else took it meanwhile."
        )
    elif tried is not None:
        parts.append(f"It asked for {format_bytes(tried)}.")
    context = details.get("context_tokens")
    if "fitting_tokens" in details:
        parts.append(f"A context of {int(details['fitting_tokens']):,} tokens would have fitted.")
    elif context and tried and free is not None and missing is not None:
        # The cache is linear in the context wherever no layer has a window, and no worse where some do.
        parts.append(f"About {int(context) * free // tried:,} tokens would have fitted.")
    return " ".join(parts)


def _needs_more(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    tried, total = numbers.get("tried"), numbers.get("total")
    if tried is None:
        return None
    if total is None:
        return True if shortfall(numbers) else None
    mine = max(numbers.get("used", 0), numbers.get("allocated", 0))
    # What the driver keeps, and what no allocator can use, is a few percent.
    return tried + mine > total * 97 // 100


def _other_process(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    total, free = numbers.get("total"), numbers.get("free")
    mine = max(
        numbers.get("used", 0),
        numbers.get("held", 0),
        numbers.get("allocated", 0) + numbers.get("reserved", 0),
    )
    if total is None or free is None or not mine:
        return _processes(numbers, details, machine)
    return total - free - mine > total // 10


def _fragmentation(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    tried = numbers.get("tried")
    unused = numbers.get("reserved")
    if unused is None and "held" in numbers and "allocated" in numbers:
        unused = numbers["held"] - numbers["allocated"]
    return None if tried is None or unused is None else unused >= tried


def _small_request(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    tried, total, allocated = (numbers.get(name) for name in ("tried", "total", "allocated"))
    if tried is None or total is None or allocated is None:
        return None
    return tried < total // 50 and allocated > total * 3 // 4


def _partial_offload(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    if "layers" not in details or "layers_on_gpu" not in details:
        return None
    return 0 < int(details["layers_on_gpu"]) < int(details["layers"])


def _long_context(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    return int(details["context_tokens"]) > 32_768 if "context_tokens" in details else None


def _chip_named(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    return True if "gfx" in details else None


def _too_many_workers(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    if "asked_workers" in details and "cores" in details:
        return int(details["asked_workers"]) < int(details["cores"])
    return None


def _processes(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    if machine is None or machine.source == "described":
        return None
    used = [process.used_bytes or 0 for device in machine.accelerators for process in device.processes]
    return sum(used) > 0 if used else None


def _display(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    known = [device.display_active for device in machine.accelerators] if machine else []
    return None if None in known or not known else any(known)


def _no_accelerator(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    return None if machine is None else not machine.accelerators


def _in(kind: str) -> Callable[[Numbers, Details, Machine | None], bool | None]:
    def answer(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
        return None if machine is None else machine.host.virtualization == kind

    return answer


def _limited(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    if machine is None:
        return None
    return machine.host.memory_limit_bytes is not None or machine.host.virtualization in ("container", "wsl2")


def _group_limit(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    return None if machine is None else machine.host.memory_limit_bytes is not None


def _on_windows(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    return None if machine is None or machine.host.system is None else machine.host.system == "windows"


def _unified(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    if machine is None or not machine.accelerators:
        return None
    return any(device.shares_host_memory for device in machine.accelerators)


def _power_capped(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    devices = machine.accelerators if machine else ()
    known = [(d.power_limit_w, d.power_default_w) for d in devices if d.power_limit_w and d.power_default_w]
    return any(limit < default * 0.97 for limit, default in known if limit and default) if known else None


def _pcie_narrow(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    devices = machine.accelerators if machine else ()
    known = [(d.pcie_lanes, d.pcie_lanes_max) for d in devices if d.pcie_lanes and d.pcie_lanes_max]
    return any(now < most for now, most in known if now and most) if known else None


def _mig_slice(numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    if machine is None or not machine.accelerators:
        return None
    return any(device.mig_profile is not None for device in machine.accelerators)


PROBES: dict[str, Callable[[Numbers, Details, Machine | None], bool | None]] = {
    "log.needs-more": _needs_more,
    "log.other-process": _other_process,
    "log.fragmentation": _fragmentation,
    "log.small-request": _small_request,
    "log.partial-offload": _partial_offload,
    "log.context": _long_context,
    "log.gfx": _chip_named,
    "log.workers": _too_many_workers,
    "machine.processes": _processes,
    "machine.display": _display,
    "machine.no-accelerator": _no_accelerator,
    "machine.container": _in("container"),
    "machine.wsl": _in("wsl2"),
    "machine.limited": _limited,
    "machine.memory-limit": _group_limit,
    "machine.windows": _on_windows,
    "machine.unified": _unified,
    "machine.power-capped": _power_capped,
    "machine.pcie-narrow": _pcie_narrow,
    "machine.mig": _mig_slice,
}
"""Named questions that a cause may ask: of the log's numbers and details, and of a machine."""


def weigh(probe: str, numbers: Numbers, details: Details, machine: Machine | None) -> bool | None:
    """Whether a cause applies: True, False, or None where neither log nor machine tells."""
    question = PROBES.get(probe)
    return None if question is None else question(numbers, details, machine)
