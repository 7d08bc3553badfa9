"""Networks that nobody traced are answered from published totals, with intervals that say so."""

from __future__ import annotations

import pytest

from willitrun import Workload, assess, estimate_memory, estimate_speed, load_catalog


@pytest.mark.parametrize("model", ["yolo11n", "yolov8s", "fasterrcnn_resnet50_fpn", "deeplabv3_resnet50"])
def test_a_detector_has_memory_and_speed_traced_or_not(model: str) -> None:
    verdict = assess(model, "rtx-4090")
    assert verdict.tier != "unknown"
    assert verdict.memory is not None
    assert verdict.memory.total_bytes.best > verdict.memory.weights_bytes.best > 0
    assert verdict.speed is not None
    assert verdict.speed.images_per_s is not None
    assert any("NMS" in reason.message for reason in verdict.reasons)
    untraced = any("Nobody has traced" in reason.message for reason in verdict.reasons)
    assert untraced == model.startswith("yolo")


def test_its_intervals_are_wider_than_those_of_a_traced_network() -> None:
    def spread(model: str) -> float:
        rate = estimate_speed(model, "rtx-4090", Workload(batch_size=32, precision="fp16")).images_per_s
        assert rate is not None
        return rate.high / rate.low

    assert spread("yolov8s") > 1.3 * spread("resnet-50")
    memory = estimate_memory("yolov8s", "rtx-4090", Workload(batch_size=32))
    assert memory.activation_bytes.low < memory.activation_bytes.best < memory.activation_bytes.high


def test_larger_pictures_cost_by_their_area() -> None:
    def rate(size: int) -> float:
        found = estimate_speed("yolov8s", "rtx-4090", Workload(batch_size=64, image_size=size)).images_per_s
        assert found is not None
        return found.best

    assert rate(320) / rate(640) == pytest.approx(4.0, rel=0.15)


def test_the_law_stands_on_traces() -> None:
    record = load_catalog().calibrations["vision-totals"]
    assert record.n_rows > 900
    for quantity in ("activations", "streamed", "peak_elements"):
        growth = 2.0 * record.coefficients[f"{quantity}.macs"] + record.coefficients[f"{quantity}.image_size"]
        assert growth == pytest.approx(2.0, abs=1e-4)  # a network's own MACs grow with the area
