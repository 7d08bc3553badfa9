"""What other systems than this one answer: the Windows registry, and the processors of several makers."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from willitrun.hardware.cpu import probe_cpu
from willitrun.hardware.registry import read_display_adapters, read_processor_name
from willitrun.hardware.surroundings import RecordedSurroundings
from willitrun.hardware.windows import probe_windows

CLASS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
VIDEO = r"HARDWARE\DEVICEMAP\VIDEO"
GIB = 1 << 30

Tree = dict[str, dict[str, Any]]


class _Key:
    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> _Key:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def registry(tree: Tree, closed: tuple[str, ...] = ()) -> Any:
    """As much of `winreg` as is called, over a tree of paths and values."""

    def open_key(_: object, path: str) -> _Key:
        if path in closed:
            raise PermissionError(path)
        if path not in tree and not any(known.startswith(path + "\\") for known in tree):
            raise FileNotFoundError(path)
        return _Key(path)

    def children(key: _Key) -> list[str]:
        below = [known.removeprefix(key.path + "\\") for known in tree if known.startswith(key.path + "\\")]
        return sorted({name.split("\\")[0] for name in below})

    def query(key: _Key, name: str) -> tuple[Any, int]:
        try:
            return tree[key.path][name], 1
        except KeyError:
            raise FileNotFoundError(name) from None

    return SimpleNamespace(
        HKEY_LOCAL_MACHINE=object(),
        OpenKey=open_key,
        QueryInfoKey=lambda key: (len(children(key)), len(tree.get(key.path, {})), 0),
        EnumKey=lambda key, i: children(key)[i],
        EnumValue=lambda key, i: (*list(tree[key.path].items())[i], 1),
        QueryValueEx=query,
    )


def adapter(name: str, device: str, memory: Any) -> dict[str, Any]:
    return {
        "DriverDesc": name,
        "DriverVersion": "32.0.15.6094",
        "MatchingDeviceId": f"pci\\{device}",
        "HardwareInformation.qwMemorySize": memory,
    }


TREE: Tree = {
    # The card that was taken out comes first: pairing by position would give its memory to the other.
    f"{CLASS}\\0000": adapter("NVIDIA GeForce GTX 1060 6GB", "ven_10de&dev_1c03", 6 * GIB),
    f"{CLASS}\\0001": adapter(
        "AMD Radeon RX 7900 XTX", "ven_1002&dev_744c&rev_c8", (24 * GIB).to_bytes(8, "little")
    ),
    f"{CLASS}\\0002": adapter("Intel(R) UHD Graphics 770", "ven_8086&dev_4680", 0),
    f"{CLASS}\\Configuration": {},
    f"{CLASS}\\Properties": {},
    VIDEO: {
        r"\Device\Video0": r"\Registry\Machine\SYSTEM\CurrentControlSet\Control\Video\{A}\0000",
        r"\Device\Video1": r"\Registry\Machine\SYSTEM\CurrentControlSet\Control\Video\{B}\0000",
        r"\Device\Video9": r"\Registry\Machine\SYSTEM\CurrentControlSet\Control\Video\{GONE}\0000",
        "MaxObjectNumber": 2,
    },
    r"SYSTEM\CurrentControlSet\Control\Video\{A}\0000": {"DriverDesc": "Intel(R) UHD Graphics 770"},
    r"SYSTEM\CurrentControlSet\Control\Video\{B}\0000": {"DriverDesc": "AMD Radeon RX 7900 XTX"},
    r"HARDWARE\DESCRIPTION\System\CentralProcessor\0": {"ProcessorNameString": "Intel(R) Core(TM) i9-13900K  "},
}  # fmt: skip


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "winreg", registry(TREE, closed=(f"{CLASS}\\Properties",)))


@pytest.mark.usefixtures("windows")
def test_memory_goes_with_the_description_and_not_with_the_position() -> None:
    adapters = read_display_adapters()
    assert [(one["DriverDesc"], one["active"]) for one in adapters] == [
        ("NVIDIA GeForce GTX 1060 6GB", False),
        ("AMD Radeon RX 7900 XTX", True),
        ("Intel(R) UHD Graphics 770", True),
    ]
    # 64 bits, written as raw bytes by some drivers: no end at 4 GiB.
    assert adapters[1]["HardwareInformation.qwMemorySize"] == 24 * GIB
    assert read_processor_name() == "Intel(R) Core(TM) i9-13900K"
    recorded = {"system": {"": {"system": "windows"}}, "registry": {"": adapters}}
    found = probe_windows(RecordedSurroundings(recorded))
    card, graphics = found.devices
    assert (card.vendor, card.memory_total_bytes, card.pci_revision) == ("amd", 24 * GIB, "c8")
    assert (graphics.kind, graphics.memory_total_bytes, graphics.looks_shared) == ("igpu", None, True)
    assert [report.status for report in found.reports if report.probe == "windows.adapter0"] == ["skipped"]


def test_a_registry_that_is_closed_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "winreg", registry({}))
    assert read_display_adapters() == []
    assert read_processor_name() is None


def block(number: int, socket: int, core: int, flags: str) -> str:
    return (
        f"processor\t: {number}\nphysical id\t: {socket}\ncore id\t\t: {core}\n"
        f"model name\t: Intel(R) Xeon(R) Platinum 8480+\nflags\t\t: {flags}\n"
    )


def linux(cpuinfo: str, **more: Any) -> Any:
    text = {"/proc/cpuinfo": cpuinfo, **more.pop("text", {})}
    return probe_cpu(RecordedSurroundings({"system": {"": {"system": "linux"}}, "text": text, **more})).host


def test_two_sockets_with_amx() -> None:
    flags = "fpu avx avx2 fma avx512f avx512_vnni avx512_bf16 amx_tile amx_int8 amx_bf16"
    host = linux("\n".join(block(n, n // 4, n % 4 // 2, flags) for n in range(8)))
    assert (host["sockets"], host["cores"]) == (2, 4)
    assert {"amx", "amx-int8", "amx-bf16", "avx512-bf16"} <= set(host["instruction_sets"])


def test_affinity_and_quota_leave_less_than_the_processor_has() -> None:
    cpuinfo = "\n".join(block(n, 0, n // 2, "avx2") for n in range(16))
    cores = {"cores": {"": {"physical": 8, "logical": 16}}}
    assert linux(cpuinfo, **cores)["usable_cores"] == 8.0
    assert linux(cpuinfo, **cores, affinity={"": 6})["usable_cores"] == 6.0
    quota = {"/proc/self/cgroup": "0::/a/b", "/sys/fs/cgroup/a/memory.max": "max",
             "/sys/fs/cgroup/a/b/memory.max": "max", "/sys/fs/cgroup/a/cpu.max": "250000 100000",
             "/sys/fs/cgroup/a/b/cpu.max": "max 100000"}  # fmt: skip
    # The parent's quota binds, though the group itself has none.
    assert linux(cpuinfo, **cores, affinity={"": 6}, text=quota)["usable_cores"] == 2.5


def test_arm_has_features_and_its_board_a_name() -> None:
    arm = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16 sve sve2\nCPU implementer\t: 0x41\n"
    host = linux(arm, text={"/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
    assert host["cpu"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert {"neon", "dotprod", "i8mm", "bf16", "sve2"} <= set(host["instruction_sets"])
