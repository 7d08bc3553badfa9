"""A runtime that is an engine executes as one, where nobody says otherwise."""

import pytest

from willitrun import InvalidWorkloadError, Workload, estimate_speed, plan

ENGINE = Workload(batch_size=8, precision="fp16", execution="tensorrt")
OPEN = Workload(batch_size=8, precision="fp16")


def test_an_engine_runtime_is_not_answered_as_eager() -> None:
    left_open = estimate_speed("resnet-50", "rtx-3060-12gb", OPEN, runtime="trt").images_per_s
    named = estimate_speed("resnet-50", "rtx-3060-12gb", ENGINE, runtime="tensorrt").images_per_s
    eager = estimate_speed("resnet-50", "rtx-3060-12gb", OPEN, runtime="pytorch").images_per_s
    assert left_open == named
    assert left_open is not None
    assert eager is not None
    assert left_open.best > eager.best


def test_an_engine_does_not_run_eagerly() -> None:
    with pytest.raises(InvalidWorkloadError, match="engine of its own"):
        estimate_speed("resnet-50", "rtx-3060-12gb", Workload(execution="eager"), runtime="tensorrt")


def test_a_sweep_over_runtimes_gives_each_its_own_execution() -> None:
    table = plan(
        models=["resnet-50"], machines=["rtx-3060-12gb"], workloads=[OPEN], runtimes=["pytorch", "tensorrt"]
    )
    for number, runtime in enumerate(("pytorch", "tensorrt")):
        alone = estimate_speed("resnet-50", "rtx-3060-12gb", OPEN, runtime=runtime).images_per_s
        assert alone is not None
        assert table.row(number)["images_per_s"] == pytest.approx(alone.best)
