"""Prices: every one has a date, a source and a subject that exists."""

from __future__ import annotations

from datetime import date

from willitrun import load_catalog
from willitrun.planning.prices import DEFAULT_SECTOR, quote_purchase


def test_subjects_exist() -> None:
    catalog = load_catalog()
    tables = {"purchase": catalog.accelerators, "rental": catalog.accelerators, "tokens": catalog.models}
    assert len(catalog.prices) > 80
    for price in catalog.prices.values():
        if price.kind in tables:
            assert price.subject in tables[price.kind], price.id
        assert (price.usd_output is not None) == (price.kind == "tokens"), price.id
        assert (price.provider != "") == (price.kind in ("rental", "tokens")), price.id
        assert price.dated <= catalog.sources[price.cite["*"][0].source].retrieved, price.id


def test_every_kind_has_an_age() -> None:
    catalog = load_catalog()
    kinds = [age.kind for age in catalog.price_ages.values()]
    assert sorted(kinds) == ["electricity", "purchase", "rental", "tokens"]
    assert any(price.subject == DEFAULT_SECTOR for price in catalog.prices.values())


def test_a_launch_price_without_a_day_is_no_price() -> None:
    catalog = load_catalog()
    priced = [record for record in catalog.accelerators.values() if record.msrp is not None]
    assert len(priced) > 50
    today = date(2026, 11, 28)
    for record in priced:
        found = quote_purchase(record.id, catalog, today=today)
        assert (found is None) == (record.launched is None), record.id
        assert record.citations("msrp"), record.id
        if found is not None:
            assert found.dated is not None
            assert "http" in found.source
