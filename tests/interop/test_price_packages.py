"""Prices of other packages as quotes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pytest

from willitrun import cost
from willitrun.interop.price_packages import rental_quotes, token_quotes


@dataclass
class Item:
    """An offer as gpuhunt gives it."""

    instance_name: str
    location: str
    price: float
    gpu_count: int
    spot: bool
    provider: str


def offers(**asked: object) -> list[Item]:
    assert asked == {"gpu_name": "RTX4090", "min_gpu_count": 2, "max_gpu_count": 2}
    return [
        Item("a", "eu", 1.4, 2, False, "north"),
        Item("b", "us", 1.0, 2, False, "north"),
        Item("c", "us", 0.6, 2, True, "north"),
        Item("d", "us", 1.2, 2, False, "south"),
    ]


def test_rents_by_card_cheapest_first() -> None:
    found = rental_quotes(
        "nvidia-geforce-rtx-4090", "RTX4090", count=2, today=date(2026, 11, 28), query=offers
    )
    assert [(quote.provider, quote.terms, quote.usd) for quote in found] == [
        ("north", "spot", 0.3), ("north", "on-demand", 0.5), ("south", "on-demand", 0.6),
    ]  # fmt: skip
    assert all("gpuhunt" in quote.source for quote in found)


def test_token_prices_go_into_a_cost() -> None:
    pytest.importorskip("genai_prices")
    quotes = token_quotes("llama-3.1-8b", [("groq", "llama-3.1-8b-instant")])
    assert quotes[0].usd > 0
    assert quotes[0].usd_output is not None
    found = cost("llama-3.1-8b", "rtx-4090", quantization="q4_k_m", quotes=quotes)
    assert any(line.quote == quotes[0] for line in found.lines)
