"""The processor: model, cores, what affinity and quotas leave of them, and vector instructions."""

from __future__ import annotations

from willitrun.hardware.cgroups import in_container, read_control_groups
from willitrun.hardware.findings import Findings
from willitrun.hardware.readings import believed
from willitrun.hardware.surroundings import Surroundings

__all__ = ["probe_cpu"]

# /proc/cpuinfo flags (Linux x86, Linux Arm) -> the names we give them.
_FLAGS = {
    "sse4_2": "sse4.2",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx_vnni": "avx-vnni",
    "avx512f": "avx512",
    "avx512_vnni": "avx512-vnni",
    "avx512_bf16": "avx512-bf16",
    "avx512_fp16": "avx512-fp16",
    "amx_tile": "amx",
    "amx_int8": "amx-int8",
    "amx_bf16": "amx-bf16",
    "asimd": "neon",
    "neon": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "fphp": "fp16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}


def probe_cpu(surroundings: Surroundings) -> Findings:
    """CPU model, sockets, physical cores, usable cores, instruction sets, and whether this is a container or WSL."""
    found = Findings()
    system = surroundings.ask("system")
    system = system if isinstance(system, dict) else {}
    name = system.get("system")
    found.host["system"] = name if name in ("linux", "windows", "macos") else None
    release = system.get("release")
    found.host["system_version"] = release if isinstance(release, str) else None
    counted = surroundings.ask("cores")
    counted = counted if isinstance(counted, dict) else {}
    physical = believed(counted.get("physical"), 1, 65_536)
    logical = believed(counted.get("logical"), 1, 65_536)
    if name == "linux":
        cpuinfo = surroundings.ask("text", "/proc/cpuinfo")
        blocks = _blocks(cpuinfo if isinstance(cpuinfo, str) else "")
        _linux(surroundings, found, blocks)
        logical = logical or len(blocks) or None
        if physical is None:
            pairs = {(block.get("physical id"), block["core id"]) for block in blocks if "core id" in block}
            physical = len(pairs) or (logical if blocks and "CPU implementer" in blocks[0] else None)
    elif name == "macos":
        _macos(surroundings, found)
    elif name == "windows":
        cpu = surroundings.ask("registry", "processor")
        found.host["cpu"] = cpu if isinstance(cpu, str) else None
    affinity = believed(surroundings.ask("affinity"), 1, 65_536)
    quota = read_control_groups(surroundings).cpu_quota
    threads = min((n for n in (logical, affinity) if n is not None), default=None)
    usable = float(threads) if threads is not None else None
    if usable is not None and physical is not None:
        # Two hardware threads share one set of vector units.
        usable = min(usable, float(physical))
    if quota is not None:
        usable = quota if usable is None else min(usable, quota)
        found.report("cgroup.cpu", "ok", f"a control group allows {quota:g} cores")
    found.host["cores"] = physical
    found.host["usable_cores"] = usable
    found.report("cpu", "ok" if physical else "failed", "" if physical else "the number of cores is not told")
    return found


def _blocks(text: str) -> list[dict[str, str]]:
    blocks = []
    for paragraph in text.split("\n\n"):
        block = {}
        for line in paragraph.splitlines():
            key, separator, value = line.partition(":")
            if separator:
                block[key.strip()] = value.strip()
        if "processor" in block:
            blocks.append(block)
    return blocks


def _linux(surroundings: Surroundings, found: Findings, blocks: list[dict[str, str]]) -> None:
    if blocks:
        first = blocks[0]
        found.host["cpu"] = first.get("model name") or _board(surroundings)
        sockets = {block["physical id"] for block in blocks if "physical id" in block}
        found.host["sockets"] = len(sockets) or None
        flags = set((first.get("flags") or first.get("Features") or "").split())
        found.host["instruction_sets"] = tuple(
            dict.fromkeys(ours for flag, ours in _FLAGS.items() if flag in flags)
        )
    version = surroundings.ask("text", "/proc/version")
    if isinstance(version, str) and "microsoft" in version.lower():
        found.host["virtualization"] = "wsl2"
        see = ("troubleshooting:wsl-memory-limit",)
        found.report("wsl", "ok", "this is WSL2: its memory is what Windows gives the virtual machine", see)
    elif in_container(surroundings):
        found.host["virtualization"] = "container"
    elif blocks and "hypervisor" in blocks[0].get("flags", "").split():
        found.host["virtualization"] = "vm"


def _board(surroundings: Surroundings) -> str | None:
    """Arm's /proc/cpuinfo names no model; the device tree names the board."""
    text = surroundings.ask("text", "/proc/device-tree/model")
    return text.strip("\0 \n") or None if isinstance(text, str) else None


def _macos(surroundings: Surroundings, found: Findings) -> None:
    brand = surroundings.ask("command", "sysctl -n machdep.cpu.brand_string")
    found.host["cpu"] = brand.strip() if isinstance(brand, str) and brand.strip() else None
    sets = []
    for key, ours in (
        ("hw.optional.neon", "neon"),
        ("hw.optional.arm.FEAT_DotProd", "dotprod"),
        ("hw.optional.arm.FEAT_I8MM", "i8mm"),
        ("hw.optional.arm.FEAT_BF16", "bf16"),
        ("hw.optional.avx2_0", "avx2"),
    ):
        answer = surroundings.ask("command", f"sysctl -n {key}")
        if isinstance(answer, str) and answer.strip() == "1":
            sets.append(ours)
    found.host["instruction_sets"] = tuple(sets)
