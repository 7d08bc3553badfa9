"""AMD devices on Linux, from sysfs and the KFD topology; no ROCm library is needed or loaded."""

from __future__ import annotations

import re

from willitrun.hardware.drm import Card, list_cards
from willitrun.hardware.findings import Findings, Sighting
from willitrun.hardware.pcie import read_link
from willitrun.hardware.readings import believed
from willitrun.hardware.surroundings import Surroundings, read_number

__all__ = ["probe_amd"]

_MIB = 1 << 20
_TIB = 1 << 40
_NODES = "/sys/class/kfd/kfd/topology/nodes"
_NAMES = "/usr/share/libdrm/amdgpu.ids"
# A carve-out is a small part of what an APU may take. But a small card in a large host has as much GTT: sizes alone
# decide only where no card is that small.
_APU_GTT_TO_VRAM = 8
_SMALLEST_CARD = 2 << 30


def probe_amd(surroundings: Surroundings) -> Findings:
    """AMD GPUs and APUs.

    A discrete card has its VRAM. An APU computes out of the host's RAM: its "VRAM" is what the BIOS carved out, the
    rest comes through the GTT, and both together can never be more than what is installed.

    References
    ----------
    https://docs.kernel.org/gpu/amdgpu/driver-misc.html (mem_info_vram_total, mem_info_gtt_total)
    https://docs.kernel.org/gpu/amdgpu/apu-asic-info-table.html
    """
    found = Findings()
    cards = list_cards(surroundings, "1002")
    if not cards:
        found.report("amd", "absent", "no AMD display device in /sys/class/drm")
        return found
    nodes = _kfd_nodes(surroundings)
    for card in cards:
        found.devices.append(_sighting(surroundings, found, card, nodes))
    access = surroundings.ask("access", "/dev/kfd")
    see = ("troubleshooting:rocm-not-detected",)
    if access == "denied":
        reason = "/dev/kfd may not be opened: this user is not in the groups render and video"
        found.report("amd.kfd", "denied", reason, see)
    elif access == "absent":
        found.report("amd.kfd", "absent", "no /dev/kfd: ROCm cannot compute here; Vulkan may", see)
    found.report("amd", "ok", f"{len(found.devices)} device(s)")
    return found


def _sighting(
    surroundings: Surroundings, found: Findings, card: Card, nodes: dict[str, dict[str, int]]
) -> Sighting:
    vram = believed(read_number(surroundings, f"{card.device}/mem_info_vram_total"), 64 * _MIB, 4 * _TIB)
    used = believed(read_number(surroundings, f"{card.device}/mem_info_vram_used"), 0, vram or 0)
    gtt = believed(read_number(surroundings, f"{card.device}/mem_info_gtt_total"), 8 * _MIB, 4 * _TIB)
    gtt_used = believed(read_number(surroundings, f"{card.device}/mem_info_gtt_used"), 0, gtt or 0)
    node = nodes.get(card.address or "", {})
    seen = Sighting(
        vendor="amd",
        probe=f"amd.{card.folder.rsplit('/', 1)[-1]}",
        reported_name=_name(surroundings, card),
        pci_id=card.pci_id,
        pci_revision=card.revision,
        pci_address=card.address,
        gfx_target=_gfx(node.get("gfx_target_version")),
    )
    simd, per_unit = node.get("simd_count", 0), node.get("simd_per_cu", 0)
    if simd > 0 and per_unit > 0:
        seen.compute_units = simd // per_unit
    clock = believed(node.get("max_engine_clk_fcompute"), 100, 10_000)
    seen.compute_clock_hz = clock * 1e6 if clock else None
    seen.memory_total_bytes = seen.carve_out_bytes = vram
    seen.memory_free_bytes = vram - used if vram is not None and used is not None else None
    seen.carve_out_free_bytes = seen.memory_free_bytes
    seen.borrowed_bytes = gtt
    seen.borrowed_free_bytes = gtt - gtt_used if gtt is not None and gtt_used is not None else None
    # Some APUs share a KFD node with their CPU cores; of the others the sizes tell, unless a record knows better.
    lopsided = bool(vram and gtt and gtt >= _APU_GTT_TO_VRAM * vram)
    seen.looks_shared = bool(node.get("cpu_cores_count")) or (lopsided and (vram or 0) < _SMALLEST_CARD)
    if lopsided and not seen.looks_shared:
        reason = "an APU with a carve-out and a small card look alike here; without a record, only the VRAM is counted"
        found.report(f"{seen.probe}.kind", "not-supported", reason)
    link = read_link(surroundings, card.device)
    seen.pcie_generation, seen.pcie_lanes = link.generation, link.lanes
    seen.pcie_generation_max, seen.pcie_lanes_max = link.generation_max, link.lanes_max
    if vram is None:
        found.report(f"{seen.probe}.memory", "failed", "the driver does not tell the memory")
    if gtt is None:
        reason = "the driver does not tell how much host memory the device may map"
        found.report(f"{seen.probe}.gtt", "not-supported", reason)
    if card.render_node and surroundings.ask("access", card.render_node) == "denied":
        reason = f"{card.render_node} may not be opened: this user is not in the group render"
        found.report(f"{seen.probe}.access", "denied", reason, ("troubleshooting:rocm-not-detected",))
    _power(surroundings, seen, card)
    return seen


