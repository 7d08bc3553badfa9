"""Recommendations: what is said to meet a goal does, and more money, power or patience never makes it worse."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from willitrun import InvalidWorkloadError, UnknownIdError, Workload, assess, load_catalog, recommend
from willitrun.records.recommendations import Option, Recommendation

TODAY = date(2026, 11, 28)
CARDS = [
    "rtx-3060-12gb",
    "nvidia-geforce-rtx-4060-ti-16gb",
    "rtx-3090",
    "rtx-4090",
    "rtx-5090",
    ["rtx-3090"] * 2,
    "rx-7900-xtx",
    "nvidia-l40s",
]


def asked(**more: object) -> Recommendation:
    arguments: dict[str, object] = {
        "targets": {"decode_tokens_per_s": 20.0},
        "quantizations": ["q4_k_m"],
        "candidates": CARDS,
        "today": TODAY,
    }
    return recommend("qwen3-32b", **(arguments | more))  # type: ignore[arg-type]


def test_options_agree_with_assess() -> None:
    found = asked()
    assert found.cheapest is not None
    for option in (*found.pareto, found.fastest, found.most_efficient, found.cheapest_rent):
        assert option is not None
        verdict = assess("qwen3-32b", list(option.accelerators), quantization=option.quantization)
        assert option.tier == verdict.tier
        assert option.rate is not None
        found_rate = verdict.speed.decode_tokens_per_s  # type: ignore[union-attr]
        for bound in ("low", "best", "high"):
            assert getattr(option.rate, bound) == pytest.approx(getattr(found_rate, bound), rel=1e-9)
        assert option.rate.best >= 20.0
        assert option.meets


def test_the_best_of_each_kind() -> None:
    found = asked()
    usd = [option.usd for option in found.pareto]
    assert usd == sorted(usd)  # type: ignore[type-var]
    assert found.pareto[0] == found.cheapest
    assert found.fastest is not None
    assert found.fastest.rate.best == max(option.rate.best for option in found.pareto)  # type: ignore[union-attr]
    assert found.most_efficient in found.pareto


def worth(option: Option | None) -> tuple[float, float]:
    """Speed of the fastest and negative price of the cheapest: larger is better, nothing is worst."""
    if option is None or option.rate is None or option.usd is None:
        return (float("-inf"), float("-inf"))
    return (option.rate.best, -option.usd)


@settings(max_examples=12, deadline=None)
@given(st.floats(100, 6000), st.floats(100, 6000))
def test_a_bigger_budget_never_gives_a_worse_plan(a: float, b: float) -> None:
    small, large = (asked(budget_usd=budget) for budget in sorted((a, b)))
    assert worth(small.fastest)[0] <= worth(large.fastest)[0] or not small.pareto
    if small.cheapest is not None:
        assert large.cheapest is not None
        assert large.cheapest.usd == small.cheapest.usd
        assert large.fastest.rate.best >= small.fastest.rate.best  # type: ignore[union-attr]
        assert (large.most_efficient.rate_per_watt or 0) >= (small.most_efficient.rate_per_watt or 0)  # type: ignore[union-attr]
    assert small.met <= large.met


def test_more_power_and_lower_targets_never_make_it_worse() -> None:
    counts = [asked(power_w=power).met for power in (100, 300, 400, 600, 1200)]
    assert counts == sorted(counts)
    counts = [asked(targets={"decode_tokens_per_s": target}).met for target in (60.0, 30.0, 15.0, 1.0)]
    assert counts == sorted(counts)


def test_a_cheaper_price_never_makes_it_dearer() -> None:
    before = asked()
    assert before.cheapest is not None
    for usd in (900.0, 300.0, 0.0):
        after = asked(prices={"nvidia-geforce-rtx-4090": usd})
        assert after.cheapest is not None
        assert (after.cheapest.usd or 0) <= min(before.cheapest.usd or 0, max(usd, before.cheapest.usd or 0))
    assert asked(prices={"nvidia-geforce-rtx-4090": 0.0}).cheapest.accelerators == (
        "nvidia-geforce-rtx-4090",
    )  # type: ignore[union-attr]


def test_noise_of_prices_keeps_to_the_budget() -> None:
    plain = asked(budget_usd=1600.0)
    noisy = asked(budget_usd=1600.0, price_noise=0.5)
    assert noisy.met <= plain.met
    for option in noisy.pareto:
        assert option.usd_high is not None
        assert option.usd_high <= 1600.0


def test_every_price_is_dated_and_cited() -> None:
    found = asked()
    for option in (*found.pareto, found.cheapest_rent):
        assert option is not None
        assert option.quotes
        for quote in option.quotes:
            assert quote.dated is not None
            assert quote.age_days is not None
            assert "http" in quote.source
    assert any("stale" in note for note in found.notes)
    shown = dict(found.rows())
    assert any(key.startswith("price: ") for key in shown)


def test_what_has_no_price_is_named() -> None:
    found = asked(candidates=["m3-max-40gpu:64 GiB", "rtx-4090"], targets={"decode_tokens_per_s": 10.0})
    assert "Apple M3 Max (40-core GPU)" in found.without_price


def test_owned_and_what_it_would_take() -> None:
    does = recommend("llama-3.1-8b", quantizations="q4_k_m", owned="rtx-3090", candidates=CARDS, today=TODAY)
    assert does.owned is not None
    assert does.owned.meets
    assert "does it already" in repr(does)
    lacks = recommend(
        "llama-3.3-70b",
        targets={"decode_tokens_per_s": 10},
        quantizations="q4_k_m",
        owned="rtx-3090",
        candidates=CARDS,
        today=TODAY,
    )
    assert lacks.owned is not None
    assert not lacks.owned.meets
    assert lacks.owned.misses
    assert lacks.additions
    card = lacks.additions[0]
    assert "nvidia-geforce-rtx-3090" in card.accelerators
    verdict = assess("llama-3.3-70b", list(card.accelerators), quantization="q4_k_m")
    assert verdict.feasible
    prices = [option.usd or 0 for option in lacks.additions]
    assert prices == sorted(prices)
    assert any("Add" in step for step in lacks.to_reach)


def test_times_are_ceilings() -> None:
    load = Workload(concurrency=16, prompt_tokens=2048)
    counts = [
        recommend(
            "llama-3.1-8b",
            load,
            targets={"time_to_first_token_s": limit},
            quantizations="awq-int4",
            runtime="vllm",
            candidates=CARDS,
            today=TODAY,
        ).met
        for limit in (0.01, 1.0, 60.0)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_the_whole_catalog() -> None:
    found = recommend("llama-3.1-8b", quantizations="q4_k_m", today=TODAY)
    assert found.considered > 200
    assert found.cheapest is not None
    known = {price.subject for price in load_catalog().prices.values()}
    assert found.cheapest.accelerators[0] in known | {
        a.id for a in load_catalog().accelerators.values() if a.msrp
    }


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InvalidWorkloadError, match="speed_of_light"):
        asked(targets={"speed_of_light": 3.0})
    with pytest.raises(InvalidWorkloadError, match="above 0"):
        asked(targets={"decode_tokens_per_s": 0.0})
    with pytest.raises(InvalidWorkloadError, match="budget"):
        asked(budget_usd=-5.0)
    with pytest.raises(UnknownIdError, match="splendid"):
        asked(tier="splendid")
    with pytest.raises(InvalidWorkloadError, match="no machine"):
        asked(candidates=[])


def test_it_travels() -> None:
    found = asked()
    assert Recommendation.model_validate_json(found.model_dump_json()) == found
    assert "<table>" in found._repr_html_()


def test_pictures_a_second_are_reached_in_batches() -> None:
    """At batch 1 the host starts kernels and no card there is reaches a thousand: none was recommended."""
    found = recommend("resnet-50", targets={"images_per_s": 1000}, candidates=["rtx-3060-12gb", "rtx-4090"])
    assert found.cheapest is not None
    assert found.cheapest.batch_size is not None
    assert found.cheapest.batch_size > 1
    alone = recommend(
        "resnet-50", Workload(batch_size=1), targets={"images_per_s": 1000}, candidates=["rtx-4090"]
    )
    assert alone.cheapest is None
    easy = recommend("resnet-50", targets={"images_per_s": 50}, candidates=["rtx-4090"])
    assert easy.cheapest is not None
    assert easy.cheapest.batch_size == 1
    assert "in batches of 16" in str(
        recommend("resnet-50", targets={"images_per_s": 1000}, candidates=["rtx-4090"]).rows()
    )


@pytest.mark.parametrize(
    ("model", "goal"),
    [("whisper-large-v3", {"real_time_factor": 60.0}), ("bge-small-en-v1.5", {"samples_per_s": 600.0})],
)
def test_speech_and_texts_are_taken_in_batches_too(model: str, goal: dict[str, float]) -> None:
    """No card of the catalog transcribes one window at a time at thirty times real time in Transformers."""
    found = recommend(model, targets=goal, candidates=["rtx-4090"])
    assert found.cheapest is not None
    assert (found.cheapest.batch_size or 1) > 1
    assert recommend(model, Workload(batch_size=1), targets=goal, candidates=["rtx-4090"]).cheapest is None


@pytest.mark.parametrize(
    ("model", "target"), [("sdxl", "decode_tokens_per_s"), ("llama-3.1-8b", "images_per_s")]
)
def test_a_rate_that_the_model_has_not_is_no_target(model: str, target: str) -> None:
    with pytest.raises(InvalidWorkloadError, match=target):
        recommend(model, targets={target: 10}, candidates=["rtx-4090"])
