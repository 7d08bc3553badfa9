"""From a sighting to the catalog record of the device, or to the reason why there is none."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from willitrun.hardware.findings import Sighting
from willitrun.hardware.identity import Identity, identify_accelerator
from willitrun.records.accelerators import Accelerator
from willitrun.records.machines import ProbeReport

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["Recognition", "recognise"]

_MIG = re.compile(r"\s+MIG\s+\S+\s*$", re.IGNORECASE)


@dataclass(slots=True)
class Recognition:
    """What a device was recognised as, and by what; without a record, why not."""

    accelerator: Accelerator | None
    identity: Literal["pci-id", "name", "normalised-name", "derived"]
    reports: list[ProbeReport] = field(default_factory=list)


def recognise(seen: Sighting, host: dict[str, Any], catalog: Catalog) -> Recognition:
    """The record of a device, of the whole device for a MIG slice, and none for a vGPU profile."""
    if seen.virtual:
        reason = "a vGPU profile: its share of the card is not told, so no record is claimed"
        return Recognition(None, "derived", [_report(seen, "not-supported", reason)])
    found = _identify(seen, host, catalog)
    if found.record_id is None or found.matched_by is None:
        return Recognition(None, "derived", [_report(seen, "absent", found.reason)])
    return Recognition(catalog.accelerators[found.record_id], found.matched_by)


def _identify(seen: Sighting, host: dict[str, Any], catalog: Catalog) -> Identity:
    memory, units, name = seen.memory_total_bytes, seen.compute_units, seen.reported_name
    if seen.mig_parent is not None:
        # The slice's own memory and multiprocessors would speak against the card that it is cut from.
        memory, units = seen.mig_parent_memory_bytes, None
        name = seen.mig_parent or _MIG.sub("", name or "")
    elif seen.shares_host_memory:
        memory = host.get("ram_total_bytes")
    elif seen.looks_shared:
        # A carve-out says nothing about the product.
        memory = None
    found = identify_accelerator(
        catalog,
        vendor=seen.vendor,
        pci_id=seen.pci_id,
        revision=seen.pci_revision,
        name=name,
        memory_bytes=memory,
        memory_clock_hz=seen.memory_clock_hz,
        compute_units=units,
        form_hint="laptop" if "laptop" in (name or "").lower() else None,
    )
    if found.record_id is None and found.candidates and seen.module is not None:
        return _by_module(found, seen.module, catalog)
    return found


def _by_module(found: Identity, module: str, catalog: Catalog) -> Identity:
    """Tell modules of one chip apart by the board that the device tree names.

    ``NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super`` is an Orin Nano in its Super mode: the words
    that name a module must be the record's, all of them and no others. NX modules keep their record in that mode.
    """
    said = _family(module)
    records = [catalog.accelerators[identifier] for identifier in found.candidates]
    for words in (said, said - {"super"}):
        fitting = [record for record in records if _family(record.name) == words]
        if len(fitting) == 1:
            reason = f"matched by name and the board, {module!r}."
            return Identity(fitting[0].id, "name", found.candidates, reason, ("form",))
        if fitting:
            break
    return found


def _family(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+", name.lower())) & {"agx", "nx", "nano", "super", "industrial"}


def _report(seen: Sighting, status: Literal["absent", "not-supported"], reason: str) -> ProbeReport:
    return ProbeReport(probe=f"{seen.probe}.identity", status=status, reason=reason)
