"""The hardware catalog against itself and against figures read from vendor documents a second time."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from willitrun.catalog.names import normalise_name
from willitrun.records.accelerators import Accelerator, HostPlatform
from willitrun.records.interconnects import Interconnect

BANDWIDTH_TOLERANCE = 0.02
MEMORY_TOLERANCE = 0.07
TENSOR_PEAKS = ("tf32_tensor", "fp16_tensor", "fp16_tensor_fp16_accumulate", "bf16_tensor", "int8", "fp8_tensor",
                "fp4_tensor")  # fmt: skip
TERA = 10**12
GIGA = 10**9

# id, memory bandwidth [GB/s], dense FP16 tensor rate with FP32 accumulation [TFLOP/s]: the vendor's figures.
POPULAR: tuple[tuple[str, float, float | None], ...] = (
    ("nvidia-geforce-rtx-3060-12gb", 360, 25.5),
    ("nvidia-geforce-rtx-3060-ti", 448, 32.4),
    ("nvidia-geforce-rtx-3070", 448, 40.6),
    ("nvidia-geforce-rtx-3070-ti", 608, 43.5),
    ("nvidia-geforce-rtx-3080-10gb", 760, 59.5),
    ("nvidia-geforce-rtx-3080-12gb", 912, 61.3),
    ("nvidia-geforce-rtx-3080-ti", 912, 68.2),
    ("nvidia-geforce-rtx-3090", 936, 71),
    ("nvidia-geforce-rtx-3090-ti", 1008, 80),
    ("nvidia-geforce-rtx-4060", 272, 30.2),
    ("nvidia-geforce-rtx-4060-ti-8gb", 288, 44.1),
    ("nvidia-geforce-rtx-4060-ti-16gb", 288, 44.1),
    ("nvidia-geforce-rtx-4070", 504, 58.3),
    ("nvidia-geforce-rtx-4070-super", 504, 70.9),
    ("nvidia-geforce-rtx-4070-ti", 504, 80.2),
    ("nvidia-geforce-rtx-4070-ti-super", 672, 88.2),
    ("nvidia-geforce-rtx-4080", 717, 97.5),
    ("nvidia-geforce-rtx-4080-super", 736, 104.4),
    ("nvidia-geforce-rtx-4090", 1008, 165.2),
    ("nvidia-geforce-rtx-5060", 448, 38.4),
    ("nvidia-geforce-rtx-5060-ti-16gb", 448, 47.4),
    ("nvidia-geforce-rtx-5070", 672, 61.7),
    ("nvidia-geforce-rtx-5070-ti", 896, 87.9),
    ("nvidia-geforce-rtx-5080", 960, 112.6),
    ("nvidia-geforce-rtx-5090", 1792, 209.5),
    ("nvidia-tesla-t4", 320, 65),
    ("nvidia-tesla-v100-sxm2-32gb", 900, 125),
    ("nvidia-a100-sxm4-40gb", 1555, 312),
    ("nvidia-a100-sxm4-80gb", 2039, 312),
    ("nvidia-a100-pcie-80gb", 1935, 312),
    ("nvidia-h100-sxm5-80gb", 3350, 989.4),
    ("nvidia-h100-pcie-80gb", 2000, 756),
    ("nvidia-h200-sxm-141gb", 4800, 989.4),
    ("nvidia-l4", 300, 121),
    ("nvidia-l40s", 864, 362),
    ("nvidia-a10", 600, 125),
    ("nvidia-a10g", 600, 70),
    ("nvidia-b200-sxm-180gb", 7700, 2250),
    ("nvidia-gb10-dgx-spark", 273, None),
    ("nvidia-jetson-agx-orin-64gb", 204.8, None),
    ("nvidia-jetson-orin-nano-super-8gb", 102.4, None),
    ("amd-instinct-mi250x", 3276.8, 383),
    ("amd-instinct-mi300x", 5300, 1307.4),
    ("amd-instinct-mi325x", 6000, 1307.4),
    ("amd-instinct-mi355x", 8000, 2516.6),
    ("amd-radeon-rx-7900-xtx", 960, 122.8),
    ("amd-radeon-rx-9070-xt", 640, 195),
    ("amd-radeon-8060s", 256, None),
    ("intel-arc-b580", 456, None),
    ("intel-arc-a770-16gb", 560, None),
    *((f"apple-m1-{gpus}gpu", 68.25, None) for gpus in (7, 8)),
    *((f"apple-m1-pro-{gpus}gpu", 200, None) for gpus in (14, 16)),
    *((f"apple-m1-max-{gpus}gpu", 400, None) for gpus in (24, 32)),
    *((f"apple-m1-ultra-{gpus}gpu", 800, None) for gpus in (48, 64)),
    *((f"apple-m2-{gpus}gpu", 100, None) for gpus in (8, 10)),
    *((f"apple-m2-pro-{gpus}gpu", 200, None) for gpus in (16, 19)),
    *((f"apple-m2-max-{gpus}gpu", 400, None) for gpus in (30, 38)),
    *((f"apple-m2-ultra-{gpus}gpu", 800, None) for gpus in (60, 76)),
    *((f"apple-m3-{gpus}gpu", 100, None) for gpus in (8, 10)),
    *((f"apple-m3-pro-{gpus}gpu", 150, None) for gpus in (14, 18)),
    ("apple-m3-max-30gpu", 300, None),
    ("apple-m3-max-40gpu", 400, None),
    *((f"apple-m3-ultra-{gpus}gpu", 819, None) for gpus in (60, 80)),
    *((f"apple-m4-{gpus}gpu", 120, None) for gpus in (8, 10)),
    *((f"apple-m4-pro-{gpus}gpu", 273, None) for gpus in (16, 20)),
    ("apple-m4-max-32gpu", 410, None),
    ("apple-m4-max-40gpu", 546, None),
)  # fmt: skip

Raw = Mapping[str, Any]


def _rows(repository: Path, folder: str, kind: str) -> Iterator[Raw]:
    root = repository / "catalogs" / folder
    for file in sorted(root.glob("*.toml")) if root.is_dir() else [root]:
        yield from tomllib.loads(file.read_text("utf-8"))[kind]


@pytest.fixture(scope="module")
def raw(repository: Path) -> list[Raw]:
    return list(_rows(repository, "accelerators", "accelerator"))


@pytest.fixture(scope="module")
def records(raw: list[Raw]) -> Mapping[str, Accelerator]:
    return {row["id"]: Accelerator.model_validate(row) for row in raw}


@pytest.fixture(scope="module")
def hosts(repository: Path) -> list[HostPlatform]:
    return [HostPlatform.model_validate(row) for row in _rows(repository, "hosts", "host")]


@pytest.fixture(scope="module")
def links(repository: Path) -> list[Interconnect]:
    return [
        Interconnect.model_validate(row) for row in _rows(repository, "interconnects.toml", "interconnect")
    ]


@pytest.fixture(scope="module")
def sources(repository: Path) -> Mapping[str, Raw]:
    return {row["id"]: row for row in _rows(repository, "sources-hardware.toml", "source")}


@pytest.mark.parametrize(("identifier", "bandwidth", "tensor"), POPULAR)
def test_popular_devices_have_the_vendor_figures(
    records: Mapping[str, Accelerator], identifier: str, bandwidth: float, tensor: float | None
) -> None:
    record = records[identifier]
    assert record.memory_bandwidth == pytest.approx(bandwidth * GIGA, rel=0.02)
    if tensor is not None:
        assert record.peaks.fp16_tensor == pytest.approx(tensor * TERA, rel=0.01)


def test_bandwidth_is_bus_times_data_rate(records: Mapping[str, Accelerator]) -> None:
    checked = 0
    for record in records.values():
        if record.memory_bandwidth and record.memory_bus_width_bits and record.memory_data_rate:
            expected = record.memory_bus_width_bits / 8 * record.memory_data_rate
            assert record.memory_bandwidth == pytest.approx(expected, rel=BANDWIDTH_TOLERANCE), record.id
            checked += 1
    assert checked >= 250


def test_host_bandwidth_is_channels_times_data_rate(hosts: list[HostPlatform]) -> None:
    for host in hosts:
        if host.memory_bandwidth and host.memory_channels and host.memory_data_rate:
            expected = 8 * host.memory_channels * host.memory_data_rate
            assert host.memory_bandwidth == pytest.approx(expected, rel=BANDWIDTH_TOLERANCE), host.id


def test_peak_of_a_processor_is_what_its_cores_sustain(hosts: list[HostPlatform]) -> None:
    checked = 0
    for host in hosts:
        parts = (host.fp32_peak, host.cores, host.fp32_flop_per_cycle, host.base_clock)
        if any(part is None for part in parts) or host.efficiency_cores:
            continue
        peak, cores, per_cycle, clock = (part or 0 for part in parts)
        assert peak == pytest.approx(cores * per_cycle * clock, rel=0.02), host.id
        checked += 1
    assert checked >= 30


def test_processors_of_the_vision_measurements_are_described(hosts: list[HostPlatform]) -> None:
    by_id = {host.id: host for host in hosts}
    desktop, laptop = by_id["intel-core-i9-10940x"], by_id["intel-core-i7-12700h"]
    assert (desktop.cores, desktop.base_clock, desktop.fp32_flop_per_cycle) == (14, 3.3e9, 64)
    assert desktop.memory_bandwidth == pytest.approx(93.9e9)
    assert (laptop.cores, laptop.efficiency_cores, laptop.boost_clock) == (14, 8, 4.7e9)
    assert laptop.base_clock is None  # the maker's export states none
    assert laptop.fp32_peak is None


def test_memory_clock_is_as_nvml_counts_it(records: Mapping[str, Accelerator]) -> None:
    for record in records.values():
        if record.vendor == "nvidia" and record.memory_clock and record.memory_data_rate:
            assert record.memory_data_rate == pytest.approx(2 * record.memory_clock, rel=0.01), record.id


def test_precision_ratios(records: Mapping[str, Accelerator]) -> None:
    for record in records.values():
        fp16 = record.peaks.fp16_tensor
        if fp16 is None:
            continue
        announced = "announced part" in record.flags
        allowed: dict[str, tuple[float, ...]] = {
            "fp32": (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2),
            "bf16_tensor": (0.5,) if record.id == "amd-instinct-mi100" else (1,),
            "tf32_tensor": (1,) if record.vendor == "amazon" else (0.5,),
            "fp16_tensor_fp16_accumulate": (2,),
            # Blackwell Ultra gave most of its INT8 units away.
            "int8": (1, 2, 4) if record.architecture != "Blackwell Ultra" else (1 / 15,),
            "fp8_tensor": (1, 2),
            "fp4_tensor": (4, 8) if record.architecture != "Blackwell Ultra" else (6,),
        }
        for name, ratios in allowed.items():
            value = getattr(record.peaks, name)
            if value is None or (announced and name != "bf16_tensor"):
                continue
            if name == "fp32" and record.id.startswith("nvidia-geforce-rtx-5090-d"):
                continue  # only the tensor rates are capped
            slack = 0.3 if name == "fp32" else 0.06
            assert any(value / fp16 == pytest.approx(ratio, rel=slack) for ratio in ratios), (record.id, name)


def test_geforce_halves_its_rate_with_fp32_accumulation(records: Mapping[str, Accelerator]) -> None:
    for record in records.values():
        if record.id.startswith("nvidia-geforce-rtx-") and record.peaks.fp16_tensor:
            assert record.peaks.fp16_tensor_fp16_accumulate == pytest.approx(
                2 * record.peaks.fp16_tensor, rel=0.01
            )
        elif record.vendor == "nvidia" and record.form == "server-sxm":
            assert record.peaks.fp16_tensor_fp16_accumulate is None, record.id


def test_capability_decides_which_precisions_have_units(records: Mapping[str, Accelerator]) -> None:
    for record in records.values():
        if record.compute_capability is None:
            continue
        major, minor = map(int, record.compute_capability.split("."))
        peaks = record.peaks
        assert peaks.fp16_tensor is None or major >= 7, record.id
        assert peaks.bf16_tensor is None or major >= 8, record.id
        assert peaks.tf32_tensor is None or major >= 8, record.id
        assert peaks.fp8_tensor is None or (major, minor) >= (8, 9), record.id
        assert peaks.fp4_tensor is None or major >= 10, record.id
        assert record.vendor == "nvidia", record.id


def test_sizes_of_graphics_memory_are_binary(raw: list[Raw]) -> None:
    for row in raw:
        if row["kind"] in ("gpu", "apu", "igpu", "soc"):
            for field in ("memory", "memory_marketed"):
                assert row.get(field, {}).get("unit") in (None, "GiB", "MiB", "B"), (row["id"], field)
            assert all(size["unit"] == "GiB" for size in row.get("unified_memory_options", ())), row["id"]


def test_driver_memory_is_the_marketed_memory(records: Mapping[str, Accelerator]) -> None:
    for record in records.values():
        if record.memory and record.memory_marketed:
            assert record.memory == pytest.approx(record.memory_marketed, rel=MEMORY_TOLERANCE), record.id
        if record.unified_memory:
            assert record.memory is None, record.id


def test_discrete_devices_say_what_an_estimate_needs(records: Mapping[str, Accelerator]) -> None:
    for record in records.values():
        if record.kind == "gpu":
            assert record.memory, record.id
            assert record.memory_marketed, record.id
            assert record.memory_bandwidth or record.flags, record.id
            assert record.peaks.fp32 or record.peaks.fp16_tensor or record.peaks.fp16 or record.flags, (
                record.id
            )


def test_ids_and_aliases_are_unique(records: Mapping[str, Accelerator], raw: list[Raw]) -> None:
    assert len(records) == len(raw) >= 350
    names: dict[str, str] = {normalise_name(identifier): identifier for identifier in records}
    for record in records.values():
        for alias in record.aliases:
            assert names.setdefault(normalise_name(alias), record.id) == record.id, alias


def test_shared_pci_ids_and_names_are_declared(records: Mapping[str, Accelerator]) -> None:
    owners: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records.values():
        for pci_id in record.pci_ids:
            assert pci_id == pci_id.lower()
            owners["pci", pci_id].add(record.id)
        for name in record.os_names:
            owners["name", name].add(record.id)
    for spelling, ids in owners.items():
        for identifier in ids:
            others = ids - {identifier}
            missing = others - set(records[identifier].ambiguous_with)
            assert not missing, (spelling, identifier, missing)


def test_ambiguity_is_mutual_and_can_be_resolved(records: Mapping[str, Accelerator]) -> None:
    for record in records.values():
        for other_id in record.ambiguous_with:
            other = records[other_id]
            assert record.id in other.ambiguous_with, (record.id, other_id)
            # The A2 and one GPU of the A16 share chip and PCI id; their names differ.
            told_at_once = not set(record.os_names) & set(other.os_names)
            told_at_once |= bool(record.pci_ids and other.pci_ids) and not set(record.pci_ids) & set(
                other.pci_ids
            )
            reasons = set(record.told_apart_by) & set(other.told_apart_by)
            both_8gb_orins = {record.id, other_id} == {
                "nvidia-jetson-orin-nano-super-8gb", "nvidia-jetson-orin-nx-8gb"
            }  # fmt: skip
            assert told_at_once or both_8gb_orins or any(_differ(record, other, by) for by in reasons), (
                record.id,
                other_id,
            )


def _differ(record: Accelerator, other: Accelerator, by: str) -> bool:
    if by == "memory":
        return (record.memory_marketed, record.unified_memory_options) != (
            other.memory_marketed,
            other.unified_memory_options,
        )
    if by == "form":
        return record.form != other.form
    if by == "revision":
        return set(record.pci_ids) != set(other.pci_ids)
    return getattr(record, by) != getattr(other, by)


def test_pcie_links_follow_the_line_rate(links: list[Interconnect]) -> None:
    encoding = {1: (2.5, 8 / 10), 2: (5, 8 / 10), 3: (8, 128 / 130), 4: (16, 128 / 130), 5: (32, 128 / 130),
                6: (64, 1)}  # fmt: skip
    seen = set()
    for link in links:
        if link.kind == "pcie":
            generation, lanes = (
                int(float(part.lstrip("x"))) for part in link.id.removeprefix("pcie-").split("-")
            )
            rate, share = encoding[generation]
            assert link.lanes == lanes
            assert link.bandwidth_per_direction == pytest.approx(rate * share * lanes / 8 * GIGA, rel=0.08), (
                link.id
            )
            seen.add((generation, lanes))
    assert {(generation, lanes) for generation in encoding for lanes in (1, 4, 8, 16)} <= seen


def test_links_of_every_kind(links: list[Interconnect]) -> None:
    kinds = {link.kind for link in links}
    assert kinds == {"pcie", "nvlink", "infinity-fabric", "c2c", "usb4", "thunderbolt", "ethernet", "oculink"}


def test_sources_are_not_shops_or_blogs(raw: list[Raw], sources: Mapping[str, Raw]) -> None:
    for row in raw:
        for citations in row["cite"].values():
            for citation in citations:
                source = sources[citation["source"]]
                assert source["kind"] in (
                    "vendor",
                    "encyclopedia",
                    "database",
                    "repository",
                    "paper",
                    "measurement",
                )
                if citation["basis"] == "vendor":
                    assert source["kind"] in ("vendor", "repository", "paper"), (row["id"], citation)
                if citation["basis"] == "derived":
                    assert citation["rule"], (row["id"], citation)


def test_prices_are_launch_prices_with_a_source(records: Mapping[str, Accelerator]) -> None:
    for record in records.values():
        if record.msrp is not None:
            cited = record.citations("msrp")
            assert any(one.source.startswith("wikipedia-") or one.basis == "vendor" for one in cited), (
                record.id
            )


def test_second_sources(raw: list[Raw], records: Mapping[str, Accelerator]) -> None:
    bandwidths = [len({one.source for one in record.citations("memory_bandwidth")}) for record in records.values()
                  if record.memory_bandwidth]  # fmt: skip
    tensor = [
        len({one["source"] for one in row["cite"].get(f"peaks.{name}", row["cite"].get("*", ()))})
        for row in raw
        if "fp16_tensor" in row.get("peaks", {})
        for name in TENSOR_PEAKS
        if name in row["peaks"]
    ]
    for what, counts, least in (("bandwidths", bandwidths, 0.6), ("tensor peaks", tensor, 0.4)):
        two = sum(count >= 2 for count in counts)
        print(f"{two} of {len(counts)} {what} ({two / len(counts):.1%}) have a second source")
        assert two >= least * len(counts)
