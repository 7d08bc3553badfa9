"""What `effective_memory` answers with."""

from __future__ import annotations

from typing import Literal

from willitrun.records.bases import Bytes, Record
from willitrun.records.presentation import Presented
from willitrun.units import format_bytes

__all__ = ["BuildDevice", "EffectiveMemory", "MemoryDeduction"]


class MemoryDeduction(Record):
    """Memory of a build that no model gets."""

    device: str
    """Name of the device; ``host``; ``all`` for what a split loses."""
    cause: str
    bytes: Bytes


class BuildDevice(Record):
    """One device of a build."""

    name: str
    host: int
    """Which host it is in, from 0."""
    installed_bytes: Bytes
    effective_bytes: Bytes
    """What a model gets of it; 0 where the runtime leaves it out."""


class EffectiveMemory(Presented):
    """Memory that a model can have on a build: installed less every deduction."""

    machine: str
    runtime: str
    split: Literal["single", "layer", "tensor", "host"]
    """How the runtime spreads a model: whole layers on each device, a share of each layer, one device, the host."""
    pooled: bool
    """Whether it is one memory, in which a single tensor may have all of it."""
    installed_bytes: Bytes
    """Of all devices; memory that they share with a host counts once."""
    effective_bytes: Bytes
    """Installed less the deductions of the devices."""
    largest_device_bytes: Bytes
    """Most that any one tensor, or a model that cannot be split, can have."""
    host_bytes: Bytes
    """Host memory beside it, for what is offloaded; 0 where devices and host share one."""
    devices: tuple[BuildDevice, ...] = ()
    deductions: tuple[MemoryDeduction, ...] = ()
    query: str | None = None
    """The build as a string to share; None where a device has no record."""
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        return (
            f"{self.machine}: {format_bytes(self.effective_bytes)} of {format_bytes(self.installed_bytes)} "
            f"for a model in {self.runtime}"
        )

    def rows(self) -> tuple[tuple[str, str], ...]:
        several = len({device.host for device in self.devices}) > 1
        shown = [("split", self.split), ("one memory", "yes" if self.pooled else "no")]
        shown += [
            (
                f"host {device.host}: {device.name}" if several else device.name,
                f"{format_bytes(device.effective_bytes)} of {format_bytes(device.installed_bytes)}",
            )
            for device in self.devices
        ]
        shown += [
            (f"less: {one.device}, {one.cause}", format_bytes(one.bytes))
            for one in self.deductions
            if one.bytes
        ]
        shown += [
            ("effective", format_bytes(self.effective_bytes)),
            ("largest single device", format_bytes(self.largest_device_bytes)),
            ("host memory beside it", format_bytes(self.host_bytes)),
        ]
        if self.query is not None:
            shown.append(("share it as", self.query))
        shown += [("note", note) for note in self.notes]
        return tuple(shown)
