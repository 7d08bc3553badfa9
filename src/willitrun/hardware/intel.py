"""Intel devices on Linux, from what the kernel drivers xe and i915 write to sysfs."""

from __future__ import annotations

import re

from willitrun.hardware.drm import Card, list_cards
from willitrun.hardware.findings import Findings, Sighting
from willitrun.hardware.pcie import read_link
from willitrun.hardware.readings import believed
from willitrun.hardware.surroundings import Surroundings, read_number

__all__ = ["probe_intel"]

_MIB = 1 << 20
_TIB = 1 << 40
# The processor's own graphics sits at the second device of the root bus.
_INTEGRATED = re.compile(r"(?:0000:)?00:02\.0\Z")


def probe_intel(surroundings: Surroundings) -> Findings:
    """Intel GPUs: discrete ones with their local memory (the sum of all tiles), integrated ones with the host's.

    References
    ----------
    https://docs.kernel.org/gpu/xe/index.html (tile*/physical_vram_size_bytes)
    https://docs.kernel.org/gpu/i915.html (lmem_total_bytes)
    """
    found = Findings()
    for card in list_cards(surroundings, "8086"):
        seen = Sighting(
            vendor="intel",
            probe=f"intel.{card.folder.rsplit('/', 1)[-1]}",
            pci_id=card.pci_id,
            pci_revision=card.revision,
            pci_address=card.address,
        )
        local = _local_memory(surroundings, card)
        if local is not None:
            seen.memory_total_bytes = local
            link = read_link(surroundings, card.device)
            seen.pcie_generation, seen.pcie_lanes = link.generation, link.lanes
            seen.pcie_generation_max, seen.pcie_lanes_max = link.generation_max, link.lanes_max
            found.report(
                f"{seen.probe}.free", "not-supported", "the kernel driver does not tell what is in use"
            )
        elif card.address and _INTEGRATED.match(card.address):
            seen.kind, seen.shares_host_memory = "igpu", True
        else:
            reason = "a discrete device whose kernel driver (xe, i915) does not tell its memory"
            found.report(f"{seen.probe}.memory", "failed", reason, ("troubleshooting:gpu-not-detected",))
        if card.render_node and surroundings.ask("access", card.render_node) == "denied":
            reason = f"{card.render_node} may not be opened: this user is not in the group render"
            found.report(f"{seen.probe}.access", "denied", reason, ("troubleshooting:gpu-not-detected",))
        found.devices.append(seen)
    if found.devices:
        found.report("intel", "ok", f"{len(found.devices)} device(s)")
    else:
        found.report("intel", "absent", "no Intel display device in /sys/class/drm")
    return found


def _local_memory(surroundings: Surroundings, card: Card) -> int | None:
    tiles = [name for name in surroundings.ask("names", card.device) or [] if re.fullmatch(r"tile\d+", name)]
    sizes = [read_number(surroundings, f"{card.device}/{tile}/physical_vram_size_bytes") for tile in tiles]
    known = [size for size in sizes if size is not None]
    if known and len(known) == len(sizes):
        return believed(sum(known), 256 * _MIB, 4 * _TIB)
    return believed(read_number(surroundings, f"{card.folder}/lmem_total_bytes"), 256 * _MIB, 4 * _TIB)
