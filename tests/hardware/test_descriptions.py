"""Machines from what people say about them."""

from __future__ import annotations

from typing import Any

import pytest

from willitrun.catalog import load_catalog
from willitrun.errors import AmbiguousNameError, MissingDataError, UnitError, UnknownIdError, WillItRunError
from willitrun.estimators.host_compute import core_level, host_flop_per_s
from willitrun.hardware.budgets import metal_budget
from willitrun.hardware.descriptions import describe_machine
from willitrun.hardware.platforms import platform_of
from willitrun.hardware.processors import cores_of
from willitrun.hardware.queries import from_query, to_query
from willitrun.records.machines import Machine

GIB = 1 << 30


@pytest.mark.parametrize(
    "name", ["rtx-4090", "nvidia-geforce-rtx-4090", "NVIDIA GeForce RTX 4090", "RTX 4090", "GeForce RTX 4090"]
)
def test_a_card_by_any_of_its_names(name: str) -> None:
    machine = describe_machine(name)
    [device] = machine.accelerators
    assert device.accelerator.id == "nvidia-geforce-rtx-4090"
    assert device.memory_total_bytes == device.accelerator.memory
    assert device.identity == "catalog-id"
    assert machine.source == "described"


def test_what_nobody_said_is_assumed_and_stated() -> None:
    machine = describe_machine("rtx-4090")
    host = machine.host
    assert host.ram_total_bytes == 32 * GIB
    assert host.memory_bandwidth_bytes_per_s == pytest.approx(89.6e9)
    assert (host.cores, host.system, host.pcie_generation) == (8, "linux", 4)
    text = " | ".join(machine.assumptions)
    for word in ("32 GiB of RAM", "DDR5-5600", "8 CPU cores", "PCIe 4.0 x16", "Linux"):
        assert word in text


def test_what_was_said_is_not_assumed() -> None:
    machine = describe_machine(
        {
            "name": "my box",
            "accelerators": [
                {"id": "rtx-4090", "power_limit": "300 W", "memory_free": "20 GiB", "pcie": "4.0 x8"},
                "rtx-3060:12 GiB",
            ],
            "host": {
                "ram": "64 GiB",
                "cpu": "Ryzen 9 7950X",
                "os": "Windows 11",
                "memory": "ddr5-6000-dual",
                "cores": 16,
            },
        }
    )
    first, second = machine.accelerators
    assert machine.name == "my box"
    assert (first.power_limit_w, first.memory_free_bytes, first.pcie_lanes) == (300.0, 20 * GIB, 8)
    assert second.accelerator.id == "nvidia-geforce-rtx-3060-12gb"
    assert machine.host.memory_bandwidth_bytes_per_s == pytest.approx(96e9)
    assert (machine.host.system, machine.host.cpu) == ("windows", "AMD Ryzen 9 7950X")
    assert machine.assumptions == ()  # the record of the processor says its PCIe generation


def test_processor_by_the_name_its_firmware_reports() -> None:
    host = describe_machine({"host": {"cpu": "Intel(R) Core(TM) i9-10940X CPU @ 3.30GHz"}}).host
    assert (host.cpu, host.cores, host.memory_channels) == ("Intel Core i9-10940X", 14, 4)
    assert host.memory_bandwidth_bytes_per_s == pytest.approx(93.9e9)
    unknown = describe_machine({"host": {"cpu": "Intel(R) Core(TM) i9-99999X CPU @ 3.30GHz"}}).host
    assert unknown.cpu == "Intel(R) Core(TM) i9-99999X CPU @ 3.30GHz"
    assert unknown.fp32_flop_per_s is None


def test_counts_and_lists() -> None:
    for spec in (["rtx-3090"] * 2, "2x rtx-3090", {"accelerators": [{"id": "rtx-3090", "count": 2}]}):
        assert len(describe_machine(spec).accelerators) == 2


def test_links_by_kind_and_by_figure() -> None:
    [link] = describe_machine({"accelerators": ["a100-sxm4-80gb"] * 4, "links": "nvlink"}).links
    assert link.bandwidth_bytes_per_s == pytest.approx(300e9)
    spec = {
        "accelerators": ["rtx-4090"] * 2,
        "links": [{"kind": "pcie", "devices": [0, 1], "bandwidth": "25 GB/s"}],
    }
    assert describe_machine(spec).links[0].devices == (0, 1)
    with pytest.raises(MissingDataError):
        describe_machine({"accelerators": ["rtx-4090"] * 2, "links": "nvlink"})


