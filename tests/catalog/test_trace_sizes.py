"""Traces at shapes that were not traced grow as the traced shapes say."""

from __future__ import annotations

import pytest

from willitrun import load_catalog
from willitrun.catalog.trace_sizes import fit_trace, resize_trace
from willitrun.records.traces import OperatorTrace


def trace(image_size: int, frames: int = 1, *, per_latent: int = 1) -> OperatorTrace:
    """A network whose convolutions grow with the pixels and whose attention with their square."""
    tokens = image_size**2 * (frames + per_latent - 1) // per_latent
    columns = {"act_elements": 3.0 * tokens, "kernels": 5.0, "weight_elements": 7.0}
    return OperatorTrace(
        architecture="toy",
        image_size=image_size,
        frames=frames,
        frames_per_latent=per_latent,
        parameters=1,
        macs=float(tokens + tokens**2),
        operators=10,
        peak_elements=4 * tokens,
        classes={
            "conv_kxk.hi": {"flops": 2.0 * tokens, **columns},
            "sdpa.hi": {"flops": 2.0 * tokens**2, **columns},
        },
        tool="test",
    )


def test_a_traced_shape_is_found_as_it_is() -> None:
    known = [trace(64), trace(128)]
    assert fit_trace(known, 128) is known[1]
    assert fit_trace(known, 128).scaled_from is None


@pytest.mark.parametrize("size", [32, 96, 256])
def test_each_kind_of_operator_grows_in_its_own_way(size: int) -> None:
    found = fit_trace([trace(64), trace(128)], size)
    true = trace(size)
    assert found.scaled_from in (64, 128)
    for name, columns in true.classes.items():
        assert found.classes[name] == pytest.approx(columns), name
    assert found.peak_elements == pytest.approx(true.peak_elements, rel=1e-6)


@pytest.mark.parametrize("frames", [1, 17, 33, 161])
def test_frames_count_in_the_latent(frames: int) -> None:
    known = [trace(64, 81, per_latent=4), trace(64, 25, per_latent=4), trace(32, 81, per_latent=4)]
    found, true = fit_trace(known, 64, frames), trace(64, frames, per_latent=4)
    for name, columns in true.classes.items():
        assert found.classes[name] == pytest.approx(columns, rel=1e-6), name
    assert fit_trace(known, 128, frames).classes["sdpa.hi"]["flops"] == pytest.approx(
        trace(128, frames, per_latent=4).classes["sdpa.hi"]["flops"], rel=1e-6
    )


def test_one_trace_grows_with_the_area() -> None:
    grown = resize_trace(trace(64), 128)
    assert grown.classes["sdpa.hi"]["flops"] == 4 * trace(64).classes["sdpa.hi"]["flops"]
    assert grown.classes["sdpa.hi"]["kernels"] == 5.0


@pytest.mark.parametrize("name", ["flux.1-dev", "sd3-medium", "sdxl-base", "vae-16", "sd-v1-5"])
def test_a_traced_size_is_predicted_from_the_others(name: str) -> None:
    """Real networks: the size between two others from these, within a few hundredths; area alone misses attention."""
    library = load_catalog().traces
    traces = {size: library.find(name, size) for size in (512, 768, 1024)}
    assert all(one is not None and one.scaled_from is None for one in traces.values())
    found = fit_trace([traces[512], traces[1024]], 768)  # type: ignore[list-item]
    true = traces[768]
    assert true is not None
    assert found.macs == pytest.approx(true.macs, rel=0.04)
    assert found.peak_elements == pytest.approx(true.peak_elements, rel=0.05)
