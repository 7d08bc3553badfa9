"""Which era of PyTorch runs is stated by the runtime's version; who states none gets the middle, and wider truth."""

from __future__ import annotations

import pytest

from willitrun import Interval, Runtime, Workload, estimate_speed, plan

LOAD = Workload(batch_size=1, precision="fp16")


def rate(device: str, runtime: Runtime, load: Workload = LOAD) -> Interval:
    found = estimate_speed("resnet-50", device, load, runtime=runtime).images_per_s
    assert found is not None
    return found


def test_a_stated_version_moves_a_launch_bound_pass_within_the_interval_of_none() -> None:
    old, new = (rate("rtx-3060-12gb", Runtime(name="pytorch", version=name)) for name in ("1.13.1", "2.4.0"))
    either = rate("rtx-3060-12gb", Runtime(name="pytorch"))
    assert old.best < 0.8 * either.best < either.best < new.best
    assert old.best in either


def test_eras_are_not_told_where_one_was_measured() -> None:
    for device in ("gtx-1080-ti", "amd-radeon-rx-7800-xt"):
        assert rate(device, Runtime(name="pytorch", version="1.13")) == rate(device, Runtime(name="pytorch"))


def test_versions_of_other_programs_are_no_era() -> None:
    load = Workload(batch_size=1, precision="fp16", execution="tensorrt")
    plain = rate("rtx-3060-12gb", Runtime(name="tensorrt"), load)
    assert rate("rtx-3060-12gb", Runtime(name="tensorrt", version="1.2"), load) == plain


def test_a_sweep_hears_the_version_too() -> None:
    runtimes = [Runtime(name="pytorch", version=name) for name in ("1.13.1", "2.4.0")]
    table = plan(models=["resnet-50"], machines=["rtx-3060-12gb"], workloads=[LOAD], runtimes=runtimes)
    for row, runtime in enumerate(runtimes):
        found = table.row(row)
        alone = rate("rtx-3060-12gb", runtime)
        assert found["images_per_s"] == pytest.approx(alone.best, rel=1e-9)
        assert found["images_per_s_low"] == pytest.approx(alone.low, rel=1e-9)


def test_a_known_card_says_nothing_of_its_host() -> None:
    """A launch-bound pass on a swept card is as uncertain as on any other: its host decides."""
    known = rate("rtx-4090", Runtime(name="pytorch"))
    other = rate("rtx-3060-12gb", Runtime(name="pytorch"))
    # Measurements on the card itself may narrow it a little.
    assert known.high / known.low == pytest.approx(other.high / other.low, rel=0.1)
