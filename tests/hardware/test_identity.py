"""What drivers and operating systems call devices, each with the record it belongs to or a refusal.

The names are those that NVML, nvidia-smi, KFD, lspci, ``system_profiler`` and the device tree print.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from willitrun import load_catalog
from willitrun.catalog.names import normalise_name
from willitrun.hardware.identity import DeviceReading, Identity, identify, identify_accelerator
from willitrun.records.accelerators import Accelerator

GIB = 2**30
MIB = 2**20
MHZ = 1_000_000

Identify = Any
NV = "NVIDIA GeForce RTX "

KNOWN: tuple[tuple[str, dict[str, Any], str], ...] = (
    # GeForce desktop, as NVML names them
    (NV + "4090", {"memory_bytes": 24564 * MIB}, "nvidia-geforce-rtx-4090"),
    (NV + "4090", {"pci_id": "10de:2684", "memory_bytes": 24564 * MIB}, "nvidia-geforce-rtx-4090"),
    ("GeForce RTX 4090", {}, "nvidia-geforce-rtx-4090"),
    (NV + "4090 D", {"memory_bytes": 24564 * MIB}, "nvidia-geforce-rtx-4090-d"),
    (NV + "4090 D", {"pci_id": "10DE:2685"}, "nvidia-geforce-rtx-4090-d"),
    (NV + "5090", {"memory_bytes": 32607 * MIB}, "nvidia-geforce-rtx-5090"),
    (NV + "5090 D", {}, "nvidia-geforce-rtx-5090-d"),
    (NV + "5090 D v2", {"memory_bytes": 24 * GIB}, "nvidia-geforce-rtx-5090-d-v2"),
    (NV + "5080", {"memory_bytes": 16303 * MIB}, "nvidia-geforce-rtx-5080"),
    (NV + "5060 Ti", {"memory_bytes": 16311 * MIB}, "nvidia-geforce-rtx-5060-ti-16gb"),
    (NV + "5060 Ti", {"memory_bytes": 8151 * MIB}, "nvidia-geforce-rtx-5060-ti-8gb"),
    (NV + "4080 SUPER", {}, "nvidia-geforce-rtx-4080-super"),
    (NV + "4070 Ti SUPER", {"memory_bytes": 16376 * MIB}, "nvidia-geforce-rtx-4070-ti-super"),
    (NV + "4070", {"memory_clock_hz": 10501 * MHZ}, "nvidia-geforce-rtx-4070"),
    (NV + "4070", {"memory_clock_hz": 10001 * MHZ}, "nvidia-geforce-rtx-4070-gddr6"),
    (NV + "4060 Ti", {"memory_bytes": 16380 * MIB}, "nvidia-geforce-rtx-4060-ti-16gb"),
    (NV + "4060 Ti", {"memory_bytes": 8188 * MIB}, "nvidia-geforce-rtx-4060-ti-8gb"),
    (NV + "3060", {"memory_bytes": 12288 * MIB}, "nvidia-geforce-rtx-3060-12gb"),
    (NV + "3060", {"memory_bytes": 8192 * MIB}, "nvidia-geforce-rtx-3060-8gb"),
    (NV + "3060 Ti", {"memory_clock_hz": 7001 * MHZ}, "nvidia-geforce-rtx-3060-ti"),
    (NV + "3060 Ti", {"memory_clock_hz": 9501 * MHZ}, "nvidia-geforce-rtx-3060-ti-gddr6x"),
    (NV + "3080", {"memory_bytes": 10240 * MIB}, "nvidia-geforce-rtx-3080-10gb"),
    (NV + "3080", {"memory_bytes": 12288 * MIB, "compute_units": 70}, "nvidia-geforce-rtx-3080-12gb"),
    (NV + "3090", {"memory_bytes": 24576 * MIB}, "nvidia-geforce-rtx-3090"),
    (NV + "3090 Ti", {"memory_bytes": 24564 * MIB}, "nvidia-geforce-rtx-3090-ti"),
    (NV + "2080 Ti", {"memory_bytes": 11264 * MIB}, "nvidia-geforce-rtx-2080-ti"),
    ("GeForce RTX 2080 Ti", {}, "nvidia-geforce-rtx-2080-ti"),
    ("NVIDIA GeForce GTX 1060 6GB", {"memory_bytes": 6144 * MIB}, "nvidia-geforce-gtx-1060-6gb"),
    ("GeForce GTX 1080 Ti", {"memory_bytes": 11178 * MIB}, "nvidia-geforce-gtx-1080-ti"),
    ("NVIDIA TITAN V", {}, "nvidia-titan-v"),
    ("TITAN RTX", {}, "nvidia-titan-rtx"),
    # laptops: never the desktop card of the same number
    (NV + "4090 Laptop GPU", {"memory_bytes": 16376 * MIB}, "nvidia-geforce-rtx-4090-laptop"),
    (NV + "5090 Laptop GPU", {"memory_bytes": 24463 * MIB}, "nvidia-geforce-rtx-5090-laptop"),
    (NV + "4060 Laptop GPU", {}, "nvidia-geforce-rtx-4060-laptop"),
    (NV + "3070 Ti Laptop GPU", {}, "nvidia-geforce-rtx-3070-ti-laptop"),
    (NV + "3050 6GB Laptop GPU", {}, "nvidia-geforce-rtx-3050-6gb-laptop"),
    (NV + "3050 4GB Laptop GPU", {}, "nvidia-geforce-rtx-3050-4gb-laptop"),
    (NV + "2070", {"form_hint": "laptop"}, "nvidia-geforce-rtx-2070-laptop"),
    (NV + "2070", {"form_hint": "desktop"}, "nvidia-geforce-rtx-2070"),
    (NV + "2060", {"memory_bytes": 12288 * MIB}, "nvidia-geforce-rtx-2060-12gb"),
    ("NVIDIA RTX 5000 Ada Generation Laptop GPU", {}, "nvidia-rtx-5000-ada-generation-laptop"),
    # workstation
    ("NVIDIA RTX A6000", {"memory_bytes": 49140 * MIB}, "nvidia-rtx-a6000"),
    ("NVIDIA RTX 6000 Ada Generation", {"memory_bytes": 49140 * MIB}, "nvidia-rtx-6000-ada-generation"),
    ("Quadro RTX 6000", {"memory_bytes": 24220 * MIB}, "nvidia-quadro-rtx-6000"),
    ("Quadro RTX 8000", {"memory_bytes": 48 * GIB}, "nvidia-quadro-rtx-8000"),
    ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", {"memory_bytes": 97887 * MIB},
     "nvidia-rtx-pro-6000-blackwell-workstation-edition"),
    ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", {},
     "nvidia-rtx-pro-6000-blackwell-max-q-workstation-edition"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", {}, "nvidia-rtx-pro-6000-blackwell-server-edition"),
    # data centre: every form factor is a record of its own
    ("Tesla T4", {"memory_bytes": 15360 * MIB}, "nvidia-tesla-t4"),
    ("Tesla V100-SXM2-16GB", {}, "nvidia-tesla-v100-sxm2-16gb"),
    ("Tesla V100-SXM2-32GB", {}, "nvidia-tesla-v100-sxm2-32gb"),
    ("Tesla V100-PCIE-16GB", {}, "nvidia-tesla-v100-pcie-16gb"),
    ("Tesla V100S-PCIE-32GB", {}, "nvidia-tesla-v100s-pcie-32gb"),
    ("Tesla P100-PCIE-16GB", {}, "nvidia-tesla-p100-pcie-16gb"),
    ("NVIDIA A100-SXM4-40GB", {"memory_bytes": 40960 * MIB}, "nvidia-a100-sxm4-40gb"),
    ("NVIDIA A100-SXM4-80GB", {"memory_bytes": 81920 * MIB}, "nvidia-a100-sxm4-80gb"),
    ("A100-SXM4-40GB", {}, "nvidia-a100-sxm4-40gb"),
    ("NVIDIA A100-PCIE-40GB", {}, "nvidia-a100-pcie-40gb"),
    ("NVIDIA A100 80GB PCIe", {"memory_bytes": 81920 * MIB}, "nvidia-a100-pcie-80gb"),
    ("NVIDIA H100 80GB HBM3", {"memory_bytes": 81559 * MIB}, "nvidia-h100-sxm5-80gb"),
    ("NVIDIA H100 80GB HBM3", {"pci_id": "10de:2330"}, "nvidia-h100-sxm5-80gb"),
    ("NVIDIA H100 PCIe", {"memory_bytes": 81559 * MIB}, "nvidia-h100-pcie-80gb"),
    ("NVIDIA H100 NVL", {"memory_bytes": 95830 * MIB}, "nvidia-h100-nvl-94gb"),
    ("NVIDIA H200", {"memory_bytes": 143771 * MIB}, "nvidia-h200-sxm-141gb"),
    ("NVIDIA H200 NVL", {}, "nvidia-h200-nvl-141gb"),
    ("NVIDIA GH200 480GB", {"memory_bytes": 97871 * MIB}, "nvidia-gh200-96gb-hbm3"),
    ("NVIDIA GH200 144G HBM3e", {}, "nvidia-gh200-144gb-hbm3e"),
    ("NVIDIA B200", {"memory_bytes": 183359 * MIB}, "nvidia-b200-sxm-180gb"),
    ("NVIDIA B300 SXM6 AC", {}, "nvidia-b300-sxm-288gb"),
    ("NVIDIA L4", {"memory_bytes": 23034 * MIB}, "nvidia-l4"),
    ("NVIDIA L40S", {"memory_bytes": 46068 * MIB}, "nvidia-l40s"),
    ("NVIDIA L40", {}, "nvidia-l40"),
    ("NVIDIA A10G", {"memory_bytes": 23028 * MIB}, "nvidia-a10g"),
    ("NVIDIA A10", {}, "nvidia-a10"),
    ("NVIDIA A2", {"pci_id": "10de:25b6", "memory_bytes": 15356 * MIB}, "nvidia-a2"),
    ("NVIDIA A16", {"pci_id": "10de:25b6"}, "nvidia-a16-per-gpu"),
    # unified memory, Jetson and Spark
    ("NVIDIA GB10", {"memory_bytes": 127600748 * 1024}, "nvidia-gb10-dgx-spark"),
    ("NVIDIA Thor", {"memory_bytes": int(122.8 * GIB)}, "nvidia-jetson-agx-thor-t5000"),
    ("Orin (nvgpu)", {"memory_bytes": int(61.3 * GIB)}, "nvidia-jetson-agx-orin-64gb"),
    ("Orin (nvgpu)", {"memory_bytes": int(29.9 * GIB)}, "nvidia-jetson-agx-orin-32gb"),
    ("Orin (nvgpu)", {"memory_bytes": int(15.3 * GIB)}, "nvidia-jetson-orin-nx-16gb"),
    ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
     {"memory_bytes": int(7.4 * GIB)}, "nvidia-jetson-orin-nano-super-8gb"),
    # Apple: the core count decides, nothing else does
    ("Apple M1", {"compute_units": 7}, "apple-m1-7gpu"),
    ("Apple M2", {"compute_units": 10, "memory_bytes": 16 * GIB}, "apple-m2-10gpu"),
    ("Apple M1 Ultra", {"compute_units": 64, "memory_bytes": 128 * GIB}, "apple-m1-ultra-64gpu"),
    ("Apple M3 Max", {"compute_units": 40, "memory_bytes": 128 * GIB}, "apple-m3-max-40gpu"),
    ("Apple M3 Max", {"compute_units": 30, "memory_bytes": 36 * GIB}, "apple-m3-max-30gpu"),
    ("Apple M3 Max", {"memory_bytes": 128 * GIB}, "apple-m3-max-40gpu"),
    ("Apple M4 Pro", {"compute_units": 20}, "apple-m4-pro-20gpu"),
    ("Apple M4 Max", {"memory_bytes": 36 * GIB}, "apple-m4-max-32gpu"),
    # AMD: one device id, many cards, told apart by revision
    ("AMD Radeon RX 7900 XTX", {}, "amd-radeon-rx-7900-xtx"),
    ("AMD Radeon Graphics", {"pci_id": "1002:744c", "revision": "c8"}, "amd-radeon-rx-7900-xtx"),
    ("AMD Radeon Graphics", {"pci_id": "1002:744c", "revision": "cc"}, "amd-radeon-rx-7900-xt"),
    ("Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]", {"pci_id": "0x1002:0x744c", "revision": "0xce"},
     "amd-radeon-rx-7900-gre"),
    ("AMD Radeon RX 9060 XT", {"memory_bytes": 16304 * MIB}, "amd-radeon-rx-9060-xt-16gb"),
    ("AMD Instinct MI300X", {"memory_bytes": 192 * GIB}, "amd-instinct-mi300x"),
    ("AMD Radeon(TM) 8060S Graphics", {}, "amd-radeon-8060s"),
    ("AMD Radeon(TM) 780M Graphics", {}, "amd-radeon-780m"),
    (
        "AMD Instinct MI60 / MI50",
        {"pci_id": "1002:66a1", "revision": "02", "memory_bytes": 32 * GIB, "compute_units": 64},
        "amd-instinct-mi60",
    ),
    ("AMD Instinct MI300X", {"memory_bytes": 192 * GIB, "compute_units": 38}, "amd-instinct-mi300x"),
    # Intel
    ("Intel(R) Arc(TM) A770 Graphics", {"memory_bytes": 16225 * MIB}, "intel-arc-a770-16gb"),
    ("Intel(R) Arc(TM) 140V GPU (16GB)", {}, "intel-arc-140v-core-ultra-200v"),
    ("Intel(R) Arc(TM) Graphics", {"pci_id": "8086:7d55"}, "intel-arc-graphics-8-core-core-ultra-100h"),
    ("NVIDIA Jetson AGX Thor Developer Kit", {}, "nvidia-jetson-agx-thor-t5000"),
    (
        "NVIDIA Jetson Orin NX Engineering Reference Developer Kit Super",
        {"memory_bytes": int(15.3 * GIB)},
        "nvidia-jetson-orin-nx-16gb",
    ),
    ("AMD Instinct MI300X OAM", {"memory_bytes": 206141652992}, "amd-instinct-mi300x"),
    ("Intel(R) Arc(TM) B580 Graphics", {}, "intel-arc-b580"),
    ("Intel(R) Data Center GPU Max 1550 Graphics", {}, "intel-data-center-gpu-max-1550"),
)  # fmt: skip

REFUSED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", {"memory_bytes": 4864 * MIB}, "MIG slice"),
    ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", {}, "MIG slice"),
    ("NVIDIA A100 80GB PCIe MIG 1c.3g.40gb", {}, "MIG slice"),
    ("GRID T4-8Q", {"memory_bytes": 8192 * MIB}, "virtual GPU"),
    ("GRID T4-1Q", {"pci_id": "10de:1eb8"}, "virtual GPU"),
    ("NVIDIA A16-4Q", {"pci_id": "10de:25b6"}, "virtual GPU"),
    ("GRID V100D-32C", {}, "virtual GPU"),
    ("NVIDIA A40-48A", {}, "virtual GPU"),
    ("AMD Radeon Pro V620 MxGPU", {}, "virtual GPU"),
    # what names alone do not say
    (NV + "3060", {}, "2 records fit"),
    (NV + "4060 Ti", {}, "they differ in memory"),
    (NV + "4070", {"memory_bytes": 12282 * MIB}, "memory clock"),
    (NV + "2070", {"memory_bytes": 8192 * MIB}, "form"),
    ("Apple M3 Max", {}, "they differ in"),
    ("Apple M2", {"memory_bytes": 16 * GIB}, "compute units"),
    ("Orin (nvgpu)", {}, "records fit"),
    ("NVIDIA A2", {"pci_id": "10de:2684"}, "different records"),
    (NV + "4090 Laptop GPU", {"pci_id": "10de:2684"}, "different records"),
    # hardware that the record does not describe
    (NV + "4090", {"memory_bytes": 48 * GIB}, "48 GiB of memory"),
    (NV + "3080", {"memory_bytes": 20 * GIB}, "20 GiB of memory"),
    (NV + "2080 Ti", {"memory_bytes": 22 * GIB}, "22 GiB of memory"),
    (NV + "4090", {"compute_units": 114}, "114 compute units"),
    ("Apple M4 Max", {"compute_units": 36}, "36 compute units"),
    # neighbours in name, which no record lists
    (NV + "2080 with Max-Q Design", {}, "no record"),
    (NV + "2070 with Max-Q Design", {"pci_id": "10de:1f10"}, "another variant"),
    (NV + "4095", {}, "no record"),
    ("NVIDIA Graphics Device", {}, "no record"),
    ("NVIDIA RTX A5500 Laptop GPU", {}, "no record"),
    ("NVIDIA H100", {}, "no record"),
    ("H100 96GB", {}, "no record"),
    ("NVIDIA CMP 170HX", {}, "no record"),
    ("Microsoft Basic Render Driver", {}, "no record"),
    ("Microsoft Remote Display Adapter", {}, "no record"),
    ("llvmpipe (LLVM 17.0.6, 256 bits)", {}, "no record"),
    ("Apple M9", {}, "no record"),
    ("AMD Radeon Graphics", {}, "no record"),
    ("AMD Radeon Graphics", {"pci_id": "1002:744c"}, "no record"),
    ("AMD Radeon Graphics", {"pci_id": "1002:744c", "revision": "01"}, "no record"),
    ("Intel(R) UHD Graphics", {}, "no record"),
    ("Intel(R) Arc(TM) Graphics", {}, "4 records fit"),
    ("NVIDIA L20X", {"memory_bytes": 143771 * MIB}, "no record"),
    ("Virtio GPU", {"pci_id": "1af4:1050"}, "no record"),
    ("", {}, "go by"),
)


@pytest.fixture(scope="module")
def records(repository: Path) -> Mapping[str, Accelerator]:
    found = {}
    for file in sorted((repository / "catalogs" / "accelerators").glob("*.toml")):
        for raw in tomllib.loads(file.read_text("utf-8"))["accelerator"]:
            found[raw["id"]] = Accelerator.model_validate(raw)
    return found


@pytest.fixture(scope="module")
def lookup(records: Mapping[str, Accelerator]) -> Identify:
    by_id: defaultdict[str, list[str]] = defaultdict(list)
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for record in records.values():
        for pci_id in record.pci_ids:
            by_id[pci_id].append(record.id)
        for name in {record.id, record.name, *record.aliases, *record.os_names}:
            by_name[normalise_name(name)].append(record.id)

    def run(name: str | None = None, **readings: Any) -> Identity:
        return identify(
            DeviceReading(name=name, **readings),
            by_pci_id=lambda pci_id: by_id.get(pci_id, ()),
            by_name=lambda text: by_name.get(normalise_name(text), ()),
            get=records.__getitem__,
        )

    return run


@pytest.mark.parametrize(("name", "readings", "expected"), KNOWN)
def test_known(lookup: Identify, name: str, readings: dict[str, Any], expected: str) -> None:
    found = lookup(name, **readings)
    assert found.record_id == expected, found.reason
    assert found.matched_by is not None
    assert expected in found.candidates


@pytest.mark.parametrize(("name", "readings", "why"), REFUSED)
def test_refused_with_the_reason(lookup: Identify, name: str, readings: dict[str, Any], why: str) -> None:
    found = lookup(name, **readings)
    assert found.record_id is None
    assert found.matched_by is None
    assert why in found.reason


def test_every_os_name_leads_to_its_record(records: Mapping[str, Accelerator], lookup: Identify) -> None:
    for record in records.values():
        for name in record.os_names:
            found = lookup(name)
            assert record.id in found.candidates, (record.id, name, found)
            if found.record_id is not None:
                assert found.record_id == record.id
            else:
                assert set(found.candidates) - {record.id} <= set(record.ambiguous_with) | {
                    other.id for other in records.values() if name in other.os_names
                }


def test_full_readings_decide(records: Mapping[str, Accelerator], lookup: Identify) -> None:
    """With everything that a driver can say, a record is found as itself or not at all."""
    found_as_itself = 0
    for record in records.values():
        pci_id, _, revision = (record.pci_ids or ("",))[0].partition(":")[2].partition(":")
        for name in record.os_names:
            found = lookup(
                name,
                vendor=record.vendor,
                pci_id=f"{record.pci_ids[0][:4]}:{pci_id}" if pci_id else None,
                revision=revision or None,
                memory_bytes=int(0.95 * record.unified_memory_options[-1])
                if record.unified_memory_options
                else record.memory or record.memory_marketed,
                memory_clock_hz=record.memory_clock,
                compute_units=record.compute_units,
                form_hint=record.form,
            )
            assert found.record_id in (record.id, None), (record.id, name, found)
            found_as_itself += found.record_id == record.id
    assert found_as_itself >= 0.97 * sum(len(record.os_names) for record in records.values())


def test_parts_of_a_name_never_match(records: Mapping[str, Accelerator], lookup: Identify) -> None:
    names = {
        name
        for record in records.values()
        for name in (record.id, record.name, *record.aliases, *record.os_names)
    }
    listed = {_bare(name) for name in names}
    tried = 0
    for name in sorted(names):
        for other in (
            f"{name} X",
            f"{name} Laptop",
            f"{name} with Max-Q Design",
            f"My {name}",
            name[:-1],
            name[1:],
        ):
            if _bare(other) not in listed:
                assert lookup(other).record_id is None, (name, other)
                tried += 1
    assert tried > 3000


def _bare(name: str) -> str:
    plain = normalise_name(re.sub(r"\((?:R|TM)\)", " ", name))
    return plain.removeprefix("nvidia-").removeprefix("amd-")


def test_vendor_excludes(lookup: Identify) -> None:
    assert lookup("NVIDIA GeForce RTX 4090", vendor="amd").record_id is None
    assert lookup("NVIDIA GeForce RTX 4090", vendor="NVIDIA").record_id == "nvidia-geforce-rtx-4090"


def test_what_decided_is_said(lookup: Identify) -> None:
    found = lookup("NVIDIA GeForce RTX 3060", memory_bytes=12 * GIB)
    assert found.decided_by == ("memory",)
    assert found.candidates == ("nvidia-geforce-rtx-3060-12gb", "nvidia-geforce-rtx-3060-8gb")
    assert "memory" in found.reason


def test_ways_of_matching(lookup: Identify) -> None:
    assert lookup(pci_id="10de:2684").matched_by == "pci-id"
    assert lookup("NVIDIA GeForce RTX 4090").matched_by == "name"
    assert lookup("nvidia_geforce_rtx_4090").matched_by == "normalised-name"


def test_ecc_and_reserved_memory_stay_the_same_card(lookup: Identify) -> None:
    for reported in (24564, 24576, 23034):
        assert lookup("NVIDIA L4", memory_bytes=reported * MIB).record_id == "nvidia-l4"
    assert lookup("NVIDIA L4", memory_bytes=20 * GIB).record_id is None


def test_through_the_catalog() -> None:
    catalog = load_catalog()
    found = identify_accelerator(catalog, name="NVIDIA GeForce RTX 4090", pci_id="10de:2684")
    assert (found.record_id, found.matched_by) == ("nvidia-geforce-rtx-4090", "pci-id")
    assert identify_accelerator(catalog, name="GRID T4-8Q").record_id is None
