"""Videos: frames as a dimension of memory and time, denoisers that take turns."""

from __future__ import annotations

import pytest

from willitrun import Workload, assess, estimate_memory, estimate_speed, load_catalog
from willitrun.records.recipes import Runtime

GIB = 2**30
VIDEO = (
    "wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.2-ti2v-5b", "wan2.2-t2v-a14b", "wan2.2-i2v-a14b", "hunyuanvideo",
    "ltx-video", "cogvideox-2b", "mochi-1",
)  # fmt: skip


@pytest.mark.parametrize("model", VIDEO)
def test_memory_and_time_are_known(model: str) -> None:
    verdict = assess(model, "nvidia-h200")
    assert verdict.tier != "unknown"
    assert verdict.memory is not None
    assert verdict.speed is not None
    assert verdict.speed.seconds_per_image is not None
    assert verdict.speed.images_per_s is None
    assert sum(term.value for term in verdict.memory.terms) == verdict.memory.total_bytes.best
    assert sum(term.value for term in verdict.speed.terms) == pytest.approx(
        verdict.speed.seconds_per_image.best, rel=1e-9
    )


def test_frames_default_to_the_model_s_own_and_are_counted() -> None:
    native = load_catalog().models["wan2.1-t2v-1.3b"].diffusion
    assert native is not None
    long = estimate_speed("wan2.1-t2v-1.3b", "rtx-4090")
    told = estimate_speed("wan2.1-t2v-1.3b", "rtx-4090", Workload(frames=native.frames))
    short = estimate_speed("wan2.1-t2v-1.3b", "rtx-4090", Workload(frames=25))
    assert long.seconds_per_image == told.seconds_per_image
    assert short.seconds_per_image is not None
    assert long.seconds_per_image is not None
    # A third of the latent's frames: less than a third of the time, since attention pairs them.
    assert short.seconds_per_image.best < long.seconds_per_image.best / 3


@pytest.mark.parametrize(
    ("model", "device", "seconds", "source"),
    [
        # "a 5-second 480P video on an RTX 4090 in about 4 minutes".
        ("wan2.1-t2v-1.3b", "rtx-4090", 240, "Wan-Video/Wan2.1 README.md@18368df"),
        # 50 steps at 720 x 480 and 49 frames; offloaded, which the table says costs a tenth.
        ("cogvideox-2b", "nvidia-a100-sxm4-80gb", 90, "zai-org/CogVideo README.md@a342972"),
        ("cogvideox-2b", "nvidia-h100-sxm5-80gb", 45, "zai-org/CogVideo README.md@a342972"),
    ],
)
def test_published_times_lie_in_the_interval(model: str, device: str, seconds: float, source: str) -> None:
    found = estimate_speed(model, device, Workload(precision="bf16"))
    assert found.seconds_per_image is not None
    assert found.seconds_per_image.low < seconds < found.seconds_per_image.high, source


def test_denoisers_that_take_turns_are_not_held_together_when_offloaded() -> None:
    whole = estimate_memory(
        "wan2.2-t2v-a14b", "nvidia-h200", runtime=Runtime(name="diffusers", offload="none")
    )
    turns = estimate_memory(
        "wan2.2-t2v-a14b", "nvidia-h200", runtime=Runtime(name="diffusers", offload="model")
    )
    # The VAE is kept in 32 bits.
    assert whole.weights_bytes.best == 2 * (5_680_910_336 + 2 * 14_288_491_584) + 4 * 126_892_531
    assert turns.weights_bytes.best == 2 * 14_288_491_584
    assert turns.host_bytes.best >= whole.weights_bytes.best


@pytest.mark.parametrize("model", VIDEO)
def test_fewer_frames_take_no_more_memory(model: str) -> None:
    sizes = [
        estimate_memory(model, "nvidia-h200", Workload(frames=frames)).activation_bytes.best
        for frames in (1, 25, 49, 121)
    ]
    assert sizes == sorted(sizes)


def test_a_decoder_of_all_frames_grows_with_them_and_one_of_chunks_does_not() -> None:
    def decoded(model: str, frames: int) -> int:
        memory = estimate_memory(model, "nvidia-h200", Workload(frames=frames))
        return max(int(term.inputs["decode_bytes"]) for term in memory.terms if "decode_bytes" in term.inputs)

    assert decoded("mochi-1", 85) > 1.5 * decoded("mochi-1", 25)
    assert decoded("cogvideox-2b", 49) < 1.01 * decoded("cogvideox-2b", 25)


def test_published_peak_of_a_small_model_offloaded() -> None:
    """8.19 GB with the text encoder on the CPU and offloading (Wan-Video/Wan2.1 README.md@18368df)."""
    memory = estimate_memory(
        "wan2.1-t2v-1.3b", "rtx-4090", runtime=Runtime(name="diffusers", offload="model")
    )
    stages = next(term.inputs for term in memory.terms if "decode_bytes" in term.inputs)
    own = max(int(stages["denoise_bytes"]), int(stages["decode_bytes"]))
    assert own == pytest.approx(8.19 * GIB, rel=0.08)
