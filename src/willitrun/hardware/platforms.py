"""Memory platform of a processor by its model number, where the series decides it.

How many channels are filled, and at what speed, only the firmware knows. The makers' numbering tells the series and
the series the platform at its best; whoever uses it states the assumption.
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["DEFAULT_PLATFORM", "has_avx512_bf16", "has_vnni", "instruction_sets_of", "platform_of"]

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
    (r"\bXeon\S*(?: CPU)? +(?:Platinum|Gold|Silver|Bronze) \d2\d\d\w*\b", "xeon-sp-2"),
    # Parts with H are Cooper Lake, in another socket: what is recorded of Ice Lake's memory is not said of them.
    (r"\bXeon\S*(?: CPU)? +(?:Platinum|Gold|Silver|Bronze) \d3\d\d(?!H)\w*\b", "xeon-sp-3"),
    (r"\bXeon\S*(?: CPU)? +(?:Platinum|Gold|Silver|Bronze) \d4\d\d\w*\b", "xeon-sp-4"),
    (r"\bXeon\S*(?: CPU)? +(?:Platinum|Gold|Silver|Bronze) \d5\d\d\w*\b", "xeon-sp-5"),
    (r"\bXeon\S* 67\d\dP\b", "xeon-6-6700p"),
    (r"\bXeon\S* 69\d\dP\b", "xeon-6-6900p-ddr5"),
    (r"\bEPYC 7[\dF]\d1\w?\b", "epyc-7001"),
    (r"\bThreadripper 29\d0W?X\b", "threadripper-2000"),
    (r"\bOpteron\S* (?:Processor )?63\d\d\b", "opteron-6300"),
    (r"\bXeon\S*(?: CPU)? +[EXLW]56\d\d\b", "xeon-5600"),
    (r"\bXeon\S*(?: CPU)? +E5-[124]6\d\d\w? v2\b", "xeon-e5-v2"),
    (r"\bXeon\S*(?: CPU)? +E5-[124]6\d\d\w? v3\b", "xeon-e5-v3"),
    (r"\bXeon\S*(?: CPU)? +E5-[124]6\d\d\w? v4\b", "xeon-e5-v4"),
    (r"\bXeon\S*(?: CPU)? +E5-[124]6\d\d\w?(?! v)\b", "xeon-e5"),
    (r"\bXeon\S*(?: CPU)? +E3-12\d\d\w? v[23]\b", "ddr3-1600-dual"),
    (r"\bXeon\S*(?: CPU)? +E3-1[25]\d\d\w? v5\b", "ddr4-2133-dual"),
    (r"\bXeon\S*(?: CPU)? +E3-1[25]\d\d\w? v6\b", "ddr4-2400-dual"),
    (r"\bXeon\S*(?: CPU)? +W-21\d\d\w?\b", "xeon-w-2100"),
    (r"\bXeon\S*(?: CPU)? +W-22\d\d\w?\b", "xeon-w-2200"),
    (r"\bXeon\S*(?: CPU)? +w[357]-24\d\d\w?\b", "xeon-w-2400"),
    (r"\bXeon\S*(?: CPU)? +w[579]-34\d\d\w?\b", "xeon-w-3400"),
    # Socket AM4 takes DDR4 only, and so do the mobile parts to 5000; of 7000 the third digit tells the core.
    (r"\bRyzen [3579] (?:PRO )?1\d{3}\w{0,2}(?= |$)", "ddr4-2666-dual"),
    (r"\bRyzen [3579] (?:PRO )?[23]\d{3}(?:U|H|C)(?= |$)|\bRyzen Embedded R1\d{3}\w?\b", "ddr4-2400-dual"),
    (r"\bRyzen [3579] (?:PRO )?(?:2\d{3}\w{0,2}|3\d{3}GE?)(?= |$)", "ddr4-2933-dual"),
    (r"\bRyzen [3579] (?:PRO )?(?:3|4|5)\d{3}\w{0,3}(?= |$)", "ddr4-3200-dual"),
    (r"\bRyzen [3579] (?:PRO )?7[1-9]3\d(?:U|H|HS)(?= |$)", "ddr4-3200-dual"),
    (r"\bRyzen [3579] (?:PRO )?(?:6\d{3}|7[1-9][23]5)(?:U|H|HS|HX|Z)(?= |$)", "ddr5-4800-dual"),
    (r"\bRyzen [3579] (?:PRO )?7\d{2}5HX\b", "ddr5-5200-dual"),
    (r"\bRyzen [3579] (?:PRO )?(?:7|8|9)\d{3}(?:X|X3D|F|G|GE|U|H|HS|HX|HX3D)?(?= |$)", "ddr5-5600-dual"),
    (r"\bFX\S*-[4689]\d{3}\b", "ddr3-1866-dual"),
    (r"\bPhenom\S* II\b", "ddr3-1333-dual"),
    (r"\bCore(?:\(TM\))?2 |\bC2[DQ]\b", "core-2"),
    (r"\bXeon\S*(?: CPU)? +(?:Platinum|Gold|Silver|Bronze) \d1\d\d\w*\b", "xeon-sp-1"),
    (r"\bCore\S* i[357]-2\d{3}\w{0,2}\b", "ddr3-1333-dual"),
    (r"\bCore\S* i[357]-[345]\d{3}\w{0,2}\b|\bCore\S* M-5Y\d\d\b", "ddr3-1600-dual"),
    (r"\bCore\S* i[357]-6\d{3}(?!X)\w{0,2}\b|\bCore\S* (?:i[57]|m3)-[67]Y\d\d\b", "ddr4-2133-dual"),
    (r"\bCore\S* i[357]-7\d{3}U\b", "ddr4-2133-dual"),
    (r"\bCore\S* i[357]-7\d{3}(?!X)\w{0,2}\b|\bCore\S* i[3579]-8\d{3}[UY]\b", "ddr4-2400-dual"),
    (r"\bCore\S* i3-[89]\d{3}(?:F|T|K|KF)?(?!\w)", "ddr4-2400-dual"),
    (r"\bCore\S* i[3579]-(?:8|9)\d{3}(?!X)\w{0,2}\b|\bCore\S* i[357]-10\d{3}U\b", "ddr4-2666-dual"),
    (r"\bPentium\S* Gold G6\d{3}\b", "ddr4-2666-dual"),
    (r"\bCore\S* i[35]-10[1-6]\d\d(?:K|KF|F|T)?(?!\w)", "ddr4-2666-dual"),
    (r"\bCore\S* i[3579]-10\d{3}(?!X)(?:K|KF|F|T|H|HK)?\b", "ddr4-2933-dual"),
    (
        r"\bCore\S* i[357]-(?:10\d{2}G\d|11\d{2}G\d|11\d{3}\w{0,2})\b|\bCore\S* i9-11\d{3}\w{0,2}\b",
        "ddr4-3200-dual",
    ),
    (r"\bCore\S* i[3579]-12\d{2,3}\w{0,2}\b", "ddr5-4800-dual"),
    # Of the 13th and 14th the lower numbers kept the memory of the 12th.
    (r"\bCore\S* i[35]-1[34][1-5]00[FT]?(?!\w)|\bCore\S* i[57]-13(?:450|650|700)HX\b", "ddr5-4800-dual"),
    (r"\bCore\S* i[3579]-13\d{2,3}(?:U|P|H|HK)\b", "ddr5-5200-dual"),
    (r"\bCore\S* i[3579]-1[34]\d{3}\w{0,2}\b|\bCore\S* Ultra [579] 1\d\d[UHL]\b", "ddr5-5600-dual"),
    (r"\bCore\S* Ultra [579] 2\d\d(?:K|KF|F|HX|T)?\b", "ddr5-6400-dual"),
    (r"\bAmpereOne A\d+-\d+X\b", "ampereone"),
)


# Widest vectors where they are short of AVX2, by the makers' names of processors and cores, as compilers know them
# (-march lists of GCC, https://gcc.gnu.org/onlinedocs/gcc/x86-Options.html).
_OLDER_SETS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\((?:westmere|nehalem|core2|amdfam10)\)|\bCore(?:\(TM\))?2 |\bC2Q\b|\bPhenom\b|\bXeon\S*(?: CPU)? +(?:[EXLW]5[56]|X34|W3[56])\d\d\b"
                r"|\bCore\S* i[357](?: CPU)?[ -]+\d{3}[A-Z]{0,2}\b"
                r"|\bPentium\S* Gold G[456]\d{3}\b", ("sse4.2",)),
    (r"\bRISC-V\b", ("rv64",)),
    (r"\bTensor G\d\b|\b(?:Kirin|Snapdragon|Exynos|Dimensity|Graviton|AmpereOne|Kunpeng)\b|\bCortex-[AX]\d+\b"
                r"|\bAmpere Altra\b", ("asimd",)),
    (r"\((?:sandybridge|ivybridge|bdver[12])\)|\bCore\S* i[357]-[23]\d{3}\w{0,2}\b"
                r"|\bXeon\S*(?: CPU)? +E[35]-\d{4}\w?(?: v2|(?! v))\b", ("sse4.2", "avx")),
)  # fmt: skip


def instruction_sets_of(cpu: str | None) -> tuple[str, ...]:
    """Vector instruction sets of x86 before AVX2, of Arm and of RISC-V, by name; empty for newer x86 and unknown ones.

    >>> instruction_sets_of("Intel Core i5-2500 CPU @ 3.30GHz (sandybridge)"), instruction_sets_of("Intel Core i7-8700K")
    (('sse4.2', 'avx'), ())
    """
    if not cpu:
        return ()
    return next((sets for pattern, sets in _OLDER_SETS if re.search(pattern, cpu, re.IGNORECASE)), ())


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


# Zen 4 and 5, Cooper Lake, Sapphire Rapids on (`-march` of GCC, https://gcc.gnu.org/onlinedocs/gcc/x86-Options.html).
_AVX512_BF16 = (
    r"\((?:znver[45]|sapphirerapids|emeraldrapids|graniterapids|cooperlake)\)"
    r"|\bEPYC (?:4|8|9)\d\d[45]\w*|\bThreadripper (?:PRO )?[79]9\d[05]W?X\b"
    # Desktop 7000 and 9000; of the mobile and 8000 numbers the third digit tells the core.
    r"|\bRyzen [3579] (?:PRO )?(?:7[5-9][05]0|9[6-9][05]0)(?:X|X3D|F)?(?= |$)"
    r"|\bRyzen [3579] (?:PRO )?(?:[78]\d4\d(?:U|H|HS|HX)|8[3-7]00(?:G|GE|F))(?= |$)"
    r"|\bRyzen AI (?:Max\+? )?(?:PRO )?(?:[3579] )?(?:PRO )?(?:HX )?[34]\d\d"
    r"|\bXeon\S*(?: CPU)? +(?:Platinum|Gold|Silver|Bronze|Max) (?:[3-9][45]\d\d|[568]3\d\dH)|\bXeon\S* 6[579]\d\dP"
)


def has_avx512_bf16(cpu: str | None, instruction_sets: Collection[str] = ()) -> bool:
    """Whether a processor multiplies BF16 in 512-bit vectors, by its flags or, without them, by its name.

    >>> has_avx512_bf16("AMD EPYC 9354 32-Core Processor (znver4)"), has_avx512_bf16("AMD Ryzen 9 5950X 16-Core")
    (True, False)
    >>> has_avx512_bf16("Intel(R) Xeon(R) CPU Max 9480"), has_avx512_bf16("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz")
    (True, False)
    >>> has_avx512_bf16("AMD Ryzen AI 9 HX 370 w/ Radeon 890M"), has_avx512_bf16("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S")
    (True, True)
    >>> has_avx512_bf16("AMD Ryzen 7 7800X3D 8-Core", ("avx512", "avx2")), has_avx512_bf16("x", ("avx512f", "avx2"))
    (True, False)
    """
    told = {name.lower().replace("-", "_") for name in instruction_sets}
    if told and "avx512" not in told:
        return "avx512_bf16" in told
    # Makers' sheets say "AVX-512" and leave its extensions to the core's name.
    return bool(cpu) and re.search(_AVX512_BF16, cpu or "", re.IGNORECASE) is not None


def has_vnni(cpu: str | None, instruction_sets: Collection[str] = ()) -> bool:
    """Whether a processor multiplies bytes in one instruction (VNNI of 512 bits, AMX), by its flags or its name.

    Without flags only generations count whose every part has it; they are those with BF16 vectors.

    >>> has_vnni("AMD Ryzen 7 7800X3D 8-Core Processor (znver4)"), has_vnni("x", ("avx2", "avx512-vnni"))
    (True, True)
    """
    told = {name.lower().replace("_", "-") for name in instruction_sets}
    if told and "avx512" not in told:
        return bool({"avx512-vnni", "amx-int8"} & told)
    return has_avx512_bf16(cpu)
