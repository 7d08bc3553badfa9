"""Devices derived from readings, held against the records of devices that are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun import describe_machine, load_catalog
from willitrun.hardware.assembly import with_host_bandwidth
from willitrun.hardware.derivation import bandwidth_from_clock, derive_accelerator, derive_slice, is_derived
from willitrun.hardware.findings import Sighting
from willitrun.hardware.nvidia import LANES_PER_SM
from willitrun.records.accelerators import Accelerator
from willitrun.records.machines import Host

CATALOG = load_catalog()
NVIDIA = [
    record
    for record in (CATALOG.accelerators[identifier] for identifier in CATALOG.accelerators)
    if record.vendor == "nvidia" and not record.unified_memory
]


def sighting(record: Accelerator) -> Sighting:
    return Sighting(
        vendor="nvidia",
        probe="nvml.device0",
        reported_name=record.os_names[0] if record.os_names else record.name,
        memory_total_bytes=record.memory,
        bus_width_bits=record.memory_bus_width_bits,
        memory_clock_hz=record.memory_clock,
        compute_clock_hz=record.boost_clock,
        compute_units=record.compute_units,
        compute_capability=record.compute_capability,
    )


def test_bandwidth_from_bus_and_clock_is_that_of_the_records() -> None:
    """bus / 8 x clock x 2 against every NVIDIA record that has all three figures."""
    off = {}
    known = 0
    for record in NVIDIA:
        if not (record.memory_bus_width_bits and record.memory_clock and record.memory_bandwidth):
            continue
        known += 1
        derived = bandwidth_from_clock(record.memory_bus_width_bits, record.memory_clock)
        if derived is None or abs(derived / record.memory_bandwidth - 1) > 0.05:
            off[record.id] = (derived, record.memory_bandwidth)
    assert known > 100
    assert not off


@pytest.mark.parametrize("peak", ["fp32", "fp16_tensor", "int8"])
def test_peaks_from_multiprocessors_are_those_of_the_records(peak: str) -> None:
    compared, off = 0, {}
    for record in NVIDIA:
        stated = getattr(record.peaks, peak)
        derived = getattr(derive_accelerator(sighting(record)).peaks, peak)
        if stated is None or derived is None:
            continue
        compared += 1
        if abs(derived / stated - 1) > 0.1:
            off[record.id] = round(derived / stated, 2)
    assert compared > 60
    # Data-centre variants that NVIDIA sells with half the tensor rate or another clock (A10G, L20, L40, NVL), and the
    # 5090 D: what a driver tells does not show it, which is why a derived record is only for devices without one.
    assert len(off) <= 0.08 * compared, off


def test_a_derived_record_says_so() -> None:
    record = derive_accelerator(sighting(CATALOG.accelerators["nvidia-geforce-rtx-4090"]))
    assert is_derived(record)
    assert record.flags
    for field in record.facts():
        assert record.citations(field)[0].basis == "derived"
    assert not is_derived(CATALOG.accelerators["nvidia-geforce-rtx-4090"])


def test_nothing_is_made_of_nothing() -> None:
    record = derive_accelerator(Sighting(vendor="nvidia", probe="nvml.device0"))
    assert record.memory is None
    assert record.memory_bandwidth is None
    assert all(value is None for value in record.peaks.model_dump().values())
    other = derive_accelerator(
        Sighting(vendor="amd", probe="amd.card0", bus_width_bits=256, memory_clock_hz=1e9)
    )
    # NVML's factor of two does not hold for other vendors' clocks.
    assert other.memory_bandwidth is None


def test_a_slice_has_its_share() -> None:
    whole = CATALOG.accelerators["nvidia-a100-sxm4-40gb"]
    seen = Sighting(
        vendor="nvidia",
        probe="nvml.device0.mig0",
        reported_name="NVIDIA A100-SXM4-40GB MIG 2g.10gb",
        memory_total_bytes=9856 << 20,
        compute_units=28,
        mig_parent_memory_bytes=whole.memory,
    )
    part = derive_slice(whole, seen)
    assert part.memory == 9856 << 20
    assert part.memory_bandwidth == pytest.approx((whole.memory_bandwidth or 0) / 4)
    assert part.peaks.fp16_tensor == pytest.approx((whole.peaks.fp16_tensor or 0) * 28 / 108)


@given(st.integers(32, 16384), st.floats(1e6, 1e11))
def test_bandwidth_is_plausible_or_none(bus: int, clock: float) -> None:
    found = bandwidth_from_clock(bus, clock)
    assert found is None or 0 < found <= 16384 / 8 * 40e9


def test_every_capability_with_lanes_is_known_to_the_records() -> None:
    known = {record.compute_capability for record in NVIDIA if record.compute_capability}
    newest = {capability for capability in known if float(capability) >= 6.0}
    assert newest <= set(LANES_PER_SM)


def test_few_cores_may_not_draw_the_bandwidth_of_their_platform() -> None:
    """No source tells what one core draws: it is said, where the platform is assumed and the cores are few."""

    def notes(cores: float) -> str:
        host = Host(cpu="AMD EPYC", cores=8, usable_cores=cores, ram_total_bytes=24 << 30)
        machine = describe_machine("rtx-4090").model_copy(update={"host": host, "assumptions": ()})
        return " ".join(with_host_bandwidth(machine, CATALOG, None).assumptions)

    assert "2 cores can draw is unknown" in notes(2.0)
    assert "taken for" in notes(8.0)
    assert "unknown" not in notes(8.0)