def test_unified_memory_brings_the_hosts() -> None:
    machine = describe_machine("m3-max-40gpu:64 GiB")
    [device] = machine.accelerators
    assert device.shares_host_memory
    assert machine.host.ram_total_bytes == device.memory_total_bytes == 64 * GIB
    assert device.unified_budget_bytes == metal_budget(64 * GIB)[0]
    assert machine.host.system == "macos"
    assert machine.host.memory_bandwidth_bytes_per_s == pytest.approx(400e9)
    assert any("estimated" in text for text in machine.assumptions)
    unsaid = describe_machine("m3-max-40gpu")
    assert any("sold with" in text for text in unsaid.assumptions)


def test_a_host_without_a_gpu() -> None:
    assert describe_machine("ddr5-5600-dual").accelerators == ()
    board = describe_machine("raspberry-pi-5:8 GiB")
    assert board.accelerators == ()
    assert board.host.ram_total_bytes == 8 * GIB
    assert board.host.memory_bandwidth_bytes_per_s == pytest.approx(17.1e9)


def test_a_device_given_in_full() -> None:
    spec = {
        "name": "my card",
        "memory": "24 GiB",
        "memory_bandwidth": "900 GB/s",
        "peaks": {"fp16_tensor": "150 TFLOP/s"},
    }
    [device] = describe_machine({"accelerators": [spec]}).accelerators
    assert device.identity == "given"
    assert device.accelerator.memory_bandwidth == pytest.approx(900e9)
    assert device.accelerator.peaks.fp16_tensor == pytest.approx(150e12)
    assert device.accelerator.citations("memory_bandwidth")[0].source == "given-by-caller"


def test_an_override_is_cited_as_given() -> None:
    [device] = describe_machine([{"id": "rtx-4090", "memory_bandwidth": "1.1 TB/s"}]).accelerators
    assert device.accelerator.memory_bandwidth == pytest.approx(1.1e12)
    assert device.accelerator.citations("memory_bandwidth")[0].source == "given-by-caller"
    assert device.accelerator.citations("memory")[0].source != "given-by-caller"


def test_a_machine_passes_through() -> None:
    machine = describe_machine("rtx-4090")
    assert describe_machine(machine) is machine


@pytest.mark.parametrize("text", ["rtx-4091", "geforce 9999", "", "rtx", "ddr5-5601-dual"])
def test_an_unknown_name_is_refused(text: str) -> None:
    with pytest.raises(UnknownIdError):
        describe_machine(text)


def test_a_misspelt_name_gets_suggestions() -> None:
    with pytest.raises(UnknownIdError) as caught:
        describe_machine("rtx-4091")
    assert "rtx-4090" in caught.value.suggestions


def test_an_ambiguous_name_lists_candidates() -> None:
    with pytest.raises(AmbiguousNameError) as caught:
        describe_machine("rtx-3060")
    assert set(caught.value.candidates) == {"nvidia-geforce-rtx-3060-12gb", "nvidia-geforce-rtx-3060-8gb"}


