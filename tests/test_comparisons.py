"""Comparisons: contenders agree with `assess`, the winner is the better one, and the terms say why."""

from __future__ import annotations

import pytest

from willitrun import InvalidWorkloadError, UnknownIdError, Workload, assess, compare


def test_hardware_under_one_model() -> None:
    loads = Workload.grid(contexts=[4096, 32768])
    found = compare("rtx-4090", "rtx-3060-12gb", model="llama-3.1-8b", workloads=loads, quantization="q4_k_m")
    assert found.of == "machines"
    assert len(found.bouts) == 2
    for bout, load in zip(found.bouts, loads, strict=True):
        for side, machine in zip(bout.contenders, ("rtx-4090", "rtx-3060-12gb"), strict=True):
            verdict = assess("llama-3.1-8b", machine, load, quantization="q4_k_m")
            assert side.tier == verdict.tier
            assert side.rate == verdict.speed.decode_tokens_per_s  # type: ignore[union-attr]
        assert bout.winner == "NVIDIA GeForce RTX 4090"
        assert bout.ratio is not None
        assert bout.ratio > 1.5
        assert any("times as fast" in line for line in bout.why)
        assert any("memory_bytes_per_s" in line for line in bout.why)


def test_the_differences_are_those_of_the_terms() -> None:
    bout = compare("rtx-4090", "rtx-3090", model="llama-3.1-8b", quantization="q4_k_m").bouts[0]
    verdicts = [assess("llama-3.1-8b", card, quantization="q4_k_m") for card in ("rtx-4090", "rtx-3090")]
    for gap in bout.differences:
        for value, verdict in zip(gap.values, verdicts, strict=True):
            terms = {term.name: term.value for term in verdict.speed.terms}  # type: ignore[union-attr]
            assert value == terms.get(gap.term, 0.0)
    sizes = [abs(gap.values[0] - gap.values[1]) for gap in bout.differences]
    assert sizes == sorted(sizes, reverse=True)


def test_order_does_not_matter() -> None:
    one = compare("rtx-4090", "rtx-3060-12gb", model="qwen3-14b", quantization="q4_k_m").bouts[0]
    other = compare("rtx-3060-12gb", "rtx-4090", model="qwen3-14b", quantization="q4_k_m").bouts[0]
    assert (one.winner, one.ratio, one.clear) == (other.winner, other.ratio, other.clear)


def test_alike_means_nobody_wins() -> None:
    bout = compare("rtx-4090", "rtx-4090", model="llama-3.1-8b", quantization="q4_k_m").bouts[0]
    assert bout.winner is None
    none = compare("rtx-4090", "rtx-3090", model="llama-3.1-405b", quantization="bf16").bouts[0]
    assert none.winner is None
    assert none.why[0] == "Nobody wins."


def test_the_usual_workloads_where_no_model_is_named() -> None:
    found = compare("rtx-4090", "m3-max-40gpu:64 GiB")
    assert [bout.title for bout in found.bouts] == [
        "7B chat", "32B chat", "70B chat", "SDXL pictures", "image classification",
    ]  # fmt: skip
    chat70 = found.bouts[2]
    assert chat70.winner == "Apple M3 Max (40-core GPU)", "it fits there, and not on the card"
    assert "wins" in repr(found)
    assert "<table>" in found._repr_html_()
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_formats_runtimes_and_models() -> None:
    formats = compare("q4_k_m", "bf16", of="quantizations", model="llama-3.1-8b", machine="rtx-3060-12gb")
    assert formats.bouts[0].winner == "q4_k_m"
    runtimes = compare(
        "llama.cpp",
        "vllm",
        of="runtimes",
        model="llama-3.1-8b",
        machine="m3-max-40gpu:64 GiB",
        quantization="q4_k_m",
    )
    assert runtimes.bouts[0].winner == "llama.cpp"
    assert any("vllm will-not-run" in line for line in runtimes.bouts[0].why)
    models = compare("resnet-50", "vit-b-16", of="models", machine="rtx-4090")
    assert models.names == ("resnet-50", "vit-b-16")


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InvalidWorkloadError, match="two contenders"):
        compare("rtx-4090", model="llama-3.1-8b")
    with pytest.raises(UnknownIdError, match="colours"):
        compare("red", "blue", of="colours")  # type: ignore[arg-type]
    with pytest.raises(InvalidWorkloadError, match="running a model"):
        compare("q4_k_m", "q8_0", of="quantizations", machine="rtx-4090")


def test_where_no_format_is_named_all_have_the_same() -> None:
    """A Mac that holds five bits is not slower than a card for it; nor is vLLM in 16 bits than llama.cpp in eight."""
    machines = compare("rtx-4090", "m4-max-40gpu:64 GiB", model="llama-3.3-70b").bouts[0]
    assert len({side.specs["quantization"] for side in machines.contenders}) == 1
    common = str(machines.contenders[0].specs["quantization"])
    own = {
        str(assess("llama-3.3-70b", name).inputs.quantization) for name in ("rtx-4090", "m4-max-40gpu:64 GiB")
    }
    assert common in own
    assert len(own) == 2
    assert any(f"all were judged at {common}" in line for line in machines.why)
    runtimes = compare("vllm", "llama.cpp", of="runtimes", model="llama-3.1-8b", machine="rtx-4090").bouts[0]
    assert {side.specs["quantization"] for side in runtimes.contenders} == {"bf16"}
    # A format that is named stays, and so do formats that nobody shares.
    named = compare("vllm", "llama.cpp", of="runtimes", model="llama-3.1-8b", machine="rtx-4060").bouts[0]
    assert len({side.specs["quantization"] for side in named.contenders}) == 2
    assert any("formats differ: vllm bf16" in line for line in named.why)
    given = compare("rtx-4090", "rtx-3090", model="llama-3.1-8b", quantization="q4_k_m")
    assert not any("format" in line for line in given.bouts[0].why)
    assert "at q4_k_m" in str(given.rows())
