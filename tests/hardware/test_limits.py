"""Control groups and PCIe paths: the tightest place on the way decides."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from willitrun.hardware.cgroups import read_control_groups
from willitrun.hardware.pcie import read_link
from willitrun.hardware.ram import probe_ram
from willitrun.hardware.surroundings import RecordedSurroundings

GIB = 1 << 30
LIMITS = st.one_of(st.just("max"), st.integers(1 << 26, 1 << 42).map(str))


@given(st.lists(LIMITS, min_size=1, max_size=6))
def test_the_smallest_limit_of_the_ancestry_counts(limits: list[str]) -> None:
    parts = [f"level{i}" for i in range(len(limits))]
    texts = {"/proc/self/cgroup": "0::/" + "/".join(parts)}
    for depth, limit in enumerate(limits):
        texts["/sys/fs/cgroup/" + "/".join(parts[: depth + 1]) + "/memory.max"] = limit + "\n"
    found = read_control_groups(RecordedSurroundings({"text": texts}))
    numbers = [int(limit) for limit in limits if limit != "max"]
    assert found.memory_limit_bytes == min(numbers, default=None)


@given(st.text(max_size=200), st.text(max_size=60), st.text(max_size=60))
def test_odd_files_never_raise(groups: str, limit: str, quota: str) -> None:
    texts = {
        "/proc/self/cgroup": groups,
        "/sys/fs/cgroup/memory.max": limit,
        "/sys/fs/cgroup/cpu.max": quota,
        "/proc/meminfo": limit + "\n" + groups,
    }
    around = RecordedSurroundings({"text": texts})
    found = read_control_groups(around)
    assert found.memory_limit_bytes is None or found.memory_limit_bytes > 0
    assert found.cpu_quota is None or found.cpu_quota >= 0
    probe_ram(around)


def test_a_limit_above_the_memory_is_none() -> None:
    texts = {"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/memory.max": str(64 * GIB)}
    memory = {"": {"total": 32 * GIB, "available": 20 * GIB, "swap_total": 0}}
    found = probe_ram(RecordedSurroundings({"text": texts, "memory": memory}))
    assert "memory_limit_bytes" not in found.host
    assert found.host["ram_available_bytes"] == 20 * GIB


def test_memory_from_proc_where_nothing_else_answers() -> None:
    text = "MemTotal:       64349824 kB\nMemFree:  1 kB\nMemAvailable:   50000000 kB\nSwapTotal: 0 kB\n"
    found = probe_ram(RecordedSurroundings({"text": {"/proc/meminfo": text}}))
    assert found.host["ram_total_bytes"] == 64349824 * 1024
    assert found.host["ram_available_bytes"] == 50000000 * 1024


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["2.5 GT/s PCIe", "8.0 GT/s PCIe", "16.0 GT/s PCIe", "Unknown", "32.0 GT/s PCIe"]
            ),
            st.sampled_from(["1", "4", "8", "16", "0", "255"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_narrowest_hop_counts(hops: list[tuple[str, str]]) -> None:
    generations = {"2.5 GT/s PCIe": 1, "8.0 GT/s PCIe": 3, "16.0 GT/s PCIe": 4, "32.0 GT/s PCIe": 5}
    path = "/sys/devices/pci0000:00"
    texts = {}
    for depth, (speed, width) in enumerate(hops):
        path += f"/0000:{depth:02x}:00.0"
        texts[f"{path}/max_link_speed"] = speed + "\n"
        texts[f"{path}/current_link_width"] = width + "\n"
    recorded = RecordedSurroundings({"text": texts, "target": {"/sys/bus/pci/devices/gpu": path}})
    link = read_link(recorded, "/sys/bus/pci/devices/gpu")
    assert link.generation == min((generations[s] for s, _ in hops if s in generations), default=None)
    assert link.lanes == min((int(w) for _, w in hops if w in ("1", "4", "8", "16")), default=None)


def test_huge_pages_are_told() -> None:
    recorded = {
        "text": {
            "/proc/meminfo": "MemTotal: 65536000 kB\nMemAvailable: 40000000 kB\nHugePages_Total: 1024\nHugepagesize: 2048 kB\n"
        }
    }
    found = probe_ram(RecordedSurroundings(recorded))
    assert found.host["huge_pages_bytes"] == 2 << 30
    assert any(report.probe == "ram.huge-pages" for report in found.reports)
    none = probe_ram(
        RecordedSurroundings({"text": {"/proc/meminfo": "MemTotal: 65536000 kB\nMemAvailable: 1 kB\n"}})
    )
    assert "huge_pages_bytes" not in none.host
