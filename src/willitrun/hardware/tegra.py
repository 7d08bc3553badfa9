"""Jetson boards whose software brings no NVML (before JetPack 6), from the device tree."""

from __future__ import annotations

from willitrun.hardware.findings import Findings, Sighting
from willitrun.hardware.surroundings import Surroundings

__all__ = ["find_tegra"]

_TREE = "/proc/device-tree"
# The kernel's name of a system-on-chip (arch/arm64/boot/dts/nvidia in Linux and the "compatible" of L4T's own device
# trees) and what the CUDA driver calls its GPU.
_GPUS = {
    "nvidia,tegra210": "NVIDIA Tegra X1",
    "nvidia,tegra186": "NVIDIA Tegra X2",
    "nvidia,tegra194": "Xavier",
    "nvidia,tegra234": "Orin",
    "nvidia,tegra264": "Thor",
}


def find_tegra(surroundings: Surroundings, found: Findings) -> bool:
    """Whether this is a Jetson; its GPU computes out of the host's memory and is added to what was found.

    References
    ----------
    https://www.kernel.org/doc/Documentation/devicetree/bindings/arm/tegra.yaml
    https://github.com/ollama/ollama/issues/3098 (no libnvidia-ml before JetPack 6)
    """
    listed = surroundings.ask("text", f"{_TREE}/compatible")
    compatible = listed.split("\0") if isinstance(listed, str) else []
    names = [_GPUS[entry.strip()] for entry in compatible if entry.strip() in _GPUS]
    if not names:
        return False
    model = surroundings.ask("text", f"{_TREE}/model")
    board = model.strip("\0 \n") if isinstance(model, str) else ""
    found.devices.append(
        Sighting(
            vendor="nvidia",
            probe="tegra",
            reported_name=names[0],
            kind="soc",
            shares_host_memory=True,
            module=board or None,
        )
    )
    reason = (
        f"{board or names[0]}: known from the device tree; NVML, which comes with JetPack 6, does not answer"
    )
    found.report("tegra", "ok", reason)
    return True
