"""FP32 rate of the cores of a host."""

from __future__ import annotations

__all__ = ["flop_per_cycle", "host_peak", "usable_share"]


def usable_share(cores: float, usable_cores: float) -> float:
    """Share of the cores that affinity and quotas leave.

    >>> usable_share(16, 4), usable_share(16, 32)
    (0.25, 1.0)
    """
    return min(1.0, usable_cores / cores)


def flop_per_cycle(large: float, small: float, small_share: float) -> float:
    """FP32 results of a core per clock [FLOP], averaged over cores of two kinds, to which a product is handed out in chunks.

    Parameters
    ----------
    large, small
        Results of a core of either kind per clock [FLOP].
    small_share
        Share of the small ones among the cores.

    >>> flop_per_cycle(32.0, 16.0, 0.5)
    24.0
    """
    return large + (small - large) * small_share


def host_peak(cores: float, share: float, per_cycle: float, clock_hz: float) -> float:
    """FP32 rate of the usable cores [FLOP/s]: cores x share x results per clock x clock.

    >>> host_peak(8, 0.5, 32.0, 3e9) / 1e9
    384.0
    """
    return cores * share * per_cycle * clock_hz
