"""Ranges, vLLM's budget, and activation peaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.kernels.activations import diffusion_peak, eager_transformer_peak, vision_peak
from willitrun.kernels.overheads import (
    MemoryRange,
    add_ranges,
    scale_range,
    vllm_activation_peak,
    vllm_kv_pool,
    vllm_kv_tokens,
)

GIB = 2**30
bytes_counts = st.integers(0, 2**40)


@given(bytes_counts, bytes_counts, st.floats(0.5, 1.0), st.floats(1.0, 2.0))
def test_ranges_enclose_their_best(first: int, second: int, low: float, high: float) -> None:
    one, two = scale_range(first, low, 1.0, high), MemoryRange.exact(second)
    total = add_ranges(one, two)
    assert total.best == one.best + two.best
    assert total.low <= total.best <= total.high
    assert total.high - total.best >= one.high - one.best - 1


def test_independent_ranges_add_in_quadrature() -> None:
    part = scale_range(1000, 0.7, 1.0, 1.4)
    total = add_ranges(part, part)
    assert total.high.item() == 2000 + int(np.ceil(np.sqrt(2 * 400**2)))


@pytest.mark.parametrize(
    ("vocabulary", "hidden", "inner", "printed"),
    [(128256, 4096, 14336, 4.76), (151936, 5120, 25600, 5.64), (201088, 2880, 11520, 7.38)],
)
def test_activation_peaks_of_version_0_11(vocabulary: int, hidden: int, inner: int, printed: float) -> None:
    peak = vllm_activation_peak(
        vocabulary,
        hidden,
        inner,
        max_num_seqs=1024,
        max_num_batched_tokens=8192,
        sampler_bytes=38.4,
        forward_copies=8,
        base_bytes=0.02 * GIB,
    ).item()
    assert peak / GIB == pytest.approx(printed, rel=0.03)


def test_pool_and_tokens() -> None:
    pool = vllm_kv_pool(
        80 * GIB,
        utilization=0.9,
        weights_bytes=15 * GIB,
        activation_bytes=2 * GIB,
        non_torch_bytes=GIB // 4,
        graph_bytes=GIB,
    )
    assert pool.item() == 72 * GIB - 15 * GIB - 2 * GIB - GIB // 4 - GIB
    assert (
        vllm_kv_pool(
            8 * GIB, utilization=0.9, weights_bytes=15 * GIB, activation_bytes=0, non_torch_bytes=0
        ).item()
        == 0
    )
    assert vllm_kv_tokens(2**30 + 2**20, 131072).item() == 8192


def test_eager_peak_grows_with_scores_only_when_they_exist() -> None:
    common = {"sequences": 1, "vocabulary": 32000, "hidden": 4096, "feed_forward": 11008, "heads": 32}
    fused = eager_transformer_peak(8192, **common)
    plain = eager_transformer_peak(8192, **common, fused_attention=False)
    assert plain.item() - fused.item() > 8192 * 8192 * 32


def test_eager_peak_is_what_pytorch_was_counted_to_hold() -> None:
    # Counted by accuracy/memory/torch_truth.py: storages live at once, less the cache, in bfloat16.
    mib = 2**20
    common = {"vocabulary": 32000, "hidden": 768, "heads": 12}
    gated = eager_transformer_peak(512, sequences=4, feed_forward=2048, **common).item()
    routed = eager_transformer_peak(512, sequences=2, feed_forward=2048, experts_used=4, **common).item()
    plain = eager_transformer_peak(512, sequences=8, feed_forward=3072, gated=False, **common).item()
    assert gated / mib == pytest.approx(52.1 - 16, rel=0.01)
    assert routed / mib == pytest.approx(38.3 - 8, rel=0.02)
    assert plain / mib == pytest.approx(66.0, rel=0.01)


def test_vision_peak_is_linear_in_the_batch() -> None:
    one = vision_peak(10**6, batch=1, element_bytes=2, workspace_bytes=100)
    eight = vision_peak(10**6, batch=8, element_bytes=2, workspace_bytes=100)
    assert eight.item() - 100 == 8 * (one.item() - 100)


def _flux(offload: str = "none", **options: object) -> int:
    return int(
        diffusion_peak(
            9_766_000_000,
            23_800_000_000,
            168_000_000,
            pixels=1024 * 1024,
            batch=1,
            guidance=False,
            encoder_activation_bytes=160_000_000,
            denoiser_bytes_per_pixel=576.0,
            vae_bytes_per_pixel=1797.0,
            largest_layer_bytes=700_000_000,
            offload=offload,
            **options,  # type: ignore[arg-type]
        ).peak.item()
    )


def test_offload_modes_are_ordered() -> None:
    sizes = [_flux(mode) for mode in ("none", "model", "group", "sequential")]
    assert sizes == sorted(sizes, reverse=True)
    assert _flux("model") == 23_800_000_000 + 576 * 1024 * 1024
    with pytest.raises(ValueError, match="offload mode"):
        _flux("everything")


def test_tiling_and_slicing_never_take_more() -> None:
    assert _flux("sequential", tiling=True) <= _flux("sequential")
    assert _flux("sequential", slicing=True) <= _flux("sequential")
