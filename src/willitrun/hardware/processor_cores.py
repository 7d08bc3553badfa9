"""Physical cores of a processor by its name, where the name states them or the maker's numbering decides them.

The table follows the makers' numbering as its author knows it; only part of it was compared with exports of ark.intel.com
and amd.com (source cpu-spec-dataset), so these are assumptions and no cited facts: models that leave their series are
counted wrong. They belong in the catalog, each with its source. What a virtual machine has of them only its system knows.
"""

from __future__ import annotations

import re

__all__ = ["cores_of"]

# Processors that carry their core count in their name, as AMD's and Ampere's do.
_STATED_CORES = r"\b(\d{1,3})-Cores?\b|\bAmpere(?:One)? A(\d{2,3})-"
_CLUSTERS = r"\b(\d+)P\+(\d+)E\b"


# By series: the first match counts. A core of either kind is one.
_CORES: tuple[tuple[str, int], ...] = (
    (r"\bEight-Core\b|\bFX\S*-8\d{3}\b", 8),
    (
        r"\bCore(?:\(TM\))?2 Duo\b|\bPentium\S* Gold G6\d{3}\b|\bCore\S* (?:M-5Y|i[57]-[67]Y|m3-[67]Y)\d\d\b",
        2,
    ),
    (r"\bC2Q\b|\bCore(?:\(TM\))?2 Quad\b|\bPhenom\S* II X4\b", 4),
    (r"\bCore\S* i3-[2-7]\d{3}\w{0,2}\b|\bCore\S* i[57]-[2-7]\d{3}[UM]\b", 2),
    (
        r"\bCore\S* i[57]-[2-7]\d{3}(?!X)\w{0,2}\b|\bCore\S* i[57]-(?:8\d{3}[UY]|10\d{3}U|1[01]\d{2}G\d)\b",
        4,
    ),
    (
        r"\bCore\S* i3-(?:8|9|10)\d{3}\w{0,2}\b|\bCore\S* i5-(?:8|9|10)\d{3}H\b|\bXeon\S*(?: CPU)? +E3-1\d{3}\w?\b",
        4,
    ),
    (
        r"\bCore\S* i5-(?:8|9|10|11)\d{3}\w{0,2}\b|\bCore\S* i7-8\d{3}\w{0,2}\b|\bCore\S* i7-(?:9|10)\d{3}H\b",
        6,
    ),
    (r"\bCore\S* i[79]-(?:9|11)\d{3}(?!X)\w{0,2}\b|\bCore\S* i7-10\d{3}(?!X)\w{0,2}\b", 8),
    (
        r"\bCore\S* i9-10\d{3}(?:K|KF|F|T)?\b|\bCore\S* i[57]-1[23]\d{2}U\b|\bCore\S* i5-1[234]4\d0\w{0,2}\b",
        10,
    ),
    (r"\bCore\S* i[57]-1[23][4-6]\dP\b|\bCore\S* i7-12700(?:K|KF|F|T)?\b|\bCore\S* i5-1[23]\d{3}H\b", 12),
    (r"\bCore\S* Ultra [57] 1\d5U\b", 12),
    (
        r"\bCore\S* i7-1[23][78]\dP\b|\bCore\S* i[79]-1[23]\d{3}(?:H|HK)\b|\bCore\S* i5-1[34][56]\d0\w{0,2}\b",
        14,
    ),
    (r"\bCore\S* i7-1[34]650HX\b|\bCore\S* Ultra 5 (?:125H|135H|245\w{0,2})\b", 14),
    (
        r"\bCore\S* i9-12\d{3}\w{0,2}\b|\bCore\S* i7-13700\w{0,2}\b|\bCore\S* Ultra [79] (?:1[5-8]5H|2[5-8]5H)\b",
        16,
    ),
    (r"\bCore\S* i7-(?:13850|14700)\w{0,2}\b|\bCore\S* Ultra 7 265\w{0,2}\b", 20),
    (r"\bCore\S* i9-1[34]9\d{2}\w{0,2}\b|\bCore\S* Ultra 9 285(?:K|HX)?\b", 24),
    (r"\bXeon\S*(?: CPU)? +[EXLW]56\d\d\b", 6),
    (r"\bRyzen Embedded R1\d{3}\w?\b", 2),
    (r"\bRyzen 3 (?:PRO )?\d{4}\w{0,3}(?= |$)|\bRyzen 5 (?:PRO )?3\d{2}0(?:U|H)(?= |$)", 4),
    (r"\bRyzen 5 (?:PRO )?\d{4}\w{0,3}(?= |$)", 6),
    (r"\bRyzen 9 (?:PRO )?7\d45HX\b", 16),
    (r"\bRyzen [79] (?:PRO )?\d{4}\w{0,3}(?= |$)", 8),
)

