"""From a sighting to the catalog record of the device, or to the reasons why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from willitrun.hardware.findings import Sighting
from willitrun.records.accelerators import Accelerator
from willitrun.records.machines import ProbeReport

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["Recognition", "recognise"]


@dataclass(slots=True)
class Recognition:
    """What a device was recognised as, and by what."""

    accelerator: Accelerator | None
    identity: Literal["pci-id", "name", "normalised-name", "catalog-id", "derived", "given"]
    reports: list[ProbeReport] = field(default_factory=list)


def recognise(seen: Sighting, host: dict[str, Any], catalog: Catalog) -> Recognition:
    """The record of a device; a vGPU profile is never taken for the card it lives on."""
    return Recognition(None, "derived")
