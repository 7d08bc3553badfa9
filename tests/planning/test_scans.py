"""Scans: every row says what `assess` says, ranks are sound, and a prior decides the order and nothing else."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun import InvalidWorkloadError, UnknownIdError, Workload, assess, chips, load_catalog, scan, score
from willitrun.kernels.scores import FIT_FACTORS, fit_score, speed_score

MACHINES = [
    "rtx-4090",
    "rtx-3060-12gb",
    "m3-max-40gpu:64 GiB",
    ["rtx-3090", "rtx-3090"],
    "rx-7900-xtx",
    "ddr5-5600-dual",
]


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_rows_agree_with_assess(machine: object) -> None:
    found = scan(machine)
    rows = random.Random(11).sample(found.ranked, 12)
    for row in rows:
        verdict = assess(row.model, machine, quantization=row.quantization, runtime=row.runtime)
        assert row.tier == verdict.tier, row
        if verdict.memory is not None:
            assert row.total_bytes == verdict.memory.total_bytes.best, row
        assert row.practical == verdict.practical, row
        if verdict.feasible and verdict.speed is not None:
            head = verdict.speed.headline()
            assert head is not None
            assert head[0] == row.headline
            got = (row.rate_low, row.rate, row.rate_high)
            assert got == pytest.approx((head[1].low, head[1].best, head[1].high), rel=1e-9), row
            assert row.evidence == verdict.speed.evidence


def test_rows_agree_under_load_and_on_a_server() -> None:
    load = Workload(context_tokens=4096, concurrency=16)
    found = scan(["rtx-3090"] * 2, load, quantizations=["awq-int4"], runtime="vllm")
    for row in random.Random(3).sample([row for row in found.ranked if row.tier != "unknown"], 8):
        verdict = assess(row.model, ["rtx-3090"] * 2, load, quantization="awq-int4", runtime="vllm")
        assert (row.tier, row.total_bytes) == (verdict.tier, round(verdict.memory.total_bytes.best)), row  # type: ignore[union-attr]
        if verdict.feasible and verdict.speed is not None:
            assert row.rate == pytest.approx(verdict.speed.decode_tokens_per_s.best, rel=1e-9)  # type: ignore[union-attr]


def test_the_format_is_the_best_of_the_best_tier() -> None:
    ladder = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs")
    for row in scan(
        "rtx-3060-12gb", models=["llama-3.1-8b", "qwen3-14b", "llama-3.3-70b", "llama-3.1-405b"]
    ).ranked:
        tiers = {name: assess(row.model, "rtx-3060-12gb", quantization=name).tier for name in ladder}
        order = list(FIT_FACTORS)
        best = min(tiers.values(), key=order.index)
        # Where none runs, the smallest tells what is missing at least.
        tried = ladder[::-1] if best == "will-not-run" else ladder
        assert row.quantization == next(name for name in tried if tiers[name] == best)


def test_other_tasks() -> None:
    found = scan("rtx-3060-12gb", Workload(batch_size=8), task="image-classification", models=None)
    assert len(found) > 1000
    row = next(row for row in found.fitting if row.model == "resnet-50")
    verdict = assess("resnet-50", "rtx-3060-12gb", Workload(batch_size=8))
    assert verdict.speed is not None
    assert row.rate == pytest.approx(verdict.speed.images_per_s.best, rel=1e-9)  # type: ignore[union-attr]


def test_ranks_are_one_to_n_and_qualified() -> None:
    found = scan("rtx-3060-12gb", tier="tight")
    assert [row.rank for row in found.fitting] == list(range(1, len(found.fitting) + 1))
    for row in found.fitting:
        assert row.tier in ("comfortable", "tight")
        assert row.practical is not False
    sizes = [row.parameters or 0 for row in found.fitting]
    assert sizes == sorted(sizes, reverse=True)
    for row in found.ranked[len(found.fitting) :]:
        assert row.rank == 0
        assert row.tier not in ("comfortable", "tight") or row.practical is False


def test_a_lower_tier_admits_more() -> None:
    counts = [len(scan("rtx-3060-12gb", tier=tier).fitting) for tier in ("comfortable", "tight", "offload")]  # type: ignore[arg-type]
    assert counts == sorted(counts)
    assert counts[0] < counts[2]


def test_a_prior_orders_and_changes_nothing_else() -> None:
    models = ["llama-3.1-8b", "qwen3-8b", "llama-3.2-1b", "qwen3-14b"]
    plain = {row.model: row for row in scan("rtx-3060-12gb", models=models).ranked}
    found = scan("rtx-3060-12gb", models=models, prior={"llama-3.2-1b": 0.9, "qwen3-8b": 0.5})
    assert [row.model for row in found.fitting][:2] == ["llama-3.2-1b", "qwen3-8b"]
    for row in found.ranked:
        assert (row.tier, row.score, row.rate) == (
            plain[row.model].tier,
            plain[row.model].score,
            plain[row.model].rate,
        )
    called = scan("rtx-3060-12gb", models=models, prior=lambda name: float(len(name)))
    assert called.fitting[0].prior == max(len(row.model) for row in called.fitting)


def test_by_speed_and_by_score() -> None:
    fast = [row.rate for row in scan("rtx-4090", order_by="speed").fitting if row.rate is not None]
    assert fast == sorted(fast, reverse=True)
    scores = [row.score for row in scan("rtx-3060-12gb", order_by="score").fitting if row.score is not None]
    assert scores == sorted(scores, reverse=True)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(UnknownIdError, match="nonsense"):
        scan("rtx-4090", task="nonsense")
    with pytest.raises(UnknownIdError, match="splendid"):
        scan("rtx-4090", tier="splendid")  # type: ignore[arg-type]
    with pytest.raises(InvalidWorkloadError, match="prior"):
        scan("rtx-4090", order_by="prior")


def test_a_scan_travels() -> None:
    found = scan("rtx-3060-12gb", models=["llama-3.1-8b", "llama-3.3-70b"])
    back = type(found).model_validate_json(found.model_dump_json())
    assert back.ranked == found.ranked
    assert json.loads(found.model_dump_json())["ranked"][0]["model"] == "llama-3.1-8b"
    assert "llama-3.1-8b" in found._repr_html_()
    assert "2 models" in repr(found)


# Score

POSITIVE = st.floats(min_value=1e-6, max_value=1e9)


@given(POSITIVE, POSITIVE, POSITIVE)
def test_speed_never_lowers_and_floors_never_raise_the_score(slow: float, fast: float, floor: float) -> None:
    low, high = sorted((slow, fast))
    assert speed_score(low, floor) <= speed_score(high, floor)
    assert speed_score(floor, low) >= speed_score(floor, high)
    assert 0.0 <= speed_score(low, floor) <= 1.0


@given(POSITIVE, POSITIVE)
def test_a_better_tier_never_lowers_the_score(rate: float, floor: float) -> None:
    share = speed_score(rate, floor)
    scores = [
        float(fit_score(FIT_FACTORS[tier], share))
        for tier in ("will-not-run", "offload", "tight", "comfortable")
    ]
    assert scores == sorted(scores)
    assert 0.0 <= scores[0] <= scores[-1] <= 100.0


def test_score_is_half_at_the_floor() -> None:
    assert float(speed_score(7.0, 7.0)) == 0.5
    card = score("llama-3.1-8b", "rtx-4090", quantization="q4_k_m")
    assert card.score == pytest.approx(100 * card.fit * card.speed)  # type: ignore[operator]
    row = scan("rtx-4090", models=["llama-3.1-8b"], quantizations=["q4_k_m"]).ranked[0]
    assert row.score == pytest.approx(card.score)


# Chips


def test_chips_agree_with_assess() -> None:
    catalog = load_catalog()
    found = chips("rtx-3060-12gb")
    labels = [profile.label for profile in catalog.workloads.values() if profile.reference]
    assert [chip.label for chip in found.chips] == labels
    for chip in found.chips:
        profile = catalog.workloads[chip.workload]
        load = Workload(**profile.fields, use=profile.id)
        verdict = assess(chip.model, "rtx-3060-12gb", load, quantization=chip.quantization)
        assert chip.tier == verdict.tier, chip
        expected = {
            None: "unknown",
            False: "slow",
            True: {"comfortable": "yes"}.get(verdict.tier, verdict.tier),
        }
        want = (
            "no"
            if verdict.tier == "will-not-run"
            else "unknown"
            if verdict.tier == "unknown"
            else expected[verdict.practical]
        )
        assert chip.answer == want, chip


def test_a_larger_machine_keeps_its_chips() -> None:
    small = {chip.label for chip in chips("rtx-3060-12gb").chips if chip.answer == "yes"}
    large = {chip.label for chip in chips("rtx-4090").chips if chip.answer == "yes"}
    assert small <= large
