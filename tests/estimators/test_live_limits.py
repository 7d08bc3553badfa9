"""What holds a detected device back reaches the verdict as a reason with a link."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from willitrun import Machine, assess, describe_machine, load_catalog
from willitrun.estimators.live_limits import live_limits
from willitrun.estimators.llm_machines import machine_row
from willitrun.estimators.rates import device_rates
from willitrun.estimators.requests import complete_request

CAPTURES = Path(__file__).resolve().parents[1] / "captures"


def recorded(name: str) -> Machine:
    return Machine.from_capture(json.loads((CAPTURES / f"{name}.json").read_text("utf-8"))["capture"])


@pytest.mark.parametrize(
    ("capture", "code", "words"),
    [
        ("x4-slot", "pcie-narrow", "x4 of x16"),
        ("a100-mig-two-slices", "mig-slice", "3g.20gb of NVIDIA A100-SXM4-40GB"),
        ("rtx-4090-desktop", "display-attached", "A display runs on"),
        ("rtx-4090-desktop", "memory-held-by-others", "is held by"),
        ("power-capped-3090", "power-capped", "250 W of 350 W"),
        ("cgroup-v2-nested", "cgroup-limit", "container limit"),
    ],
)
@pytest.mark.parametrize(("model", "quantization"), [("llama-3.2-1b", "q4_k_m"), ("resnet-50", None)])
def test_a_live_limit_is_a_reason_that_links_on(
    capture: str, code: str, words: str, model: str, quantization: str | None
) -> None:
    verdict = assess(model, recorded(capture), quantization=quantization)
    reason = next(reason for reason in verdict.reasons if reason.code == code)
    assert words in reason.message
    assert reason.see
    known = load_catalog()
    for ref in reason.see:
        kind, _, name = ref.partition(":")
        assert name in known.table(kind), ref


def test_a_device_as_it_was_sold_has_none() -> None:
    assert not list(live_limits(describe_machine("rtx-4090").accelerators[0]))


def test_idle_leaves_the_desktop_on_windows() -> None:
    machine = recorded("rtx-4090-desktop")
    windows = machine.model_copy(update={"host": machine.host.model_copy(update={"system": "windows"})})
    rooms = [
        assess("llama-3.2-1b", place, quantization="q4_k_m", memory="idle")
        .memory.per_device[0]
        .available_bytes  # type: ignore[union-attr]
        for place in (machine, windows)
    ]
    assert rooms[0] is not None
    assert rooms[1] is not None
    assert rooms[1] < rooms[0]


def test_slices_of_one_card_do_not_add_up() -> None:
    """CUDA shows one MIG slice to a process: what fits the sum of two and neither of them does not run there."""
    machine = recorded("a100-mig-two-slices")
    room = max(device.memory_free_bytes or 0 for device in machine.accelerators)
    for runtime in (None, "vllm", "llama.cpp"):
        verdict = assess("llama-3.1-8b", machine, runtime=runtime)
        assert verdict.memory is not None
        assert len(verdict.memory.per_device) == 1
        assert (verdict.memory.per_device[0].available_bytes or 0) <= room


def test_cards_without_a_bridge_exchange_over_the_slot() -> None:
    bridged = recorded("two-rtx-3090-nvlink")
    bare = bridged.model_copy(update={"links": ()})
    rows = [machine_row(complete_request("llama-3.1-8b", place)).row for place in (bridged, bare)]
    assert rows[0].link_bytes_per_s == pytest.approx(112.5e9 / 2)
    assert rows[1].link_bytes_per_s == pytest.approx(rows[1].pcie_bytes_per_s)
    assert rows[1].link_bytes_per_s < 20e9
    boards = recorded("h100-sxm-eight").model_copy(update={"links": ()})
    assert machine_row(complete_request("llama-3.1-8b", boards)).row.link_bytes_per_s == pytest.approx(450e9)


def test_grace_feeds_hopper_faster_than_a_slot() -> None:
    machine = recorded("gh200")
    assert [(link.kind, link.devices) for link in machine.links] == [("c2c", (0,))]
    assert device_rates(machine.accelerators[0], machine)[0].pcie_bytes_per_s == pytest.approx(450e9)
    without = machine.model_copy(update={"links": ()})
    assert device_rates(without.accelerators[0], without)[0].pcie_bytes_per_s < 64e9


def test_a_slot_that_calls_its_own_width_the_maximum_is_seen_through() -> None:
    """Some drivers report what card and slot can do together; the record says what the card has."""
    device = recorded("x4-slot").accelerators[0].model_copy(update={"pcie_lanes_max": 4})
    assert any(reason.code == "pcie-narrow" for reason in live_limits(device))


def test_a_described_apu_says_what_its_kernel_must_be_told() -> None:
    def budget(machine: object) -> str:
        reasons = assess("llama-3.1-8b", machine, quantization="q4_k_m").reasons
        return next(reason.message for reason in reasons if reason.code == "unified-memory-budget")

    assert "lends it 64 GiB unless" in budget("strix-halo:128 GiB")
    windows = {"accelerators": ["strix-halo"], "host": {"ram": "128 GiB", "os": "windows"}}
    assert "ttm" not in budget(windows)
    assert "ttm" not in budget("m4-max-40gpu:128 GiB")