@pytest.mark.parametrize(
    ("spec", "error", "word"),
    [
        ({"gpus": ["rtx-4090"]}, UnknownIdError, "gpus"),
        ({"accelerators": [{"id": "rtx-4090", "vram": "24 GiB"}]}, UnknownIdError, "vram"),
        ({"host": {"rma": "64 GiB"}}, UnknownIdError, "rma"),
        ({"host": {"ram": "64"}}, UnitError, "unit"),
        ({"host": {"ram": 64}}, UnitError, "64 B"),
        ({"host": {"os": "plan9"}}, UnknownIdError, "plan9"),
        ({"host": {"cores": 0}}, WillItRunError, "cores"),
        ({"host": {"memory": "ddr9"}}, UnknownIdError, "ddr9"),
        ({"accelerators": [{"memory": "24 GiB"}]}, WillItRunError, "id"),
        ({"accelerators": [{"id": "rtx-4090", "pcie": "fast"}]}, WillItRunError, "fast"),
        ({"accelerators": [{"id": "rtx-4090", "count": 0}]}, WillItRunError, "count"),
        ({"accelerators": [{"name": "x", "peaks": {"fp17": "1 TFLOP/s"}}]}, UnknownIdError, "fp17"),
        ({"accelerators": [{"name": "x", "memory_bus_width_bits": -5}]}, WillItRunError, "memory_bus_width_bits"),
        ({"accelerators": ["rtx-4090"], "links": "string"}, UnknownIdError, "string"),
        ({"accelerators": ["rtx-4090"], "links": [{"kind": "pcie", "devices": [0, 7]}]}, WillItRunError, "7"),
        ("rtx-4090:12 GiB", WillItRunError, "24 GiB"),
        (5, WillItRunError, "int"),
        (["m3-max-40gpu:64 GiB", "m3-max-40gpu:128 GiB"], WillItRunError, "different"),
    ],
)  # fmt: skip
def test_bad_input_names_the_key(spec: object, error: type[Exception], word: str) -> None:
    with pytest.raises(error) as caught:
        describe_machine(spec)
    assert word in str(caught.value)


SHARED: tuple[Any, ...] = (
    "rtx-4090",
    ["rtx-3090", "rtx-3090"],
    "m3-max-40gpu:64 GiB",
    "strix-halo:128 GiB",
    "ddr5-5600-dual",
    {"accelerators": [{"id": "a100-sxm4-80gb", "count": 2, "power_limit": "300 W"}], "links": "nvlink",
     "host": {"cpu": "AMD EPYC 7763", "ram": "500 GiB", "cores": 64}},
)  # fmt: skip


@pytest.mark.parametrize("spec", SHARED, ids=str)
def test_a_query_carries_a_machine(spec: Any) -> None:
    machine = describe_machine(spec)
    again = Machine.from_query(machine.to_query())
    assert again.accelerators == machine.accelerators
    assert again.host.model_copy(update={"cpu": machine.host.cpu}) == machine.host
    assert again.links == machine.links


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "gpu=rtx-4090&link=ethernet~x~1 GB/s",
        "gpu=rtx-4090&link=pcie~0~1 GB/s~2",
        "gpu=rtx-4090&vram=5",
        "gpu=rtx-4091",
        "gpu=rtx-4090~speed+5",
        "=" * 5000,
    ],
)
def test_a_bad_query_is_refused(text: str) -> None:
    with pytest.raises(WillItRunError):
        from_query(text)


def test_a_device_without_a_record_is_not_shareable() -> None:
    machine = describe_machine([{"name": "x", "memory": "8 GiB"}])
    with pytest.raises(WillItRunError) as caught:
        to_query(machine)
    assert caught.value.code == "not-shareable"


