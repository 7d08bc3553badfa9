"""Match device names as sources spell them to the ids of ``hardware.csv``."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

_NOISE = re.compile(
    r"\b(?:nvidia|amd|intel|geforce|radeon\(tm\)|tesla|quadro|gpu|graphics|\(r\)|\(tm\)|with|design|edition|generation)\b|[()]"
)


# Names that leave the board open are read as the part that the source's machines imply.
OPEN_NAMES: dict[str, str | None] = {
    "Radeon Graphics": None,
    "Intel Graphics": None,
    "Intel Arc Graphics": None,
    "Xavier": None,
    "GTX 1060": "nvidia-geforce-gtx-1060-6gb",
    "RTX 4090 (Ada Lovelace)": "nvidia-geforce-rtx-4090",
    "A100": "nvidia-a100-sxm4-80gb",
    "A100 80GB": "nvidia-a100-sxm4-80gb",
    "A100 40GB": "nvidia-a100-sxm4-40gb",
    "V100": "nvidia-tesla-v100-sxm2-16gb",
    "RTX 3060": "nvidia-geforce-rtx-3060-12gb",
    "RTX 2060 Max-Q": "nvidia-geforce-rtx-2060-laptop",
    "GeForce RTX 2060 MaxQ": "nvidia-geforce-rtx-2060-laptop",
    "RTX 2060 with Max-Q Design": "nvidia-geforce-rtx-2060-laptop",
    "Jetson Nano": "nvidia-jetson-nano-4gb",
    "Jetson Xavier NX": "nvidia-jetson-xavier-nx-8gb",
    "Xavier NX": "nvidia-jetson-xavier-nx-8gb",
    "AGX Xavier": "nvidia-jetson-agx-xavier-32gb",
}


def normal_form(name: str, *, memory: bool = True) -> str:
    """Reduce a device name to the words that tell devices apart, with or without its memory size.

    Examples
    --------
    >>> normal_form("NVIDIA GeForce RTX 3060 Laptop GPU"), normal_form("A100 80GB PCIe", memory=False)
    ('rtx3060laptop', 'a100pcie')
    """
    text = name.lower().replace("™", "").replace("_", " ").replace("max-q", "maxq").replace("pci-e", "pcie")
    text = re.sub(r"sxm\d", "sxm", text).replace("-", " ").replace("/", " ")
    text = re.sub(r"\b(\d+) ?gi?b\b", r"\1gb" if memory else " ", text)
    text = _NOISE.sub(" ", text)
    text = re.sub(r"\bradeon rx\b", "rx", text).replace("radeon ", "").replace("instinct ", "")
    return re.sub(r"[^a-z0-9]", "", text)


class DeviceIndex:
    """Look-up of hardware records by name."""

    def __init__(self, hardware: pd.DataFrame) -> None:
        self._ids: dict[str, str] = {}
        rows = [(str(r["id"]), str(r["name"]), str(r["name_patterns"])) for r in hardware.to_dict("records")]
        for memory in (True, False):  # without a memory size the first record of the name is meant
            for identifier, name, patterns in rows:
                for spelling in (name, identifier.replace("-", " "), *patterns.split("|")):
                    self._ids.setdefault(normal_form(spelling, memory=memory), identifier)

    def find(self, name: object) -> str | None:
        """Return the id of a device name, or None."""
        if str(name) in OPEN_NAMES:
            return OPEN_NAMES[str(name)]
        found = self._ids.get(normal_form(str(name)))
        return found or self._ids.get(normal_form(str(name), memory=False))


def load_hardware(data: Path) -> pd.DataFrame:
    """Read ``hardware.csv`` indexed by id (the column stays)."""
    table = pd.read_csv(data / "hardware.csv")
    return table.set_index("id", drop=False)
