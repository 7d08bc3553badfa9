"""How long weights take from a disk to where they are computed with."""

from __future__ import annotations

__all__ = ["load_seconds"]


def load_seconds(
    stored_bytes: float, read_bytes_per_s: float, copied_bytes: float, link_bytes_per_s: float
) -> tuple[float, float]:
    """Seconds of a load whose copies hide behind its reads, and of one that copies after it has read [s].

    ``max(stored / read, copied / link)`` and ``stored / read + copied / link``: a loader with buffers of its own
    overlaps the two, one that copies out of a mapped file waits for the disk and then for the link.

    Parameters
    ----------
    stored_bytes
        Bytes of the files [B]. Ranks of one host read the same files, so they count once.
    read_bytes_per_s
        Rate at which the files are read [B/s].
    copied_bytes
        Bytes that one link carries to its device [B]; zero where the host's memory is the device's.
    link_bytes_per_s
        Rate of that link [B/s].

    Examples
    --------
    >>> load_seconds(8e9, 2e9, 8e9, 16e9)
    (4.0, 4.5)
    """
    read, copied = stored_bytes / read_bytes_per_s, copied_bytes / link_bytes_per_s
    return max(read, copied), read + copied
