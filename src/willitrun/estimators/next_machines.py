"""Machines that one could move to: a vendor's cards in the order of what they cost, each with more memory than the last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from willitrun.catalog import Catalog
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.machines import Machine
from willitrun.units import parse_bytes, parse_rate

__all__ = ["CARD_FORMS", "machines_to_buy"]

CARD_FORMS = ("desktop", "workstation", "server", "server-pcie", "server-sxm", "server-oam")
"""Forms of accelerators that go into a board, and can be had in numbers."""


def machines_to_buy(catalog: Catalog, vendor: str) -> tuple[tuple[int, Machine], ...]:
    """Memory [bytes] and machine of each card of a vendor that no cheaper card matches in memory, cheapest first.

    Launch prices, by which cards compare even where none is sold new. A card without a price comes after all
    that have one. Cards whose rates no source states, and those that share the host's memory, are left out.
    """
    return catalog.remember(("machines-to-buy", vendor), lambda: _machines_to_buy(catalog, vendor))


def _machines_to_buy(catalog: Catalog, vendor: str) -> tuple[tuple[int, Machine], ...]:
    # Raw rows: most cards are passed over, and reading them as records would cost a verdict more than the rest of it.
    prices = _launch_prices(catalog)
    offers: list[tuple[float, int, str]] = []
    for identifier in catalog.accelerators:
        raw = catalog.accelerators.raw(identifier)
        if raw["vendor"] == vendor and _is_complete(raw):
            price = prices.get(identifier)
            if price is None and raw.get("msrp") is not None:
                price = parse_rate(raw["msrp"], "usd")
            offers.append((math.inf if price is None else price, parse_bytes(raw["memory"]), identifier))
    found: list[tuple[int, Machine]] = []
    most = 0
    for _, memory, identifier in sorted(offers):
        # A card that shows a few MiB more than another of its size is no larger one.
        if memory > most * 17 // 16:
            most = memory
            found.append((memory, describe_machine(identifier, catalog=catalog)))
    return tuple(found)


def _is_complete(raw: Mapping[str, Any]) -> bool:
    peaks = raw.get("peaks") or {}
    return (
        raw["kind"] == "gpu"
        and raw["form"] in CARD_FORMS
        and not raw.get("unified_memory")
        and all(raw.get(name) is not None for name in ("memory", "memory_bandwidth"))
        and any(peaks.get(name) is not None for name in ("fp32", "fp16_tensor"))
    )


def _launch_prices(catalog: Catalog) -> dict[str, float]:
    """Newest purchase price by card [USD]."""
    found: dict[str, tuple[str, float]] = {}
    for identifier in catalog.prices:
        raw = catalog.prices.raw(identifier)
        if raw["kind"] == "purchase":
            offer = str(raw["dated"]), parse_rate(raw["usd"], "usd")
            found[raw["subject"]] = max(found.get(raw["subject"], offer), offer)
    return {subject: price for subject, (_, price) in found.items()}
