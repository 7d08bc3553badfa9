"""Costs: spread over the speed that `assess` predicts, with every price dated, and stale ones called so."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from willitrun import InvalidWorkloadError, UnitError, Workload, assess, cost, load_catalog
from willitrun.records.costs import Cost
from willitrun.records.prices import Quote

TODAY = date(2026, 11, 28)
LOAD = Workload(concurrency=16, prompt_tokens=512, output_tokens=128)


def asked(**more: object) -> Cost:
    return cost("llama-3.1-8b", "rtx-4090", LOAD, quantization="awq-int4", today=TODAY, **more)  # type: ignore[arg-type]


def test_the_parts_add_up() -> None:
    found = asked(
        purchase_usd=1600.0,
        electricity_usd_per_kwh=0.2,
        rental_usd_per_hour=0.5,
        tokens_usd_per_million=(0.05, 0.08),
        power_w=400.0,
        utilisation=0.5,
        years=2,
    )
    speed = assess("llama-3.1-8b", "rtx-4090", LOAD, quantization="awq-int4").speed
    assert speed is not None
    assert speed.throughput_tokens_per_s is not None
    hourly = speed.throughput_tokens_per_s.best * 3600 / 1e6
    assert found.units_per_hour is not None
    assert found.units_per_hour.best == pytest.approx(hourly), (
        "vLLM interleaves: throughput holds the prefills"
    )
    own, rent, api = found.lines
    assert own.usd_per_hour == pytest.approx(1600 / (2 * 8766 * 0.5) + 0.4 * 0.2)
    assert rent.usd_per_unit.best == pytest.approx(0.5 / hourly)
    assert api.usd_per_unit.best == pytest.approx(1e6 / 128 * (512 * 0.05e-6 + 128 * 0.08e-6))
    assert own.usd_per_unit.low < own.usd_per_unit.best < own.usd_per_unit.high
    assert found.energy_kwh_per_unit is not None
    assert found.energy_kwh_per_unit.best == pytest.approx(0.4 / hourly)
    against_rent = found.break_even[0]
    assert against_rent.hours is not None
    assert against_rent.hours.best == pytest.approx(1600 / (0.5 - 0.08))
    assert against_rent.years is not None
    assert against_rent.years.best == pytest.approx(against_rent.hours.best / 8766 / 0.5)


def test_llama_cpp_reads_the_prompt_first() -> None:
    found = cost(
        "llama-3.1-8b",
        "rtx-4090",
        Workload(prompt_tokens=4096, output_tokens=64),
        quantization="q4_k_m",
        today=TODAY,
    )
    speed = assess(
        "llama-3.1-8b", "rtx-4090", Workload(prompt_tokens=4096, output_tokens=64), quantization="q4_k_m"
    ).speed
    assert speed is not None
    seconds = 4096 / speed.prefill_tokens_per_s.best + 64 / speed.throughput_tokens_per_s.best  # type: ignore[union-attr]
    assert found.units_per_hour is not None
    assert found.units_per_hour.best == pytest.approx(3600 / seconds * 64 / 1e6)


def test_a_cheaper_price_never_costs_more() -> None:
    before = asked()
    for name, values in {
        "purchase_usd": (2000.0, 1000.0, 0.0),
        "electricity_usd_per_kwh": (0.4, 0.2, 0.0),
        "rental_usd_per_hour": (2.0, 0.5, 0.0),
    }.items():
        way = "rent" if name.startswith("rental") else "own"
        costs = [
            next(line for line in asked(**{name: value}).lines if line.way == way).usd_per_unit.best
            for value in values
        ]
        assert costs == sorted(costs, reverse=True), name
    cheaper = asked(tokens_usd_per_million=(0.0, 0.0))
    assert cheaper.cheapest is not None
    assert before.cheapest is not None
    assert cheaper.cheapest.usd_per_unit.best <= before.cheapest.usd_per_unit.best


def test_every_price_shows_its_date_and_source() -> None:
    found = asked()
    assert {quote.kind for quote in found.prices} == {"purchase", "rental", "electricity", "tokens"}
    for quote in found.prices:
        assert quote.dated is not None
        assert quote.age_days == (TODAY - quote.dated).days
        assert "http" in quote.source
        assert quote.dated.isoformat() in quote.text()
    shown = " ".join(text for label, text in found.rows() if label == "price")
    assert "2022-10-12" in shown, "launch price of the card"
    assert ": stale" in shown


def test_stale_from_the_stated_age_on() -> None:
    catalog = load_catalog()
    days = next(age.stale_days for age in catalog.price_ages.values() if age.kind == "electricity")
    price = next(
        price for price in catalog.prices.values() if price.id == "electricity-us-residential-2026-04"
    )
    fresh = cost("resnet-50", "rtx-3060-12gb", today=price.dated + timedelta(days=days))
    old = cost("resnet-50", "rtx-3060-12gb", today=price.dated + timedelta(days=days + 1))
    assert not fresh.prices[0].stale
    assert old.prices[0].stale
    assert any("stale" in note for note in old.notes)


def test_the_newest_offer_counts() -> None:
    found = cost("llama-3.1-8b", "h100-sxm", quantization="bf16", today=TODAY)
    runpod = [quote for quote in found.prices if quote.kind == "rental" and quote.provider == "RunPod"]
    assert [(quote.usd, quote.dated) for quote in runpod] == [(3.99, date(2026, 11, 9))]
    assert all(quote.count == 1 for quote in found.prices if quote.kind == "rental"), (
        "no bundle of eight for one card"
    )


def test_what_has_no_price_is_absent_and_said() -> None:
    found = cost("qwen3-8b", "m3-max-40gpu", today=TODAY)
    assert found.lines == ()
    assert any("purchase_usd" in note for note in found.notes)
    given = cost("qwen3-8b", "m3-max-40gpu", purchase_usd=3000.0, power_w=60.0, today=TODAY)
    assert [line.way for line in given.lines] == ["own"]


def test_other_units() -> None:
    images = cost("resnet-50", "rtx-3060-12gb", Workload(batch_size=256), today=TODAY)
    assert images.unit == "thousand images"
    speech = cost("whisper-large-v3", "rtx-4090", today=TODAY)
    assert speech.unit == "hour of audio"
    speed = assess("whisper-large-v3", "rtx-4090").speed
    assert speech.units_per_hour is not None
    assert speech.units_per_hour.best == pytest.approx(speed.real_time_factor.best)  # type: ignore[union-attr]
    assert cost("llama-3.1-405b", "rtx-4090", quantization="bf16", today=TODAY).lines == ()


def test_never_pays_where_an_api_is_below_the_electricity() -> None:
    found = asked(tokens_usd_per_million=(0.0, 1e-6))
    point = next(point for point in found.break_even if point.against.startswith("api"))
    assert point.hours is None
    assert "never" in point.message


def test_quotes_of_packages_count() -> None:
    quote = Quote(
        kind="rental",
        subject="nvidia-geforce-rtx-4090",
        usd=0.01,
        per="accelerator and hour",
        provider="Aunt May",
        terms="on-demand",
    )
    found = asked(quotes=[quote])
    assert found.cheapest is not None
    assert found.cheapest.name == "Aunt May on-demand"


@pytest.mark.parametrize(
    "wrong",
    [{"utilisation": 0.0}, {"utilisation": 1.5}, {"years": 0.0}, {"residual": -0.1}, {"power_w": -1.0}],
)
def test_what_is_wrong_is_said(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidWorkloadError, match=next(iter(wrong)).split("_")[0]):
        asked(**wrong)


def test_a_negative_price() -> None:
    with pytest.raises(UnitError, match="price"):
        asked(rental_usd_per_hour=-1.0)


def test_it_travels() -> None:
    found = asked()
    assert Cost.model_validate_json(found.model_dump_json()) == found
    assert "per million output tokens" in found._repr_html_()