def _power(surroundings: Surroundings, seen: Sighting, card: Card) -> None:
    for monitor in surroundings.ask("names", f"{card.device}/hwmon") or []:
        folder = f"{card.device}/hwmon/{monitor}"
        limit = believed(read_number(surroundings, f"{folder}/power1_cap"), 1_000_000, 10_000_000_000)
        default = believed(
            read_number(surroundings, f"{folder}/power1_cap_default"), 1_000_000, 10_000_000_000
        )
        # hwmon counts microwatts.
        seen.power_limit_w = limit / 1e6 if limit else seen.power_limit_w
        seen.power_default_w = default / 1e6 if default else seen.power_default_w


def _name(surroundings: Surroundings, card: Card) -> str | None:
    """The product name of the board, or the line of libdrm's list for this device and revision."""
    text = surroundings.ask("text", f"{card.device}/product_name")
    if isinstance(text, str) and text.strip():
        return text.strip()
    listed = surroundings.ask("text", _NAMES)
    if not isinstance(listed, str) or card.revision is None:
        return None
    product = card.pci_id.rpartition(":")[2]
    for line in listed.splitlines():
        parts = [part.strip() for part in line.split(",", 2)]
        if len(parts) == 3 and parts[0].lower() == product and parts[1].lower().zfill(2) == card.revision:
            return parts[2]
    return None


def _kfd_nodes(surroundings: Surroundings) -> dict[str, dict[str, int]]:
    """Properties of each compute node by PCI address."""
    nodes = {}
    for name in surroundings.ask("names", _NODES) or []:
        text = surroundings.ask("text", f"{_NODES}/{name}/properties")
        properties: dict[str, int] = {}
        for line in text.splitlines() if isinstance(text, str) else ():
            key, _, value = line.partition(" ")
            if re.fullmatch(r"\d{1,20}", value.strip()):
                properties[key] = int(value)
        location = properties.get("location_id")
        if properties.get("simd_count") and location is not None:
            domain = properties.get("domain", 0)
            address = f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}"
            nodes[address] = properties
    return nodes


def _gfx(version: int | None) -> str | None:
    """``110501`` is gfx1151, ``90402`` gfx942, ``90010`` gfx90a: minor and stepping are hex digits.

    >>> _gfx(110501), _gfx(90402), _gfx(90010), _gfx(0)
    ('gfx1151', 'gfx942', 'gfx90a', None)
    """
    if not version or not 60_000 <= version < 200_000:
        return None
    return f"gfx{version // 10_000}{version // 100 % 100:x}{version % 100:x}"
