"""Host rates of a CPU that a measurement names, from its platform's memory channels.

Measurements name the processor, not its memory. What is assumed here is what the library assumes for a described
host: the platform's officially supported memory, every channel filled. Processors whose platform is not listed
are skipped.
"""

from __future__ import annotations

import math
import re

NAN = float("nan")

#: FLOP per core and cycle (two 256-bit FMA), and a sustained clock [Hz]: as the library estimates a host's peak.
FLOP_PER_CYCLE, SUSTAINED_HZ = 32.0, 3e9

#: (pattern on the device name, memory bandwidth [bytes/s]); the first match counts. Channels x transfer rate x 8.
_PLATFORMS: tuple[tuple[str, float], ...] = (
    (r"threadripper pro (3|5)\d\d\dwx", 8 * 3200e6 * 8),
    (r"threadripper 39\d\dx", 4 * 3200e6 * 8),
    (r"epyc 7\d\d[23]", 8 * 3200e6 * 8),
    (r"epyc 9\d\d4", 12 * 4800e6 * 8),
    (r"xeon.*6980p.*1 numa", 4 * 6400e6 * 8),
    (r"ryzen.*\((znver2|znver3)\)", 2 * 3200e6 * 8),
    (r"ryzen.*\(znver4\)", 2 * 5200e6 * 8),
    (r"ryzen.*\(znver5\)", 2 * 5600e6 * 8),
    (r"xeon.*e5-26\d\d.* v2", 4 * 1866e6 * 8),
    (r"xeon.*e5-26\d\d.* v3", 4 * 2133e6 * 8),
    (r"xeon.*e5-26\d\d.* v4", 4 * 2400e6 * 8),
    (r"xeon w-2\d\d\d", 4 * 2666e6 * 8),
    (r"core i\d-4\d\d\d", 2 * 1600e6 * 8),
    (r"core i\d-[89]\d\d\d", 2 * 2666e6 * 8),
    (r"core i\d-6\d\d\d", 2 * 2133e6 * 8),
    (r"1[01]th gen.*i\d-1[01]\d\d\d\b", 2 * 3200e6 * 8),
    (r"core\S* ultra 9 285k", 2 * 6400e6 * 8),
)

_CORES = re.compile(r"(\d+)-core", re.IGNORECASE)


def describe_processor(name: str) -> dict[str, object] | None:
    """Return the rates of a processor as a device row, or None where the platform is not known.

    >>> round(describe_processor("AMD Ryzen 9 5950X 16-Core Processor (znver3)")["memory_bytes_per_s"] / 1e9, 1)
    51.2
    """
    lowered = name.lower()
    bandwidth = next((rate for pattern, rate in _PLATFORMS if re.search(pattern, lowered)), None)
    if bandwidth is None:
        return None
    cores = _CORES.search(name)
    peak = float(cores.group(1)) * FLOP_PER_CYCLE * SUSTAINED_HZ if cores else math.inf
    return {
        "vendor": "cpu",
        "memory_class": "ddr",
        "generation": "cpu-simd",
        "memory_bytes": NAN,
        "memory_bytes_per_s": bandwidth,
        "fp32": peak,
        "issue": peak / 256.0,
        "fp16": NAN,
        "fast_half": NAN,
        "int8": NAN,
        "fp8": NAN,
        "fp4": NAN,
        "pcie": bandwidth,
        "link": bandwidth,
        "hop": 0.0,
    }
