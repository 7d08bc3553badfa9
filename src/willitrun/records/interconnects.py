"""Links between devices, and between device and host."""

from typing import Literal

from willitrun.records.bases import BytesPerSecond, CitedRecord

__all__ = ["Interconnect"]


class Interconnect(CitedRecord):
    """A link between devices or between device and host."""

    kind: Literal["pcie", "nvlink", "infinity-fabric", "c2c", "usb4", "thunderbolt", "ethernet", "oculink"]
    bandwidth_per_direction: BytesPerSecond
    lanes: int | None = None

    @classmethod
    def _labels(cls) -> set[str]:
        return {"kind"}
