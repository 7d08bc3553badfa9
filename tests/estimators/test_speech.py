"""Speech recognisers, voices, and encoders of texts."""

from __future__ import annotations

import pytest

from willitrun import Workload, assess, estimate_memory, plan

GIB = 2**30


def test_terms_sum_to_the_seconds_of_the_audio() -> None:
    verdict = assess("whisper-large-v3", "rtx-3060-12gb", Workload(audio_s=300.0))
    speed = verdict.speed
    assert speed is not None
    assert speed.real_time_factor is not None
    assert sum(term.value for term in speed.terms) == pytest.approx(300.0 / speed.real_time_factor.best)
    assert speed.evidence == "estimated"
    assert verdict.practical is True


def test_memory_counts_encoder_decoder_and_both_caches() -> None:
    found = estimate_memory("whisper-large-v3")
    # 1.54 billion parameters in 16 bits; the cross-attention cache of one window alone is 234 MiB.
    assert found.weights_bytes.best == pytest.approx(2 * 1.54e9, rel=0.01)
    assert found.kv_cache_bytes.best > 1500 * 32 * 2 * 1280 * 2
    assert sum(term.value for term in found.terms) == found.total_bytes.best


def test_whisper_cpp_reads_gguf_and_is_what_a_gguf_format_gets() -> None:
    verdict = assess("whisper-large-v3", "rtx-3060-12gb", quantization="q5_0")
    assert verdict.inputs.runtime["name"] == "whisper.cpp"
    assert verdict.tier == "comfortable"
    # Published: large-v3-q5_0 takes 1.1 GiB.
    assert verdict.memory is not None
    assert verdict.memory.disk_bytes.best / GIB == pytest.approx(1.05, abs=0.1)


def test_windows_at_once_need_more_memory_and_less_time() -> None:
    one, eight = (
        assess(
            "whisper-large-v2", "rtx-4090", Workload(audio_s=780.0, batch_size=n), runtime="faster-whisper"
        )
        for n in (1, 8)
    )
    assert one.memory is not None
    assert eight.memory is not None
    assert eight.memory.total_bytes.best > one.memory.total_bytes.best
    assert eight.speed.real_time_factor.best > one.speed.real_time_factor.best  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("runtime", "quantization", "batch", "measured_mb"),
    [
        ("faster-whisper", "f16", 1, 4525),
        ("faster-whisper", "int8", 1, 2926),
        ("faster-whisper", "f16", 8, 6090),
        ("whisper.cpp", "f16", 1, 4127),
    ],
)
def test_published_memory_of_large_v2_lies_inside_the_interval(
    runtime: str, quantization: str, batch: int, measured_mb: int
) -> None:
    """https://github.com/SYSTRAN/faster-whisper README, RTX 3070 Ti, 13 minutes of audio."""
    verdict = assess(
        "whisper-large-v2",
        "rtx-3070-ti",
        Workload(audio_s=780.0, batch_size=batch),
        runtime=runtime,
        quantization=quantization,
    )
    assert verdict.memory is not None
    total = verdict.memory.total_bytes
    assert total.low <= measured_mb * 2**20 <= total.high
    assert verdict.feasible


def test_a_voice_without_described_networks_answers_with_its_weights() -> None:
    verdict = assess("kokoro-82m", "rtx-3060-12gb")
    assert verdict.memory is not None
    assert verdict.memory.weights_bytes.best > 0
    assert verdict.speed is not None
    assert verdict.speed.headline() is None
    assert "speed-not-modelled" in {reason.code for reason in verdict.reasons}


def test_an_embedding_model_needs_its_weights_and_no_cache() -> None:
    """0.9 GiB, not the 13.8 GiB of an embedding model with a decoder's cache at its longest context."""
    found = estimate_memory("bge-m3", workload=Workload(prompt_tokens=512), quantization="f16")
    assert found.kv_cache_bytes.best == 0
    assert found.weights_bytes.best / GIB == pytest.approx(1.06, abs=0.1)
    assert found.total_bytes.best < 2 * GIB


def test_texts_per_second_is_the_headline_and_grows_with_batch() -> None:
    one, many = (
        assess("bge-m3", "rtx-4090", Workload(batch_size=n, prompt_tokens=128)).speed for n in (1, 32)
    )
    assert one is not None
    assert many is not None
    name, rate = many.headline() or ("", None)
    assert name == "samples_per_s"
    assert rate is not None
    assert many.samples_per_s is not None
    assert one.samples_per_s is not None
    assert many.samples_per_s.best > one.samples_per_s.best
    assert rate.best * 128 == pytest.approx(many.prefill_tokens_per_s.best)  # type: ignore[union-attr]
    assert sum(term.value for term in many.terms) == pytest.approx(32 / many.samples_per_s.best)


def test_a_sweep_of_encoders_and_recognisers_says_what_the_scalar_door_says() -> None:
    for model, loads in (
        ("bge-m3", [Workload(batch_size=1, prompt_tokens=64), Workload(batch_size=32, prompt_tokens=128)]),
        ("whisper-large-v3", [Workload(batch_size=1), Workload(audio_s=60.0, batch_size=2)]),
    ):
        table = plan(models=[model], machines=["rtx-4090"], workloads=loads).to_dict()
        for number, load in enumerate(loads):
            verdict = assess(model, "rtx-4090", load)
            assert verdict.memory is not None
            assert verdict.speed is not None
            name, rate = verdict.speed.headline() or ("", None)
            assert rate is not None
            assert table["total_bytes"][number] == verdict.memory.total_bytes.best
            assert table["kv_cache_bytes"][number] == verdict.memory.kv_cache_bytes.best
            assert table[name][number] == pytest.approx(rate.best, rel=1e-9)
            assert table[f"{name}_low"][number] == pytest.approx(rate.low, rel=1e-9)


def test_a_model_that_speaks_as_a_language_model_is_timed_as_one() -> None:
    """Orpheus is a Llama of 3.3 billion parameters whose checkpoint stores the tied embedding twice."""
    verdict = assess("orpheus-3b-0.1-ft", "rtx-4090")
    assert verdict.tier == "comfortable"
    assert verdict.practical is not None
    assert verdict.inputs.runtime["name"] == "transformers"
    assert verdict.speed is not None
    assert verdict.speed.decode_tokens_per_s is not None
    assert verdict.memory is not None
    assert verdict.memory.weights_bytes.best == pytest.approx(2 * 3_300_867_072, rel=0.01)
