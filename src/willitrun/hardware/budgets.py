"""How much of the host's memory a device without its own may use."""

from __future__ import annotations

from willitrun.units import format_bytes

__all__ = ["metal_budget"]

_GIB = 1 << 30
# Shares of the RAM that MTLDevice.recommendedMaxWorkingSetSize came to: 11.84 of 16 GiB, 17.76 of 24 GiB (0.74) and
# 107.52 of 128 GiB (0.84), read on machines with macOS 14 to 26. It is no documented rule.
_SMALL, _SMALL_SHARE = 64 * _GIB, 0.74
_LARGE, _LARGE_SHARE = 128 * _GIB, 0.84


def metal_budget(ram_bytes: int, wired_limit_bytes: int | None = None) -> tuple[int, str]:
    """Metal's working-set limit [bytes] where the framework cannot be asked, and how it was got.

    Parameters
    ----------
    ram_bytes
        Installed memory [bytes].
    wired_limit_bytes
        ``iogpu.wired_limit_mb`` [bytes]; a positive one decides.

    Examples
    --------
    >>> budget, how = metal_budget(16 * 2**30)
    >>> round(budget / 2**30, 2), how
    (11.84, 'estimated as 74 % of 16 GiB of RAM')
    """
    if wired_limit_bytes:
        budget = min(wired_limit_bytes, ram_bytes)
        return budget, f"set to {format_bytes(budget)} by iogpu.wired_limit_mb"
    share = _SMALL_SHARE
    if ram_bytes > _SMALL:
        step = min(1.0, (ram_bytes - _SMALL) / (_LARGE - _SMALL))
        share += step * (_LARGE_SHARE - _SMALL_SHARE)
    return round(ram_bytes * share), f"estimated as {share:.0%} of {format_bytes(ram_bytes)} of RAM".replace(
        "%", " %"
    )
