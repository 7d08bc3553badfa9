"""What holds a detected device back reaches the verdict as a reason with a link."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from willitrun import Machine, assess, describe_machine, load_catalog
from willitrun.estimators.live_limits import live_limits

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
