"""Display adapters of Windows, from the registry; what a vendor's own library says goes before it."""

from __future__ import annotations

import re
from typing import Any

from willitrun.hardware.findings import Findings, Sighting
from willitrun.hardware.readings import believed
from willitrun.hardware.surroundings import Surroundings
from willitrun.records.accelerators import Vendor

__all__ = ["probe_windows"]

_MIB = 1 << 20
_TIB = 1 << 40
_PCI = re.compile(r"ven_([0-9a-f]{4})&dev_([0-9a-f]{4})(?:.*?&rev_([0-9a-f]{2}))?", re.IGNORECASE)
_VENDORS: dict[str, Vendor] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
# Graphics inside a processor, by the names their drivers carry. Their "memory" is a carve-out of the host's.
_INTEGRATED = re.compile(
    r"\b(?:UHD|HD|Iris)\b|Arc\(TM\)(?: 1[34]0[VT]\b| Graphics\b| B3\d0\b)|Radeon(?:\(TM\))? (?:\d{3}M|80\d0S)\b"
    r"|Radeon(?:\(TM\))?(?: Vega \d+)? Graphics\b|Radeon\(TM\) Vega \d+ Graphics",
    re.IGNORECASE,
)


def probe_windows(surroundings: Surroundings) -> Findings:
    """Adapters whose driver runs in this session; entries of cards that were taken out are left."""
    found = Findings()
    system = surroundings.ask("system")
    if not isinstance(system, dict) or system.get("system") != "windows":
        found.report("windows", "skipped", "not Windows")
        return found
    adapters = surroundings.ask("registry")
    for index, adapter in enumerate(adapters if isinstance(adapters, list) else []):
        if isinstance(adapter, dict):
            _adapter(found, index, adapter)
    if found.devices:
        found.report("windows", "ok", f"{len(found.devices)} adapter(s)")
    else:
        found.report("windows", "absent", "no display adapter of a known vendor in the registry")
    return found


def _adapter(found: Findings, index: int, adapter: dict[str, Any]) -> None:
    name = adapter.get("DriverDesc")
    match = _PCI.search(str(adapter.get("MatchingDeviceId", "")))
    if not isinstance(name, str) or match is None or match[1].lower() not in _VENDORS:
        return
    if adapter.get("active") is False:
        found.report(f"windows.adapter{index}", "skipped", f"{name} is known to Windows, but does not run")
        return
    vendor = _VENDORS[match[1].lower()]
    memory = believed(adapter.get("HardwareInformation.qwMemorySize"), 64 * _MIB, 4 * _TIB)
    version = adapter.get("DriverVersion")
    seen = Sighting(
        vendor=vendor,
        probe=f"windows.adapter{index}",
        reported_name=name,
        pci_id=f"{match[1].lower()}:{match[2].lower()}",
        pci_revision=match[3].lower() if match[3] else None,
        driver_version=version if isinstance(version, str) else None,
    )
    if vendor != "nvidia" and _INTEGRATED.search(name):
        seen.kind, seen.looks_shared = "apu" if vendor == "amd" else "igpu", True
        seen.carve_out_bytes = memory if vendor == "amd" else None
    else:
        seen.memory_total_bytes = memory
        if memory is None:
            found.report(f"{seen.probe}.memory", "failed", "the registry does not tell the memory")
    found.devices.append(seen)