@pytest.mark.parametrize(
    ("cpu", "platform"),
    [
        ("AMD EPYC 7763 64-Core Processor", "epyc-7002-7003"),
        ("AMD EPYC 7B12", None),
        ("AMD EPYC 9654 96-Core Processor", "epyc-9004"),
        ("AMD EPYC 9755 128-Core Processor", "epyc-9005"),
        ("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz", "xeon-sp-2"),
        ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", "xeon-sp-3"),
        ("Intel(R) Xeon(R) Platinum 8380H CPU @ 2.90GHz", None),
        ("Intel(R) Xeon(R) Platinum 8480C", "xeon-sp-4"),
        ("AMD Ryzen Threadripper PRO 7995WX 96-Cores", "threadripper-pro-7000"),
        ("AMD Ryzen 9 5950X 16-Core Processor", "ddr4-3200-dual"),
        ("AMD Ryzen 9 7950X 16-Core Processor", "ddr5-5600-dual"),
        ("AMD Ryzen 7 5800U with Radeon Graphics", "ddr4-3200-dual"),
        ("AMD Ryzen 7 7730U with Radeon Graphics", "ddr4-3200-dual"),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics (znver4)", "ddr5-5600-dual"),
        ("AMD Ryzen 9 6900HX with Radeon Graphics", "ddr5-4800-dual"),
        ("AMD FX(tm)-8320 Eight-Core Processor", "ddr3-1866-dual"),
        ("Intel(R) Core(TM) i9-10900K CPU @ 3.70GHz", "ddr4-2933-dual"),
        ("13th Gen Intel(R) Core(TM) i7-13700K", "ddr5-5600-dual"),
        ("13th Gen Intel(R) Core(TM) i5-1335U", "ddr5-5200-dual"),
        ("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz", "ddr4-2400-dual"),
        ("Intel(R) Core(TM) i3-8100 CPU @ 3.60GHz", "ddr4-2400-dual"),
        ("Intel(R) Core(TM) i5-8400 CPU @ 2.80GHz", "ddr4-2666-dual"),
        ("Intel(R) Core(TM) i5-10400F CPU @ 2.90GHz", "ddr4-2666-dual"),
        ("Intel(R) Core(TM) i5-10300H CPU @ 2.50GHz", "ddr4-2933-dual"),
        ("13th Gen Intel(R) Core(TM) i5-13400F", "ddr5-4800-dual"),
        ("13th Gen Intel(R) Core(TM) i5-13600K", "ddr5-5600-dual"),
        ("AMD Ryzen 5 1600 Six-Core Processor", "ddr4-2666-dual"),
        ("AMD Ryzen 5 3400G with Radeon Vega Graphics", "ddr4-2933-dual"),
        ("AMD Ryzen 3 3250U with Radeon Graphics", "ddr4-2400-dual"),
        ("Intel(R) Core(TM) i5-2500 CPU @ 3.30GHz", "ddr3-1333-dual"),
        ("Intel(R) Core(TM)2 Duo CPU     L9400  @ 1.86GHz", "core-2"),
        ("Intel Core2 Duo CPU     L9400  @ 1.86GHz", "core-2"),
        ("Intel(R) Xeon(R) CPU E5-2697 v2 @ 2.70GHz", "xeon-e5-v2"),
        ("Intel(R) Xeon(R) CPU E5-2680 0 @ 2.70GHz", "xeon-e5"),
        ("Intel(R) Xeon(R) CPU           X5660  @ 2.80GHz", "xeon-5600"),
        ("Intel(R) Xeon(R) w5-3425", "xeon-w-3400"),
        ("AMD EPYC 7551 32-Core Processor", "epyc-7001"),
        ("", None),
    ],
)
def test_the_platform_of_a_processor(cpu: str, platform: str | None) -> None:
    assert platform_of(cpu) == platform


@pytest.mark.parametrize(
    ("cpu", "cores"),
    [
        ("AMD Ryzen 9 5950X 16-Core Processor", 16),
        ("AMD FX(tm)-8320 Eight-Core Processor", 8),
        ("AMD Ryzen 5 4600G with Radeon Graphics", 6),
        ("AMD Ryzen 9 7945HX with Radeon Graphics", 16),
        ("Intel(R) Core(TM) i5-6200U CPU @ 2.30GHz", 2),
        ("Intel(R) Core(TM) i7-6700HQ CPU @ 2.60GHz", 4),
        ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", 6),
        ("Intel(R) Core(TM) i9-9900KF CPU @ 3.60GHz", 8),
        ("12th Gen Intel(R) Core(TM) i7-1260P", 12),
        ("13th Gen Intel(R) Core(TM) i9-13900HX", 24),
        ("Intel(R) Xeon(R) CPU E5-2697A v4 @ 2.60GHz", 16),
        ("Intel(R) Xeon(R) w5-3435X", 16),
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", None),
        ("AMD Ryzen 3 3250U with Radeon Graphics", 2),
        ("AMD Ryzen 7 3700U with Radeon Vega Mobile Gfx", 4),
        ("AMD Ryzen 5 7520U with Radeon Graphics", 4),
        ("Ryzen 9 5950X", 16),
        ("Intel(R) Core(TM)2 Duo CPU     L9400  @ 1.86GHz", 2),
        ("Intel(R) Core(TM) Ultra 7 268V", 8),
        ("Intel Core i5-9999Q", None),
        ("Apple M4 Max 12P+4E", 16),
        ("", None),
    ],
)
def test_the_cores_of_a_processor(cpu: str, cores: int | None) -> None:
    assert cores_of(cpu, load_catalog()) == cores


