"""Diffusion pipelines: stages, offload, components of unknown size."""

from __future__ import annotations

import pytest

from willitrun import Workload, assess, describe_model, estimate_memory, estimate_speed, load_catalog
from willitrun.records.recipes import Runtime

GIB = 2**30


def diffusers(**options: object) -> Runtime:
    return Runtime(name="diffusers", **options)


def test_loaded_components_are_their_parameters_in_two_bytes() -> None:
    """FLUX.1-dev in bf16 is published at 31.4 GiB loaded."""
    found = estimate_memory("flux.1-dev")
    assert found.weights_bytes.best == 2 * (123_060_480 + 4_762_310_656 + 11_891_178_560 + 83_819_683)
    assert found.weights_bytes.best / GIB == pytest.approx(31.4, rel=0.005)


def test_terms_sum_to_total_and_to_the_seconds_of_a_batch() -> None:
    verdict = assess("sdxl", "rtx-4090", Workload(batch_size=2, steps=30))
    assert verdict.memory is not None
    assert verdict.speed is not None
    assert sum(term.value for term in verdict.memory.terms) == verdict.memory.total_bytes.best
    assert verdict.speed.seconds_per_image is not None
    batch_s = 2 * verdict.speed.seconds_per_image.best
    assert sum(term.value for term in verdict.speed.terms) == pytest.approx(batch_s, rel=1e-12)


def test_flux_does_not_fit_a_24_gib_card_whole_and_runs_offloaded_with_enough_host_memory() -> None:
    machine = {"accelerators": ["rtx-4090"], "host": {"ram": "64 GiB"}}
    verdict = assess("flux.1-dev", machine)
    assert verdict.tier == "offload"
    codes = [reason.code for reason in verdict.reasons]
    assert codes[0] == "needs-offload"
    assert verdict.memory is not None
    assert verdict.memory.host_bytes.best > 30 * GIB
    assert "weight transfer" in {term.name for term in verdict.speed.terms if term.value > 0}  # type: ignore[union-attr]


def test_without_host_memory_the_host_is_named() -> None:
    machine = {"accelerators": ["rtx-4090"], "host": {"ram": "16 GiB"}}
    verdict = assess("flux.1-dev", machine)
    assert verdict.tier == "will-not-run"
    assert {"does-not-fit", "out-of-host-memory"} <= {reason.code for reason in verdict.reasons}


def test_offload_modes_trade_device_memory_for_time() -> None:
    machine = {"accelerators": ["rtx-4090"], "host": {"ram": "128 GiB"}}
    found = [
        assess("sdxl", machine, runtime=diffusers(offload=mode)) for mode in ("none", "model", "sequential")
    ]
    sizes = [verdict.memory.total_bytes.best for verdict in found]  # type: ignore[union-attr]
    times = [verdict.speed.seconds_per_image.best for verdict in found]  # type: ignore[union-attr]
    assert sizes == sorted(sizes, reverse=True)
    assert times == sorted(times)


def test_tiling_and_slicing_bound_the_decoder() -> None:
    load = Workload(batch_size=4)
    whole = estimate_memory("sdxl", workload=load, runtime=diffusers())
    sliced = estimate_memory("sdxl", workload=load, runtime=diffusers(vae_slicing=True))
    tiled = estimate_memory("sdxl", workload=load, runtime=diffusers(vae_tiling=True))
    best = [found.total_bytes.best for found in (whole, sliced, tiled)]
    assert best == sorted(best, reverse=True)
    assert best[0] > best[1]


