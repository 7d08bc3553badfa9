"""A processor by the name that firmware, benchmarks or people give it: its record, its cores, what they compute."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from willitrun.hardware.platforms import platform_of
from willitrun.records.accelerators import HostPlatform

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["compute_peak", "cores_of", "memory_of", "processor_name", "processor_of", "processor_of_board"]

# A board by its name -> the record of its processor. Revisions and memory sizes follow the name.
_BOARDS: tuple[tuple[str, str], ...] = (
    (
        r"\b(?:Raspberry )?Pi (?:4|400|CM4)\b|\bRaspberry Pi Compute Module 4\b",
        "broadcom-bcm2711",
    ),
    (
        r"\b(?:Raspberry )?Pi (?:5|500\+?|CM5)(?!\w)|\bRaspberry Pi Compute Module 5\b",
        "broadcom-bcm2712",
    ),
)

# What surrounds the name: marks, generation, core count, clock, what follows in brackets (the compiler's name of the
# core, the computer), the stepping "0" of the first Xeons E5, and integrated graphics.
_NOISE = (
    r"\((?:R|TM|C)\)|®|™|@.*$|\([^()]*\)\s*$|\b(?:\d+(?:st|nd|rd|th) Gen|CPU|Processor|\d+-Cores?"
    r"|(?:Dual|Quad|Six|Eight)-Core)\b|(?<=\w)\s+0(?=\s*(?:@|$))"
)
_WITH_GRAPHICS = r"\b(?:with|w/) .*$"
# People leave the maker out.
_MAKERS = (
    (r"^(?:Ryzen|EPYC|Athlon|Phenom|Opteron|FX)\b", "AMD "),
    (r"^Threadripper\b", "AMD Ryzen "),
    (r"^(?:Core|Xeon|Pentium|Celeron)\b", "Intel "),
    (r"^(?:i[3579]-\d|m[357]-\d|Ultra [3579] )", "Intel Core "),
    (r"^E[357]-\d{4}", "Intel Xeon "),
)

# Processors that carry their core count in their name, as AMD's and Ampere's do.
_STATED_CORES = r"\b(\d{1,3})-Cores?\b|\bAmpere(?:One)? A(\d{2,3})-|\b(?:Phenom|Athlon)\S* II X(\d)\b"
_STATED_WORDS = {"duo": 2, "dual": 2, "triple": 3, "quad": 4, "six": 6, "eight": 8}
_WORDS = r"\b(Dual|Triple|Quad|Six|Eight)-Core\b|\bCore(?:\(TM\))?2 (Duo|Quad)\b"
_CLUSTERS = r"\b(\d+)P\+(\d+)E\b"


def processor_of_board(cpu: str | None) -> str | None:
    """Id of the processor record of a single-board computer, or None.

    >>> processor_of_board("Raspberry Pi 4 Model B Rev 1.1"), processor_of_board("Pi 5 - 8GB")
    ('broadcom-bcm2711', 'broadcom-bcm2712')
    """
    return next((record for pattern, record in _BOARDS if re.search(pattern, cpu or "", re.IGNORECASE)), None)


def processor_name(cpu: str | None) -> str:
    """Name of a processor as its maker writes it, without what firmware adds and with the maker that people leave out.

    >>> processor_name("Intel(R) Core(TM) i9-10940X CPU @ 3.30GHz"), processor_name("Ryzen 7 5800X")
    ('Intel Core i9-10940X', 'AMD Ryzen 7 5800X')
    >>> processor_name("12th Gen Intel(R) Core(TM) i7-12700H (alderlake)"), processor_name("Intel Xeon E5-2690 0 @ 2.90GHz")
    ('Intel Core i7-12700H', 'Intel Xeon E5-2690')
    """
    if not cpu:
        return ""
    plain = re.sub(_WITH_GRAPHICS, "", re.sub(_NOISE, " ", cpu, flags=re.IGNORECASE), flags=re.IGNORECASE)
    plain = " ".join(re.sub(r"\s+0$", "", plain.rstrip()).split())
    maker = next((maker for pattern, maker in _MAKERS if re.search(pattern, plain, re.IGNORECASE)), "")
    return maker + plain


def processor_of(cpu: str | None, catalog: Catalog) -> HostPlatform | None:
    """The record of the one processor that goes by a name, or None.

    >>> from willitrun.catalog import load_catalog
    >>> record = processor_of("13th Gen Intel(R) Core(TM) i5-1335U", load_catalog())
    >>> record.cores, record.efficiency_cores
    (10, 8)
    """
    if not cpu:
        return None
    known = catalog.hosts.named(cpu) or catalog.hosts.named(processor_name(cpu))
    board = processor_of_board(cpu) if len(known) != 1 else None
    if board is not None:
        known = (board,)
    return catalog.hosts[known[0]] if len(known) == 1 else None


def cores_of(cpu: str | None, catalog: Catalog) -> int | None:
    """Physical cores that a processor's name states or its record tells, or None.

    What a virtual machine has of a processor only its system knows.

    >>> from willitrun.catalog import load_catalog
    >>> catalog = load_catalog()
    >>> [cores_of(name, catalog) for name in ("AMD Ryzen 9 5950X 16-Core Processor", "Apple M4 Max 12P+4E", "i7-8550U")]
    [16, 16, 4]
    >>> cores_of("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", catalog), cores_of("Intel Xeon Processor (Skylake)", catalog)
    (14, None)
    """
    if not cpu:
        return None  # and no pattern is compiled: a described machine seldom names its processor
    name = cpu
    stated = re.search(_STATED_CORES, name, re.IGNORECASE)
    if stated:
        return int(next(group for group in stated.groups() if group))
    word = re.search(_WORDS, name, re.IGNORECASE)
    if word:
        return _STATED_WORDS[(word.group(1) or word.group(2)).lower()]
    clusters = re.search(_CLUSTERS, name)
    if clusters:
        return sum(map(int, clusters.groups()))
    record = processor_of(cpu, catalog)
    return None if record is None else record.cores


def memory_of(cpu: str | None, record: HostPlatform | None, catalog: Catalog) -> HostPlatform | None:
    """What tells the memory of a processor: its record, else the platform of its series, or None.

    Of a series that takes several data rates the record has the processor's own, and the platform the channels.

    >>> from willitrun.catalog import load_catalog
    >>> catalog = load_catalog()
    >>> memory_of("Intel Xeon Silver 4110", processor_of("Intel Xeon Silver 4110", catalog), catalog).name
    'Intel Xeon Silver 4110 6ch DDR4-2400'
    """
    if record is not None and record.memory_bandwidth is not None:
        return record
    known = platform_of(cpu)
    platform = catalog.hosts.get(known) if known else None
    if platform is None or record is None or not (record.memory_data_rate and platform.memory_channels):
        return platform
    rate, channels = record.memory_data_rate, platform.memory_channels
    return platform.model_copy(
        update={
            "name": f"{record.name} {channels}ch {record.memory_type}-{rate / 1e6:.0f}",
            "memory_type": record.memory_type,
            "memory_data_rate": rate,
            "memory_bandwidth": channels * 8 * rate,
        }
    )


def compute_peak(record: HostPlatform) -> float | None:
    """FP32 rate of all cores of one socket [FLOP/s]: the record's, else of its smallest cores; None if unknown.

    A loop that is split evenly over cores of two kinds waits for the smaller ones, so that every core counts as
    one of them.
    """
    if record.fp32_peak is not None:
        return record.fp32_peak
    small = (record.cores, record.efficiency_fp32_flop_per_cycle, record.efficiency_boost_clock)
    if any(value is None for value in small):
        return None
    cores, per_cycle, clock = small
    return float(cores * per_cycle * clock)  # type: ignore[operator]
