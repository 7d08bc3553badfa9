"""What a detected device is held back by, as reasons: a slice, a narrow link, a display. Memory and power have their own."""

from __future__ import annotations

from collections.abc import Iterator

from willitrun.records.machines import InstalledAccelerator
from willitrun.records.results import Reason

__all__ = ["live_limits"]


def live_limits(device: InstalledAccelerator) -> Iterator[Reason]:
    """Limits of an installed device that its record does not have; none for a device as it was sold."""
    name = device.accelerator.name
    if device.mig_parent is not None:
        profile = f" {device.mig_profile}" if device.mig_profile else ""
        yield Reason.model_construct(
            code="mig-slice",
            message=f"It is the slice{profile} of {device.mig_parent}: memory, bandwidth and compute are those of the slice.",
        )
    lanes, most = device.pcie_lanes, device.pcie_lanes_full
    if lanes is not None and most is not None and lanes < most and not device.shares_host_memory:
        generation = f"PCIe {device.pcie_generation}.0 " if device.pcie_generation else ""
        yield Reason.model_construct(
            code="pcie-narrow",
            message=f"{name} is linked by {generation}x{lanes} of x{most}: loading, offloading and exchange between cards run at that rate.",
            numbers={"pcie_lanes": lanes, "pcie_lanes_max": most},
        )
    if device.display_active:
        yield Reason.model_construct(
            code="display-attached",
            message=f"A display runs on {name}: its desktop takes memory that comes and goes.",
        )