# Xeons by (series, version), then number. Numbers made for clouds (8259CL, 8375C) are not here: a virtual machine has
# a share of them that its name does not tell.
_XEONS: dict[str, dict[str, int]] = {
    "E5": {"2620": 6, "2630": 6, "2640": 6, "2650": 8, "2660": 8, "2670": 8, "2680": 8, "2690": 8},
    "E5 v2": {
        "2620": 6,
        "2630": 6,
        "2640": 8,
        "2650": 8,
        "2660": 10,
        "2667": 8,
        "2670": 10,
        "2680": 10,
        "2690": 10,
        "2695": 12,
        "2697": 12,
    },
    "E5 v3": {
        "2620": 6,
        "2630": 8,
        "2640": 8,
        "2650": 10,
        "2660": 10,
        "2667": 8,
        "2670": 12,
        "2680": 12,
        "2683": 14,
        "2690": 12,
        "2695": 14,
        "2697": 14,
        "2698": 16,
        "2699": 18,
    },
    "E5 v4": {
        "2620": 8,
        "2630": 10,
        "2640": 10,
        "2650": 12,
        "2660": 14,
        "2667": 8,
        "2680": 14,
        "2683": 16,
        "2690": 14,
        "2695": 18,
        "2697": 18,
        "2697A": 16,
        "2698": 20,
        "2699": 22,
    },
    "W": {
        "2123": 4,
        "2125": 4,
        "2133": 6,
        "2135": 6,
        "2145": 8,
        "2155": 10,
        "2175": 14,
        "2195": 18,
        "2223": 4,
        "2225": 4,
        "2235": 6,
        "2245": 8,
        "2255": 10,
        "2265": 12,
        "2275": 14,
        "2295": 18,
        "2423": 6,
        "2425": 6,
        "2435": 8,
        "2445": 10,
        "2455X": 12,
        "2465X": 16,
        "2475X": 20,
        "2495X": 24,
        "3425": 12,
        "3435X": 16,
        "3445": 20,
        "3455": 24,
        "3465X": 28,
        "3475X": 36,
        "3495X": 56,
    },
    "": {
        "4110": 8,
        "4114": 10,
        "4116": 12,
        "6140": 18,
        "6148": 20,
        "8180": 28,
        "4210": 10,
        "4210R": 10,
        "4214": 12,
        "4216": 16,
        "5218": 16,
        "6226R": 16,
        "6230": 20,
        "6248": 20,
        "6248R": 24,
        "8260": 24,
        "8268": 24,
        "8270": 26,
        "8280": 28,
        "4310": 12,
        "4314": 16,
        "6330": 28,
        "6338": 32,
        "8352Y": 32,
        "8358": 32,
        "8380": 40,
        "4410Y": 12,
        "6430": 32,
        "6448Y": 32,
        "8468": 48,
        "8480+": 56,
        "8490H": 60,
        "8558": 48,
        "8568Y+": 48,
        "8592+": 64,
        "6747P": 48,
        "6767P": 64,
        "6781P": 80,
        "6787P": 86,
        "6960P": 72,
        "6972P": 96,
        "6980P": 128,
    },
}
_XEON = (
    r"\bXeon\S*(?: CPU)? +(?:(?P<old>E5)-|(?P<work>W|w[3579])-|(?:Platinum|Gold|Silver|Bronze|Max) )?"
    r"(?P<number>\d{4}\w{0,2}\+?)(?: (?P<version>v[234]))?(?!\w)"
)


def _xeon_cores(name: str) -> int | None:
    found = re.search(_XEON, name, re.IGNORECASE)
    if found is None:
        return None
    series = "W" if found["work"] else "E5" if found["old"] else ""
    version = f" {found['version'].lower()}" if found["version"] else ""
    return _XEONS.get(series + version, {}).get(found["number"].upper())


def cores_of(cpu: str | None) -> int | None:
    """Physical cores that a processor's name states or its series decides, or None.

    >>> cores_of("AMD Ryzen 9 5950X 16-Core Processor"), cores_of("Apple M4 Max 12P+4E"), cores_of("Intel Core i7-8550U")
    (16, 16, 4)
    >>> cores_of("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz"), cores_of("Intel Xeon Processor (Skylake)") is None
    (14, True)
    """
    if not cpu:
        return None  # and none of the patterns compiled: a described machine seldom names its processor
    name = cpu
    stated = re.search(_STATED_CORES, name, re.IGNORECASE)
    if stated:
        return int(stated.group(1) or stated.group(2))
    clusters = re.search(_CLUSTERS, name)
    if clusters:
        return sum(map(int, clusters.groups()))
    by_series = next((cores for pattern, cores in _CORES if re.search(pattern, name, re.IGNORECASE)), None)
    return by_series or _xeon_cores(name)


# Processors that carry their core count in their name, as AMD's and Ampere's do.
_STATED_CORES = r"\b(\d{1,3})-Cores?\b|\bAmpere(?:One)? A(\d{2,3})-"
