"""Display devices that the Linux kernel's graphics drivers list in sysfs."""

from __future__ import annotations

import re

from willitrun.frozen import frozen
from willitrun.hardware.surroundings import Surroundings

__all__ = ["Card", "list_cards"]

_CARD = re.compile(r"card\d+\Z")
_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")


@frozen
class Card:
    """One card: its folder below /sys/class/drm, its PCI identity and its render node."""

    folder: str
    device: str
    """Folder of the PCI device."""
    pci_id: str
    revision: str | None
    address: str | None
    render_node: str | None


def list_cards(surroundings: Surroundings, vendor: str) -> list[Card]:
    """Cards of a PCI vendor (four hex digits), in the kernel's order, each device once."""
    cards: list[Card] = []
    root = "/sys/class/drm"
    names = [name for name in surroundings.ask("names", root) or [] if _CARD.match(name)]
    for name in sorted(names, key=lambda name: int(name[4:])):
        device = f"{root}/{name}/device"
        if _hex(surroundings, f"{device}/vendor") != vendor:
            continue
        product = _hex(surroundings, f"{device}/device")
        if product is None:
            continue
        real = surroundings.ask("target", device) or device
        address = real.rsplit("/", 1)[-1]
        revision = _hex(surroundings, f"{device}/revision")
        nodes = [
            node for node in surroundings.ask("names", f"{device}/drm") or [] if node.startswith("renderD")
        ]
        cards.append(
            Card(
                folder=f"{root}/{name}",
                device=device,
                pci_id=f"{vendor}:{product}",
                revision=revision[-2:] if revision else None,
                address=address if _ADDRESS.match(address) else None,
                render_node=f"/dev/dri/{nodes[0]}" if nodes else None,
            )
        )
    return cards


def _hex(surroundings: Surroundings, path: str) -> str | None:
    text = surroundings.ask("text", path)
    if not isinstance(text, str):
        return None
    digits = text.strip().lower().removeprefix("0x")
    return digits if re.fullmatch(r"[0-9a-f]{2,8}", digits) else None