def test_quantization_changes_the_denoiser_only() -> None:
    whole, small = (estimate_memory("flux.1-dev", quantization=name) for name in ("bf16", "nf4"))
    saved = whole.weights_bytes.best - small.weights_bytes.best
    assert saved == 2 * 11_891_178_560 - -(-11_891_178_560 // 16384) * 8452


def test_more_steps_pixels_and_images_take_longer() -> None:
    def seconds(**fields: int) -> float:
        speed = assess("sd-1.5", "rtx-3060-12gb", Workload(**fields)).speed  # type: ignore[arg-type]
        assert speed is not None
        return sum(term.value for term in speed.terms)

    base = seconds(steps=20, image_size=512, batch_size=1)
    assert seconds(steps=40, image_size=512, batch_size=1) > base
    assert seconds(steps=20, image_size=768, batch_size=1) > base
    assert seconds(steps=20, image_size=512, batch_size=2) > base


def test_a_component_of_unknown_size_leaves_memory_unknown() -> None:
    verdict = assess("ltx-2", "h100-sxm")
    assert verdict.tier == "unknown"
    assert "Gemma-3-12B" in verdict.reasons[0].message


def test_without_a_trace_memory_is_known_and_speed_is_not() -> None:
    model = describe_model("qwen-image")
    assert model.diffusion is not None
    components = tuple(
        part.model_copy(update={"name": "traced by nobody"}) if part.role == "denoiser" else part
        for part in model.diffusion.components
    )
    untraced = model.model_copy(
        update={"diffusion": model.diffusion.model_copy(update={"components": components})}
    )
    verdict = assess(untraced, "h200-sxm")
    assert verdict.memory is not None
    assert verdict.speed is not None
    assert verdict.speed.headline() is None
    assert "speed-not-modelled" in {reason.code for reason in verdict.reasons}


def test_slack_is_a_share_of_what_comes_and_goes() -> None:
    """Weights are exact: twice the images have twice the slack, and it does not follow what is offloaded."""
    whole = [slack_and_live(batch, "none") for batch in (1, 2)]
    offloaded = slack_and_live(1, "model")
    assert whole[1][0] == pytest.approx(2 * whole[0][0], rel=0.01)
    for slack, live in (*whole, offloaded):
        assert slack / live == pytest.approx(whole[0][0] / whole[0][1], rel=1e-6)


def slack_and_live(batch: int, offload: str) -> tuple[float, float]:
    terms = estimate_memory(
        "flux.1-dev", workload=Workload(batch_size=batch), runtime=diffusers(offload=offload)
    ).terms
    named = {term.name: term.value for term in terms}
    (live,) = (value for name, value in named.items() if name.startswith("live activations"))
    return named["allocator slack"], live


def test_flux_in_bf16_runs_on_a_24_gib_card_that_holds_its_denoiser_alone() -> None:
    """It is at the edge, and people run it so on a card that shows no desktop: 22.2 GiB are the denoiser."""
    machine = {"accelerators": ["rtx-3090"], "host": {"ram": "64 GiB"}}
    verdict = assess("flux.1-dev", machine, quantization="bf16", runtime=diffusers(offload="model"))
    assert verdict.tier == "offload"


def test_remedies_name_a_smaller_denoiser() -> None:
    machine = {"accelerators": ["rtx-4090"], "host": {"ram": "16 GiB"}}
    remedies = {remedy.kind: remedy for remedy in assess("flux.1-dev", machine).remedies}
    assert remedies["quantization"].arguments["quantization"] in ("fp8", "nf4")
    assert remedies["quantization"].tier in ("tight", "comfortable")


def test_text_encoders_have_a_format_of_their_own() -> None:
    plain = estimate_memory("flux.1-dev", quantization="fp8")
    mixed = estimate_memory(
        "flux.1-dev",
        quantization="fp8",
        runtime=Runtime(name="diffusers", text_encoder_quantization="nf4"),
    )
    encoders = [
        term for term in plain.terms if term.inputs.get("role") == "text-encoder" and term.unit == "B"
    ]
    saved = plain.weights_bytes.best - mixed.weights_bytes.best
    whole = sum(term.value for term in encoders)
    assert encoders
    # NF4 takes about a quarter of 16 bits.
    assert 0.7 * whole < saved < 0.76 * whole


def test_a_pipeline_that_does_not_fit_gets_remedies_with_their_effect() -> None:
    verdict = assess("flux.1-dev", "rtx-4090", quantization="bf16")
    assert verdict.tier == "will-not-run"
    kinds = {remedy.kind: remedy for remedy in verdict.remedies}
    assert {"quantization", "offload", "hardware"} <= set(kinds)
    told = kinds["quantization"].arguments
    again = assess(
        "flux.1-dev",
        "rtx-4090",
        quantization=told.get("quantization", "bf16"),
        runtime=Runtime(name="diffusers", text_encoder_quantization=told.get("text_encoder_quantization")),
    )
    assert again.tier == kinds["quantization"].tier == "comfortable"
    assert again.memory is not None
    assert again.memory.total_bytes == kinds["quantization"].total_bytes
    roomy = {"accelerators": ["rtx-4090"], **kinds["offload"].arguments}
    moved = assess("flux.1-dev", roomy, quantization="bf16")
    assert moved.tier == kinds["offload"].tier == "offload"


def test_an_offload_mode_is_a_remedy_where_none_was_asked_for() -> None:
    roomy = {"accelerators": ["rtx-4090"], "host": {"ram": "128 GiB"}}
    verdict = assess(
        "flux.1-dev", roomy, quantization="bf16", runtime=Runtime(name="diffusers", offload="none")
    )
    assert verdict.tier == "will-not-run"
    modes = [remedy for remedy in verdict.remedies if "offload" in remedy.arguments]
    assert [remedy.tier for remedy in modes] == ["offload"]


@pytest.mark.parametrize(
    ("name", "steps", "size", "passes"),
    [
        ("sdxl", 50, 1024, 2), ("stabilityai/sdxl-turbo", 1, 512, 1), ("sdxl-lightning", 4, 1024, 1),
        ("sd-turbo", 1, 512, 1), ("SimianLuo/LCM_Dreamshaper_v7", 4, 768, 1), ("flux.1-schnell", 4, 1024, 1),
    ],
)  # fmt: skip
def test_a_distilled_checkpoint_runs_the_steps_it_is_documented_with(
    name: str, steps: int, size: int, passes: int
) -> None:
    verdict = assess(name, "h100-sxm", Workload(precision="bf16"))
    assert verdict.inputs.workload["steps"] == steps
    assert verdict.inputs.workload["image_size"] == size
    term = next(term for term in verdict.speed.terms if term.name == "denoiser compute")  # type: ignore[union-attr]
    assert term.inputs["steps"] == steps
    assert term.inputs["guidance_passes"] == passes


def test_a_distilled_checkpoint_is_faster_than_what_it_was_distilled_from() -> None:
    speeds = [
        estimate_speed(name, "rtx-4090").seconds_per_image
        for name in ("sdxl", "sdxl-lightning", "sdxl-turbo")
    ]
    seconds = [found.best for found in speeds if found is not None]
    assert len(seconds) == 3
    assert seconds[0] > 5 * seconds[1] > 5 * seconds[2]


def test_a_published_time_of_a_distilled_transformer_lies_inside() -> None:
    # https://github.com/Tongyi-MAI/Z-Image/issues/153: 24 s for 1024 x 1024 in 9 steps on an RTX 3060 with 12 GB.
    speed = estimate_speed("z-image-turbo", "rtx-3060-12gb", Workload(steps=9), quantization="fp8")
    assert speed.seconds_per_image is not None
    assert 24.0 in speed.seconds_per_image


def test_a_picture_to_edit_is_read_beside_the_one_that_is_made() -> None:
    made, edited = (
        estimate_speed(name, "h200-sxm", Workload(steps=20)).seconds_per_image
        for name in ("qwen-image", "qwen-image-edit-2511")
    )
    assert made is not None
    assert edited is not None
    assert 2.0 < edited.best / made.best < 2.5


@pytest.mark.parametrize(
    "model", ["qwen-image", "z-image", "chroma1-hd", "sd3.5-medium", "sdxl-refiner", "flux.2-dev"]
)
def test_a_traced_denoiser_has_the_parameters_of_its_record(model: str) -> None:
    config = describe_model(model).diffusion
    assert config is not None
    (denoiser,) = (part for part in config.components if part.role == "denoiser")
    trace = load_catalog().traces.find(denoiser.name, 1024, 1)
    assert trace is not None
    assert trace.parameters == denoiser.parameters


@pytest.mark.parametrize(
    ("device", "seconds"),
    [("m1-max-24gpu", 46.0), ("m1-max-32gpu", 46.0), ("m2-max-38gpu", 37.0), ("m1-ultra-64gpu", 25.0)],
)
def test_a_class_of_cards_that_nobody_measured_has_a_range_of_its_own(device: str, seconds: float) -> None:
    # Apple's own times for SDXL, 20 steps, on the GPU (the Core ML program's, whose cores it does not state):
    # https://github.com/apple/ml-stable-diffusion/blob/e12202c1f6405b83918b58a5d097cd61e3e1f702/README.md
    speed = estimate_speed("sdxl-base", device, Workload(steps=20))
    assert speed.support == "lab/unseen-class"
    assert speed.seconds_per_image is not None
    assert seconds in speed.seconds_per_image
    seen = estimate_speed("sdxl-base", "rx-7900-xtx", Workload(steps=20)).seconds_per_image
    assert seen is not None
    assert speed.seconds_per_image.high / speed.seconds_per_image.best > seen.high / seen.best
