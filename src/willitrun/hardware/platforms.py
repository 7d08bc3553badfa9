"""Memory platform of a processor by its model number, where the series decides it.

How many channels are filled, and at what speed, only the firmware knows. The makers' numbering tells the series and
the series the platform at its best; whoever uses it states the assumption.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from willitrun.records.accelerators import HostPlatform

__all__ = ["DEFAULT_PLATFORM", "compute_peak", "platform_of", "processor_name"]

DEFAULT_PLATFORM = "ddr5-5600-dual"

# EPYC: the last digit of the model is the generation. Xeon Scalable: the second one. Both by the makers' own guides.
_SERIES = (
    (r"\bEPYC 7[\dFH][\dFHJ][23]\w?\b", "epyc-7002-7003"),
    (r"\bEPYC 9\d\d4\w?\b", "epyc-9004"),
    (r"\bEPYC 9\d\d5\w?\b", "epyc-9005"),
    (r"\bThreadripper PRO [35]9\d5WX\b", "threadripper-pro-5000"),
    (r"\bThreadripper 39\d0X\b", "threadripper-3000"),
    (r"\bThreadripper PRO 79\d5WX\b", "threadripper-pro-7000"),
    (r"\bThreadripper 79\d0X\b", "threadripper-7000"),
    (r"\bThreadripper PRO 99\d5WX\b", "threadripper-pro-9000"),
    (r"\bThreadripper 99\d0X\b", "threadripper-9000"),
    (r"\bXeon\S* (?:Platinum|Gold|Silver|Bronze) \d2\d\d\w*\b", "xeon-sp-2"),
    (r"\bXeon\S* (?:Platinum|Gold|Silver|Bronze) \d3\d\d\w*\b", "xeon-sp-3"),
    (r"\bXeon\S* (?:Platinum|Gold|Silver|Bronze) \d4\d\d\w*\b", "xeon-sp-4"),
    (r"\bXeon\S* (?:Platinum|Gold|Silver|Bronze) \d5\d\d\w*\b", "xeon-sp-5"),
    (r"\bXeon\S* 67\d\dP\b", "xeon-6-6700p"),
    (r"\bXeon\S* 69\d\dP\b", "xeon-6-6900p-ddr5"),
    # Socket AM4 takes DDR4 only; the mobile parts of these numbers end in U, H or HS.
    (r"\bRyzen [3579] (?:3|5)\d{3}(?:X|XT|X3D|G|GE)?(?= |$)", "ddr4-3200-dual"),
    (r"\bRyzen [3579] (?:7|9)\d{3}(?:X|X3D|F)?(?= |$)", "ddr5-5600-dual"),
    (r"\bCore\S* i[3579]-(?:8|9)\d{3}(?:K|KF|KS|F|T)?\b", "ddr4-2666-dual"),
    (r"\bCore\S* i[3579]-1[01]\d{3}(?:K|KF|F|T)?\b", "ddr4-3200-dual"),
)


_NOISE = r"\((?:R|TM|C)\)|®|™|@.*$|\b(?:\d+(?:st|nd|rd|th) Gen|CPU|Processor|\d+-Core)\b"
_WITH_GRAPHICS = r"\b(?:with|w/) .*$"


def processor_name(cpu: str | None) -> str:
    """Name of a processor without what the firmware adds to it: marks, generation, core count, clock.

    >>> processor_name("Intel(R) Core(TM) i9-10940X CPU @ 3.30GHz")
    'Intel Core i9-10940X'
    >>> processor_name("12th Gen Intel(R) Core(TM) i7-12700H"), processor_name("AMD Ryzen 9 5950X 16-Core Processor")
    ('Intel Core i7-12700H', 'AMD Ryzen 9 5950X')
    """
    if not cpu:
        return ""
    plain = re.sub(_NOISE, " ", cpu, flags=re.IGNORECASE)
    return " ".join(re.sub(_WITH_GRAPHICS, "", plain, flags=re.IGNORECASE).split())


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


def platform_of(cpu: str | None) -> str | None:
    """Id of the host platform that a processor belongs to, or None where its name does not decide.

    >>> platform_of("AMD EPYC 7763 64-Core Processor"), platform_of("Intel(R) Xeon(R) Platinum 8480+")
    ('epyc-7002-7003', 'xeon-sp-4')
    >>> platform_of("AMD EPYC") is None
    True
    """
    if not cpu:
        return None
    return next((platform for pattern, platform in _SERIES if re.search(pattern, cpu, re.IGNORECASE)), None)


# Zen 4 and 5 and Sapphire Rapids on (`-march` lists of GCC, https://gcc.gnu.org/onlinedocs/gcc/x86-Options.html).
_AVX512_BF16 = (
    r"\((?:znver[45]|sapphirerapids|emeraldrapids|graniterapids|cooperlake)\)"
    r"|\bEPYC (?:4|8|9)\d\d[45]\w*|\bThreadripper (?:PRO )?[79]9\d[05]W?X\b"
    # Desktop 7000 and 9000; of the mobile and 8000 numbers the third digit tells the core.
    r"|\bRyzen [3579] (?:PRO )?(?:7[5-9][05]0|9[6-9][05]0)(?:X|X3D|F)?(?= |$)"
    r"|\bRyzen [3579] (?:PRO )?(?:[78]\d4\d(?:U|H|HS|HX)|8[3-7]00(?:G|GE|F))(?= |$)"
    r"|\bXeon\S* (?:Platinum|Gold|Silver|Bronze|Max) [3-9][45]\d\d|\bXeon\S* 6[579]\d\dP"
)


def has_avx512_bf16(cpu: str | None, instruction_sets: Collection[str] = ()) -> bool:
    """Whether a processor multiplies BF16 in 512-bit vectors, by its flags or, without them, by its name.

    >>> has_avx512_bf16("AMD EPYC 9354 32-Core Processor (znver4)"), has_avx512_bf16("AMD Ryzen 9 5950X 16-Core")
    (True, False)
    """
    if instruction_sets:
        return any(name.lower().replace("-", "_") == "avx512_bf16" for name in instruction_sets)
    return bool(cpu) and re.search(_AVX512_BF16, cpu or "", re.IGNORECASE) is not None
