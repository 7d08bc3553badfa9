"""Why an NVIDIA device is not seen, or not seen by CUDA: the driver, the container, the environment."""

from __future__ import annotations

from willitrun.hardware.cgroups import in_container
from willitrun.hardware.findings import Findings
from willitrun.hardware.surroundings import Surroundings

__all__ = ["report_absence", "report_visibility"]

_ENTRIES = {"LibRmVersionMismatch": "nvml-version-mismatch", "Unknown": "nvml-unknown-error"}


def report_visibility(surroundings: Surroundings, found: Findings) -> None:
    """NVML shows devices that CUDA is told to leave out."""
    visible = surroundings.ask("environment", "CUDA_VISIBLE_DEVICES")
    if not isinstance(visible, str):
        return
    see = ("troubleshooting:gpu-not-detected",)
    if visible.strip() in ("", "-1", "NoDevFiles"):
        found.report(
            "nvml.visible", "denied", "CUDA_VISIBLE_DEVICES hides every device from CUDA programs", see
        )
    elif "MIG-" not in visible and "GPU-" not in visible:
        found.report(
            "nvml.visible", "ok", f"CUDA_VISIBLE_DEVICES={visible} limits what CUDA programs see", see
        )


def report_absence(surroundings: Surroundings, found: Findings, status: str, message: str = "") -> None:
    """Why NVML does not answer: no card at all, or one that is on the bus without its driver."""
    present = _cards_on_the_bus(surroundings)
    if status == "Hung":
        reason = "the NVIDIA driver does not answer: its library hangs while it starts"
        found.report("nvml", "timeout", reason, ("troubleshooting:gpu-not-detected",))
        return
    if not present and status in ("LibraryNotFound", "LibraryNotFoundError", "NVML was not asked"):
        found.report("nvml", "absent", "no NVIDIA driver library on this machine")
        return
    inside = in_container(surroundings)
    known = _ENTRIES.get(status) or ("container-without-gpu" if inside else None)
    see = tuple(f"troubleshooting:{entry}" for entry in (known, "gpu-not-detected") if entry)
    if not present:
        found.report("nvml", "failed", f"NVML did not start: {status} {message}".strip(), see)
        return
    why = (
        "the driver is not passed into this container (docker run --gpus all), or not loaded on its host"
        if inside
        else "the driver is not installed or not loaded"
    )
    if status == "LibRmVersionMismatch":
        why = "the library and the kernel module are of different versions: restart after the update"
    devices = f"an NVIDIA device ({', '.join(present)}) is on the PCI bus"
    found.report("nvml", "failed", f"{devices}, but its driver does not answer ({status}): {why}", see)


def _cards_on_the_bus(surroundings: Surroundings) -> list[str]:
    bus = "/sys/bus/pci/devices"
    cards = []
    for address in surroundings.ask("names", bus) or []:
        vendor = surroundings.ask("text", f"{bus}/{address}/vendor")
        if not isinstance(vendor, str) or vendor.strip().lower() != "0x10de":
            continue
        kind = surroundings.ask("text", f"{bus}/{address}/class")
        # Display controllers (03) and processing accelerators (12); not the card's audio and USB functions.
        if isinstance(kind, str) and kind.strip().lower().startswith(("0x03", "0x12")):
            device = surroundings.ask("text", f"{bus}/{address}/device")
            cards.append(f"10de:{str(device).strip().lower().removeprefix('0x')}")
    return cards
