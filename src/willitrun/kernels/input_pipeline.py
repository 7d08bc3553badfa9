"""How fast images reach a device: read from disk, decoded by the host's cores."""

from __future__ import annotations

import math

__all__ = ["supply_rates"]


def supply_rates(
    cores: float, images_per_core_s: float, disk_bytes_per_s: float, bytes_per_image: float
) -> tuple[float, float]:
    """Images per second that the host decodes and that the disk delivers [1/s].

    Parameters
    ----------
    cores
        Cores that decode; one worker each.
    images_per_core_s
        Images that one core decodes, resizes and crops per second.
    disk_bytes_per_s
        Sequential read rate [B/s]; infinite where nobody knows it.
    bytes_per_image
        Mean size of a stored image [B]; zero where nobody knows it.

    Returns
    -------
    tuple of float
        ``cores x images_per_core_s`` and ``disk_bytes_per_s / bytes_per_image``. The slower one is what a loader
        can deliver: reading and decoding overlap.

    Examples
    --------
    >>> supply_rates(8.0, 180.0, 500e6, 125_000.0)
    (1440.0, 4000.0)
    """
    disk = disk_bytes_per_s / bytes_per_image if bytes_per_image > 0 else math.inf
    return cores * images_per_core_s, disk
