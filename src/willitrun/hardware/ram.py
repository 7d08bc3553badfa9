"""Main memory: what is installed, what is free, and what a container may take."""

from __future__ import annotations

from willitrun.hardware.cgroups import read_control_groups
from willitrun.hardware.findings import Findings
from willitrun.hardware.readings import believed
from willitrun.hardware.surroundings import Surroundings
from willitrun.units import format_bytes

__all__ = ["probe_ram"]

_MIB = 1 << 20
_PIB = 1 << 50


def probe_ram(surroundings: Surroundings) -> Findings:
    """RAM and swap [bytes].

    ``psutil`` sees the host even inside a container, so the smallest control-group limit is read beside it.
    """
    found = Findings()
    memory = surroundings.ask("memory")
    if not isinstance(memory, dict):
        memory = _from_proc(surroundings)
    total = believed(memory.get("total"), 16 * _MIB, _PIB)
    if total is None:
        found.report("ram", "failed", "the system does not tell how much memory it has")
        return found
    available = believed(memory.get("available"), 0, total)
    groups = read_control_groups(surroundings)
    limit = groups.memory_limit_bytes
    if limit is not None and limit < total:
        room = max(0, limit - (groups.memory_used_bytes or 0))
        available = room if available is None else min(available, room)
        see = ("troubleshooting:container-memory-limit",)
        found.report(
            "cgroup",
            "ok",
            f"a control group (version {groups.version}) caps memory at {format_bytes(limit)}",
            see,
        )
        found.host["memory_limit_bytes"] = limit
        if groups.memory_used_bytes is None:
            reason = "what the control group has used is not told: less than its limit may be free"
            found.report("cgroup.used", "not-supported", reason)
    else:
        found.report("cgroup", "absent", "no memory limit on this process")
    found.host["ram_total_bytes"] = total
    found.host["ram_available_bytes"] = available
    found.host["swap_total_bytes"] = believed(memory.get("swap_total"), 0, _PIB)
    _huge_pages(surroundings, found, total)
    found.report("ram", "ok")
    return found


def _huge_pages(surroundings: Surroundings, found: Findings, total: int) -> None:
    """Huge pages are taken out of the pool when they are reserved, used or not."""
    values = _meminfo(surroundings)
    pages, size = values.get("HugePages_Total"), values.get("Hugepagesize")
    if pages is None or size is None:
        return
    kept = believed(pages * size, 0, total)
    found.host["huge_pages_bytes"] = kept
    if kept:
        found.report("ram.huge-pages", "ok", f"{format_bytes(kept)} of RAM is set aside as huge pages")


def _meminfo(surroundings: Surroundings) -> dict[str, int]:
    text = surroundings.ask("text", "/proc/meminfo")
    values: dict[str, int] = {}
    for line in text.splitlines() if isinstance(text, str) else ():
        key, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            values[key] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return values


def _from_proc(surroundings: Surroundings) -> dict[str, int]:
    values = _meminfo(surroundings)
    names = {"MemTotal": "total", "MemAvailable": "available", "SwapTotal": "swap_total"}
    return {ours: values[theirs] for theirs, ours in names.items() if theirs in values}
