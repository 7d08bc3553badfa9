"""Time to load a model from a disk whose rate is known."""

from __future__ import annotations

from typing import Any

import pytest

from willitrun import Interval, Workload, assess, describe_machine, estimate_speed


def load_s(model: str, accelerators: Any, disk: str | None, **more: Any) -> Interval | None:
    host = {} if disk is None else {"host": {"disk_read": disk}}
    machine = describe_machine({"accelerators": accelerators, **host})
    return estimate_speed(model, machine, **more).load_s


def known(*args: Any, **more: Any) -> Interval:
    found = load_s(*args, **more)
    assert found is not None
    return found


def test_a_published_load_lies_inside() -> None:
    # https://github.com/ServerlessLLM/ServerlessLLM/issues/321: fio reads 3,941 MB/s, Llama 3 8B loads in 4.15 s.
    assert 4.15 in known("llama-3-8b", ["a100-sxm4-80gb"], "3941 MB/s", quantization="bf16", runtime="vllm")


def test_a_disk_that_nobody_described_says_nothing() -> None:
    assert load_s("llama-3.1-8b", ["rtx-4090"], None, quantization="q4_k_m") is None


def test_a_faster_disk_or_link_never_takes_longer() -> None:
    q4 = {"quantization": "q4_k_m"}
    slow, fast = (known("llama-3.1-8b", ["rtx-4090"], rate, **q4) for rate in ("500 MB/s", "7 GB/s"))
    assert slow.best > 10 * fast.best
    narrow = known("llama-3.1-8b", [{"id": "rtx-4090", "pcie": "3.0 x4"}], "7 GB/s", **q4)
    assert narrow.best > fast.best


def test_only_what_crosses_a_link_is_copied() -> None:
    q4 = {"quantization": "q4_k_m", "runtime": "llama.cpp"}
    verdict = assess(
        "llama-3.1-8b", describe_machine({"host": {"disk_read": "1 GB/s", "ram": "64 GB"}}), **q4
    )
    assert verdict.memory is not None
    assert verdict.speed is not None
    assert verdict.speed.load_s is not None
    assert verdict.speed.load_s.best == pytest.approx(verdict.memory.disk_bytes.best / 1e9)


def test_ranks_copy_at_the_same_time() -> None:
    eight = {"quantization": "bf16", "runtime": "vllm"}
    one = known("llama-3.1-8b", ["h100-sxm5-80gb"], "10 GB/s", **eight)
    four = known("llama-3.1-8b", ["h100-sxm5-80gb"] * 4, "10 GB/s", placement="tensor", **eight)
    assert four.best < one.best
    assert four.low == pytest.approx(one.low, rel=0.02)


def test_images_and_pictures_load_too() -> None:
    assert load_s("resnet-50", ["rtx-3060-12gb"], "500 MB/s", workload=Workload(batch_size=1)) is not None
    sdxl = known("sdxl-base", ["rtx-3090"], "500 MB/s")
    assert sdxl.best > 10
