"""The PCI Express link of a device, from sysfs: the narrowest place on the way from the processor to it."""

from __future__ import annotations

import re

from willitrun.frozen import frozen
from willitrun.hardware.surroundings import Surroundings, read_number

__all__ = ["PcieLink", "read_link"]

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")
# PCI-SIG signalling rates [GT/s] of the generations 1 to 7.
_GENERATION = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5, 64.0: 6, 128.0: 7}
_WIDTHS = (1, 2, 4, 8, 12, 16, 32)


@frozen
class PcieLink:
    """Generation and lanes that can be used now, and the device's own maximum."""

    generation: int | None = None
    lanes: int | None = None
    generation_max: int | None = None
    lanes_max: int | None = None


def read_link(surroundings: Surroundings, device_path: str) -> PcieLink:
    """The link of the device at a sysfs path.

    Speed is the *maximum* of each hop, because links fall back to 2.5 GT/s while idle; width is the *current* one,
    because a card in an x4 slot trains to x4. Both are the minimum over the path: a card behind a switch reports
    its link to the switch.
    """
    real = surroundings.ask("target", device_path) or device_path
    parts = real.split("/")
    hops = ["/".join(parts[: i + 1]) for i, part in enumerate(parts) if _ADDRESS.match(part)]
    if not hops:
        hops = [device_path]
    speeds = [_generation(surroundings, f"{hop}/max_link_speed") for hop in hops]
    widths = [_lanes(surroundings, f"{hop}/current_link_width") for hop in hops]
    known_speeds = [speed for speed in speeds if speed is not None]
    known_widths = [width for width in widths if width is not None]
    return PcieLink(
        generation=min(known_speeds, default=None),
        lanes=min(known_widths, default=None),
        generation_max=speeds[-1],
        lanes_max=_lanes(surroundings, f"{hops[-1]}/max_link_width"),
    )


def _generation(surroundings: Surroundings, path: str) -> int | None:
    text = surroundings.ask("text", path)
    match = re.match(r"\s*(\d+(?:\.\d+)?)\s*GT/s", text) if isinstance(text, str) else None
    return _GENERATION.get(float(match[1])) if match else None


def _lanes(surroundings: Surroundings, path: str) -> int | None:
    # A link that is down reads 0 or 255.
    lanes = read_number(surroundings, path)
    return lanes if lanes in _WIDTHS else None