def test_an_apple_chip_by_name_reads_memory_as_its_record_says() -> None:
    host = describe_machine({"accelerators": [], "host": {"cpu": "Apple M4 Max 12P+4E"}}).host
    assert host.memory_bandwidth_bytes_per_s == pytest.approx(546e9, rel=0.01)
    assert host.cores == 16


def test_a_single_board_computer_has_its_processor() -> None:
    for name in ("Raspberry Pi 5 Model B Rev 1.0", "Pi 5 - 8GB"):
        host = describe_machine({"accelerators": [], "host": {"cpu": name}}).host
        assert host.cores == 4
        assert host.memory_bandwidth_bytes_per_s == pytest.approx(17.1e9)


def test_vectors_of_older_processors_are_narrower() -> None:
    rates = [
        host_flop_per_s(
            describe_machine({"accelerators": [], "host": {"cpu": cpu, "cores": 4}}).host, load_catalog()
        )
        for cpu in (
            "Intel(R) Xeon(R) CPU X5660 @ 2.80GHz",
            "Intel(R) Core(TM) i5-2500 CPU @ 3.30GHz",
            "Intel(R) Core(TM) i5-4570 CPU @ 3.20GHz",
        )
    ]
    assert rates[1] == 2 * rates[0]
    assert rates[2] == 2 * rates[1]


@pytest.mark.parametrize(
    ("cpu", "system", "level"),
    [
        ("Intel(R) Xeon(R) CPU X5660 @ 2.80GHz", "Linux", "cpu-scalar"),
        ("Intel(R) Core(TM) i5-2500 CPU @ 3.30GHz", "Linux", "cpu-avx"),
        ("Intel(R) Core(TM) i5-4570 CPU @ 3.20GHz", "Windows", "cpu-simd"),
        ("13th Gen Intel(R) Core(TM) i5-1335U", "Windows", "cpu-two-kinds"),
        ("13th Gen Intel(R) Core(TM) i5-1335U", "Linux", "cpu-simd"),
        ("Raspberry Pi 5 Model B Rev 1.0", "Linux", "cpu-simd"),
    ],
)
def test_what_kernels_find_in_the_cores(cpu: str, system: str, level: str) -> None:
    host = describe_machine({"accelerators": [], "host": {"cpu": cpu, "cores": 4, "os": system}}).host
    assert core_level(host, load_catalog()) == level


def test_metal_budget_grows_with_memory_and_stays_below_it() -> None:
    sizes = [8, 16, 24, 36, 48, 64, 96, 128, 192, 512]
    budgets = [metal_budget(size * GIB)[0] for size in sizes]
    assert budgets == sorted(budgets)
    assert all(budget < size * GIB for budget, size in zip(budgets, sizes, strict=True))
    assert metal_budget(128 * GIB)[0] == pytest.approx(107.52 * GIB)
    assert metal_budget(24 * GIB)[0] == pytest.approx(17.76 * GIB)
    assert metal_budget(64 * GIB, 60 * GIB)[0] == 60 * GIB


def test_the_machine_is_plain_data() -> None:
    machine = describe_machine("rtx-4090")
    assert Machine.model_validate_json(machine.model_dump_json()) == machine


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("10de:2684", ["nvidia-geforce-rtx-4090"]),
        ("10DE:2684", ["nvidia-geforce-rtx-4090"]),
        ("rtx-3090 x2", ["nvidia-geforce-rtx-3090"] * 2),
        ("3 x rtx-3090", ["nvidia-geforce-rtx-3090"] * 3),
        ("cpu", []),
    ],
)
def test_short_forms(spec: str, names: list[str]) -> None:
    assert [device.accelerator.id for device in describe_machine(spec).accelerators] == names


def test_an_unknown_pci_id_is_refused() -> None:
    with pytest.raises(UnknownIdError):
        describe_machine("10de:ffff")


def test_a_machine_survives_its_capture() -> None:
    machine = describe_machine(["rtx-3090", "rtx-4090"])
    assert Machine.from_capture(machine.to_capture()).accelerators == machine.accelerators
