"""The operator roofline: physics that must hold whatever the coefficients are."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from willitrun.kernels.operator_totals import resize_work, spread_totals
from willitrun.kernels.operator_work import OPERATOR_CLASSES, OperatorWork, class_name
from willitrun.kernels.operators import (
    BOUNDS,
    PROFILES,
    TERMS,
    DeviceRates,
    ImageLoad,
    OperatorCoefficients,
    predict_images,
    predict_shares,
    resolve_coefficients,
)

COEFFICIENTS = resolve_coefficients(
    {
        "compute": np.log(0.8),
        "memory": np.log(0.8),
        "saturation.conv": np.log(500.0),
        "saturation.gemm": np.log(900.0),
        "cache_gain": np.log(1.5),
        "flops_per_joule": np.log(2e12),
        "floor_us": np.log(3.0),
        "host_op_us": np.log(20.0),
        "host_step_us": np.log(50.0),
        "flop_scale": 0.0,
        "act_scale": 0.0,
        "kernel_scale": 0.0,
        "state_bytes": np.log(30.0),
    },
    {"leak": {"compile": np.log(0.2), "engine": np.log(0.2)}, "host_op_us": {"engine": np.log(0.1)}},
)
# ResNet-50 at 224 pixels: 4.089 GMAC, 174 kernels.
RESNET = OperatorWork.from_summary(
    {
        "conv_1x1.hi": {"kernels": 36, "flops": 4.24e9, "padded_flops": 4.24e9, "act_elements": 17.5e6,
                        "fused_act_elements": 17.5e6, "fused_kernels": 36, "weight_elements": 12e6},
        "conv_kxk.hi": {"kernels": 17, "flops": 3.94e9, "padded_flops": 4.3e9, "act_elements": 4.2e6,
                        "fused_act_elements": 4.2e6, "fused_kernels": 17, "weight_elements": 11e6},
        "bn": {"kernels": 53, "act_elements": 22.2e6, "fused_act_elements": 11.1e6, "fused_kernels": 53},
        "elementwise": {"kernels": 65, "act_elements": 35.8e6, "fused_act_elements": 9.5e6},
        "cast": {"kernels": 56, "act_elements": 3e5, "act32_elements": 1.5e5, "weight_elements": 51e6,
                 "fused_kernels": 55, "fused_act_elements": 3e5},
    }
)  # fmt: skip


def rates(rows: int = 1, **changes: float) -> DeviceRates:
    values = {
        "conv_flops_per_s": 51e12, "gemm_flops_per_s": 51e12, "vector_flops_per_s": 12.7e12,
        "bandwidth_bytes_per_s": 360e9, "cache_bytes": 3.0 * 2**20, "multiprocessors": 28.0, "clock_hz": 1.78e9, "power_w": 170.0,
        "compute_scale": 1.0, "memory_scale": 1.0, "host_scale": 1.0, "link_bytes_per_s": np.inf,
    }  # fmt: skip
    return DeviceRates(**{k: np.full(rows, v) for k, v in (values | changes).items()})


def load(rows: int = 1, profile: str = "eager", **changes: float) -> ImageLoad:
    values = {
        "batch": 1.0, "act_bytes": 2.0, "wide_bytes": 4.0, "weight_bytes": 2.0, "autocast": 1.0, "parameters": 0.0,
        "input_bytes": 6e5, "decode_images_per_s": np.inf, "log_residual": 0.0,
    }  # fmt: skip
    arrays = {k: np.full(rows, v) for k, v in (values | changes).items()}
    return ImageLoad(profile=np.full(rows, PROFILES.index(profile)), **arrays)


def bound_of(speed: object) -> str:
    return BOUNDS[int(speed.bound[0])]  # type: ignore[attr-defined]


def test_eager_batch_one_is_bound_by_launches_and_a_large_batch_is_not() -> None:
    one = predict_images(RESNET, rates(), load(), COEFFICIENTS)
    many = predict_images(RESNET, rates(), load(batch=256.0), COEFFICIENTS)
    assert bound_of(one) == "launch"
    assert bound_of(many) in ("compute", "memory-bandwidth")
    assert many.images_per_s[0] > 3 * one.images_per_s[0]


def test_engine_launches_faster_than_eager_at_batch_one() -> None:
    eager = predict_images(RESNET, rates(), load(), COEFFICIENTS)
    engine = predict_images(RESNET, rates(), load(profile="engine", autocast=0.0), COEFFICIENTS)
    assert engine.seconds[0] < 0.6 * eager.seconds[0]


def test_terms_sum_to_the_time() -> None:
    speed = predict_images(
        RESNET, rates(3, link_bytes_per_s=12e9), load(3, batch=8.0, log_residual=0.1), COEFFICIENTS
    )
    assert speed.terms.shape == (3, len(TERMS))
    np.testing.assert_array_equal(speed.terms.sum(1), speed.seconds)
    assert (speed.terms >= 0).all()


def test_input_pipeline_limits_the_rate() -> None:
    speed = predict_images(RESNET, rates(), load(batch=256.0, decode_images_per_s=100.0), COEFFICIENTS)
    assert speed.images_per_s[0] == 100.0
    assert bound_of(speed) == "input"


def test_training_moves_optimizer_state() -> None:
    without = predict_images(RESNET, rates(), load(profile="train", batch=32.0), COEFFICIENTS)
    trained = predict_images(
        RESNET, rates(), load(profile="train", batch=32.0, parameters=25.6e6), COEFFICIENTS
    )
    assert trained.seconds[0] > without.seconds[0]


@pytest.mark.parametrize(
    "field",
    [
        "conv_flops_per_s",
        "gemm_flops_per_s",
        "vector_flops_per_s",
        "bandwidth_bytes_per_s",
        "power_w",
        "cache_bytes",
    ],
)
@given(factor=st.floats(1.0, 50.0), batch=st.integers(1, 1024), profile=st.sampled_from(PROFILES))
@settings(deadline=None, max_examples=30)
def test_a_better_device_is_never_slower(field: str, factor: float, batch: int, profile: str) -> None:
    base = rates()
    better = replace(base, **{field: getattr(base, field) * factor})
    request = load(batch=float(batch), profile=profile)
    slow = predict_images(RESNET, base, request, COEFFICIENTS).seconds[0]
    fast = predict_images(RESNET, better, request, COEFFICIENTS).seconds[0]
    assert fast <= slow * (1 + 1e-12)


@given(batch=st.integers(1, 2048), profile=st.sampled_from(PROFILES))
@settings(deadline=None, max_examples=40)
def test_without_a_cache_a_larger_batch_never_lowers_the_rate(batch: int, profile: str) -> None:
    device = rates(cache_bytes=0.0)
    small = predict_images(RESNET, device, load(batch=float(batch), profile=profile), COEFFICIENTS)
    large = predict_images(RESNET, device, load(batch=2.0 * batch, profile=profile), COEFFICIENTS)
    assert large.images_per_s[0] >= small.images_per_s[0] * (1 - 1e-12)


def test_rows_equal_scalars() -> None:
    batches = np.array([1.0, 7.0, 64.0, 300.0])
    swept = predict_images(RESNET, rates(4), replace(load(4), batch=batches), COEFFICIENTS)
    for row, batch in enumerate(batches):
        alone = predict_images(RESNET, rates(), load(batch=batch), COEFFICIENTS)
        np.testing.assert_allclose(swept.seconds[row], alone.seconds[0], rtol=1e-12)
        np.testing.assert_allclose(swept.terms[row], alone.terms[0], rtol=1e-9)


def test_a_grid_equals_its_rows() -> None:
    """Devices down, batches across, networks in front: the sides meet in the kernel and nowhere else."""
    rng = np.random.default_rng(7)
    networks = (RESNET, OperatorWork.from_summary({"gemm.hi": {"padded_flops": 3e10, "kernels": 40}}))
    devices, batches = 40, np.array([1.0, 8.0, 256.0])
    spread = {
        field.name: getattr(rates(), field.name)[0] * rng.uniform(0.2, 4.0, devices)
        for field in fields(DeviceRates)
    }
    spread["cache_bytes"][::3] = 0.0
    spread["power_w"][::4] = 0.0
    asked = load()
    for profile in ("eager", "engine", "train"):
        across = ImageLoad(
            **{field.name: np.full((1, 1, 1), getattr(asked, field.name)[0]) for field in fields(ImageLoad)}
        )
        across = replace(
            across,
            batch=batches[None, None],
            profile=np.full((1, 1, 1), PROFILES.index(profile)),
            autocast=np.array([0.0, 1.0, 1.0])[None, None],
            parameters=np.full((1, 1, 1), 25e6 if profile == "train" else 0.0),
            decode_images_per_s=np.linspace(50.0, 5e5, devices)[None, :, None],
            log_residual=np.array([0.1, -0.2])[:, None, None],
        )
        down = DeviceRates(**{name: values[None, :, None] for name, values in spread.items()})
        stacked = OperatorWork(
            **{
                field.name: np.stack([getattr(one, field.name) for one in networks])[:, None]
                for field in fields(OperatorWork)
            }
        )
        grid = predict_images(stacked, down, across, COEFFICIENTS)
        assert grid.seconds.shape == (2, devices, 3)
        for i, j, k in rng.integers(0, (2, devices, 3), (30, 3)):
            alone = predict_images(
                networks[i],
                DeviceRates(**{name: values[j : j + 1] for name, values in spread.items()}),
                replace(
                    load(profile=profile, batch=float(batches[k])),
                    autocast=across.autocast[0, 0, k : k + 1],
                    parameters=across.parameters[0, 0],
                    decode_images_per_s=across.decode_images_per_s[0, j],
                    log_residual=across.log_residual[i, 0],
                ),
                COEFFICIENTS,
            )
            assert grid.bound[i, j, k] == alone.bound[0]
            np.testing.assert_allclose(grid.images_per_s[i, j, k], alone.images_per_s[0], rtol=1e-12)
            np.testing.assert_allclose(grid.terms[i, j, k], alone.terms[0], rtol=1e-9)


def test_stack_keeps_rows_apart() -> None:
    other = OperatorWork.from_summary({"gemm.hi": {"flops": 3e10, "padded_flops": 3e10, "kernels": 40}})
    both = OperatorWork.stack([RESNET, other])
    speed = predict_images(both, rates(2), load(2), COEFFICIENTS)
    alone = predict_images(other, rates(), load(), COEFFICIENTS)
    np.testing.assert_allclose(speed.seconds[1], alone.seconds[0])


def test_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match="conv_9d"):
        OperatorWork.from_summary({"conv_9d": {"kernels": 1}})


def test_classes_follow_intensity() -> None:
    assert class_name("conv_1x1", 1e6, 1e5) == "conv_1x1.lo"
    assert class_name("sdpa", 1e9, 1e6) == "sdpa.hi"
    assert class_name("conv_dw.7", 1e6, 1e5) == "conv_dw.7"
    assert len(set(OPERATOR_CLASSES)) == len(OPERATOR_CLASSES)


def test_published_totals_are_kept() -> None:
    work = spread_totals(
        [4.09e9, 17.6e9], [11.1e6, 23.9e6], [25.6e6, 86.6e6], [175, 150], convolution=[1.0, 0.0]
    )
    np.testing.assert_allclose(work.flops.sum(1), [8.18e9, 35.2e9])
    np.testing.assert_allclose(work.weight_elements.sum(1), [25.6e6, 86.6e6])
    for field in fields(work):
        assert getattr(work, field.name).shape == (2, len(OPERATOR_CLASSES))


def test_coefficients_cover_every_profile() -> None:
    for field in fields(OperatorCoefficients):
        table = getattr(COEFFICIENTS, field.name)
        assert table.shape[0] == len(PROFILES)
        assert np.isfinite(table).all()


def test_resizing_scales_area_and_keeps_weights() -> None:
    resized = resize_work(RESNET, (288 / 224) ** 2, global_attention=False)
    np.testing.assert_allclose(resized.flops.sum(), RESNET.flops.sum() * (288 / 224) ** 2)
    np.testing.assert_array_equal(resized.weight_elements, RESNET.weight_elements)
    np.testing.assert_array_equal(resized.kernels, RESNET.kernels)


def test_mixed_executions_in_one_block_equal_each_alone() -> None:
    profiles = ("eager", "compile", "engine", "train")
    mixed = replace(load(4, batch=16.0), profile=np.array([PROFILES.index(p) for p in profiles]))
    together = predict_images(RESNET, rates(4), mixed, COEFFICIENTS).seconds
    for row, profile in enumerate(profiles):
        alone = predict_images(RESNET, rates(), load(profile=profile, batch=16.0), COEFFICIENTS).seconds[0]
        np.testing.assert_allclose(together[row], alone, rtol=1e-12)


def test_long_sweeps_are_cut_into_blocks_without_seams() -> None:
    rows = 3000
    batches = np.arange(1.0, rows + 1)
    swept = predict_images(RESNET, rates(rows), replace(load(rows), batch=batches), COEFFICIENTS)
    assert swept.terms.shape == (rows, len(TERMS))
    alone = predict_images(RESNET, rates(), load(batch=2048.0), COEFFICIENTS)
    np.testing.assert_allclose(swept.seconds[2047], alone.seconds[0], rtol=1e-12)


def test_a_learnt_residual_scales_the_device_and_not_the_host() -> None:
    plain = predict_images(RESNET, rates(), load(batch=512.0), COEFFICIENTS).seconds[0]
    slower = predict_images(RESNET, rates(), load(batch=512.0, log_residual=0.2), COEFFICIENTS).seconds[0]
    assert slower == pytest.approx(plain * np.exp(0.2), rel=1e-3)
    plain = predict_images(RESNET, rates(host_scale=20.0), load(), COEFFICIENTS).seconds[0]
    slower = predict_images(RESNET, rates(host_scale=20.0), load(log_residual=0.2), COEFFICIENTS).seconds[0]
    assert slower == pytest.approx(plain, rel=1e-2)


def test_shares_of_classes_sum_to_the_seconds_and_are_their_slopes() -> None:
    device, pass_ = rates(), load(batch=64.0)
    seconds = predict_images(RESNET, device, pass_, COEFFICIENTS).seconds
    shares = predict_shares(RESNET, device, pass_, COEFFICIENTS)
    whole = shares.compute.sum(0) + shares.memory.sum(0) + shares.floor.sum(0) + shares.host
    np.testing.assert_allclose(whole, seconds, rtol=1e-9)
    for term in ("compute", "memory"):
        column = OPERATOR_CLASSES.index("conv_1x1.hi" if term == "compute" else "elementwise")
        better = np.array(getattr(COEFFICIENTS, term))
        better[:, column] *= np.exp(1e-5)
        moved = predict_images(RESNET, device, pass_, replace(COEFFICIENTS, **{term: better})).seconds
        np.testing.assert_allclose((seconds - moved) / 1e-5, getattr(shares, term)[column], rtol=1e-3)
