"""Intervals of images per second by kind of device, the host's time at batch 1, and processors without a record."""

from __future__ import annotations

import pytest

from willitrun import Interval, Workload, describe_machine, estimate_speed, load_catalog
from willitrun.estimators.host_compute import host_flop_per_s


def rate(device: object, runtime: str = "pytorch", **fields: object) -> Interval:
    found = estimate_speed("resnet-50", device, Workload(**fields), runtime=runtime).images_per_s  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("precision", ["fp32", "amp-fp16"])
def test_batch_one_is_the_time_of_a_current_host(precision: str) -> None:
    """METHOD section 3: a direct measurement of about 300 images/s on this card, and a page that says 200."""
    found = rate("rtx-3060-12gb", batch_size=1, precision=precision)
    assert 200 in found
    assert 300 in found


def test_a_kind_of_few_devices_takes_the_interval_of_all() -> None:
    """Two boards don't say how wide boards spread, five cards of another vendor do."""

    def spread(device: str) -> float:
        found = rate(device, batch_size=64, precision="fp16")
        return found.high / found.low

    assert spread("jetson-agx-xavier-32gb") == pytest.approx(spread("l4"))
    assert spread("rx-7800-xt") > 1.2 * spread("l4")


@pytest.mark.parametrize("tier", ["near", "unseen-model", "unseen-device", "unseen-class"])
def test_intervals_hold_out_of_sample_as_often_as_they_say(tier: str) -> None:
    """METHOD section 3: 87 to 94 % in every tier of a hundred configurations and more."""
    intervals = load_catalog().calibrations["vision-speed"].intervals
    found = {
        name: row["coverage"]
        for name, row in intervals.items()
        if name.endswith(f"/{tier}") and row["n"] >= 100
    }
    assert len(found) >= 2
    assert not {name: inside for name, inside in found.items() if not 0.865 <= inside < 0.945}


def test_tiers_of_unseen_devices_are_as_wide_as_laboratories_differ() -> None:
    intervals = load_catalog().calibrations["vision-speed"].intervals
    for task in ("eager", "eager-launch"):
        far, near = intervals[f"{task}/unseen-device"], intervals["eager/near"]
        assert far["high"] / far["low"] > 1.3 * near["high"] / near["low"]
    processors = intervals["cpu/unseen-device"]
    assert processors["low"] * processors["high"] == pytest.approx(
        1.0, rel=1e-3
    )  # two processors: no side is known


def test_a_processor_without_a_record_is_read_conservatively() -> None:
    host = describe_machine({"host": {"cpu": "Intel Core i9-10940X"}}).host
    known = host_flop_per_s(host, load_catalog())
    unknown = host.model_copy(update={"fp32_flop_per_s": None, "usable_cores": 14.0})
    assert host_flop_per_s(unknown, load_catalog()) < known
    half = unknown.model_copy(update={"usable_cores": 7.0})
    assert host_flop_per_s(half, load_catalog()) == host_flop_per_s(unknown, load_catalog()) / 2
