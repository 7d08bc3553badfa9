"""Apple silicon: the chip's name and core count, and how much memory Metal lets a process keep resident."""

from __future__ import annotations

import re

from willitrun.hardware.budgets import metal_budget
from willitrun.hardware.findings import Findings, Sighting
from willitrun.hardware.readings import believed
from willitrun.hardware.surroundings import Surroundings
from willitrun.units import format_bytes

__all__ = ["probe_apple"]

_MIB = 1 << 20
_TIB = 1 << 40
_CORES = re.compile(r'"gpu-core-count"\s*=\s*(\d+)')


def probe_apple(surroundings: Surroundings) -> Findings:
    """The GPU of an Apple chip.

    The name alone does not say which bin of a chip it is: the number of GPU cores does, and with it the memory
    bandwidth. The limit is ``MTLDevice.recommendedMaxWorkingSetSize`` where Metal answers, else
    ``iogpu.wired_limit_mb`` where it is set, else an estimate that is labelled so.
    """
    found = Findings()
    system = surroundings.ask("system")
    if not isinstance(system, dict) or system.get("system") != "macos":
        found.report("apple", "skipped", "not macOS")
        return found
    brand = _text(surroundings, "machdep.cpu.brand_string")
    if brand is None or not brand.startswith("Apple"):
        found.report("apple", "absent", "no Apple silicon")
        return found
    listed = surroundings.ask("command", "ioreg -rc AGXAccelerator -d 1")
    match = _CORES.search(listed) if isinstance(listed, str) else None
    cores = believed(int(match[1]), 1, 1024) if match else None
    if cores is None:
        found.report("apple.cores", "failed", "ioreg does not tell the number of GPU cores")
    ram = believed(_number(surroundings, "hw.memsize"), 1 << 30, 4 * _TIB)
    seen = Sighting(
        vendor="apple",
        probe="apple.gpu",
        reported_name=brand,
        kind="soc",
        compute_units=cores,
        shares_host_memory=True,
    )
    if ram is not None:
        seen.unified_budget_bytes = _budget(surroundings, found, ram)
        found.host["ram_total_bytes"] = ram
    found.devices.append(seen)
    found.report("apple", "ok", "1 device")
    return found


def _budget(surroundings: Surroundings, found: Findings, ram: int) -> int:
    see = ("troubleshooting:metal-working-set-exceeded",)
    metal = surroundings.ask("metal")
    told = metal.get("recommended_max_working_set_bytes") if isinstance(metal, dict) else None
    limit = believed(told, 64 * _MIB, ram)
    if limit is not None:
        found.report("apple.budget", "ok", f"Metal's recommended working set is {format_bytes(limit)}", see)
        return limit
    wired = believed(_number(surroundings, "iogpu.wired_limit_mb"), 0, 4_000_000)
    budget, how = metal_budget(ram, wired * _MIB if wired else None)
    found.report("apple.budget", "ok" if wired else "not-supported", f"Metal's working set is {how}", see)
    return budget


def _text(surroundings: Surroundings, key: str) -> str | None:
    answer = surroundings.ask("command", f"sysctl -n {key}")
    return answer.strip() or None if isinstance(answer, str) else None


def _number(surroundings: Surroundings, key: str) -> int | None:
    text = _text(surroundings, key)
    return int(text) if text is not None and re.fullmatch(r"\d{1,20}", text) else None
