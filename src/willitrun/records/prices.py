"""Prices: dated and cited facts, and what an answer shows of them."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from willitrun.records.bases import CitedRecord, Record, Usd

__all__ = ["Price", "PriceAge", "PriceKind", "Quote"]

PriceKind = Literal["purchase", "rental", "electricity", "tokens"]


class Price(CitedRecord):
    """What something cost on a day. A change is a new entry with a new date, never an overwrite."""

    kind: PriceKind
    subject: str
    """Accelerator id (purchase, rental), model id (tokens), or the sector of electricity."""
    usd: Usd
    """Per item (purchase), accelerator and hour (rental), kWh (electricity), million input tokens (tokens)."""
    usd_output: Usd | None = None
    """Per million output tokens."""
    provider: str = ""
    terms: str = ""
    """``on-demand``, ``spot``, ``community``: what the provider promises for it."""
    count: int = Field(1, ge=1)
    """Accelerators that are rented together at least."""
    dated: date
    """Day on which the price was read or announced."""
    note: str = ""

    @classmethod
    def _labels(cls) -> set[str]:
        return {"kind", "subject", "note"}


class PriceAge(CitedRecord):
    """From which age on a price of a kind is called stale."""

    kind: PriceKind
    stale_days: int = Field(gt=0)

    @classmethod
    def _labels(cls) -> set[str]:
        return {"kind"}


class Quote(Record):
    """A price in an answer: how much, how old, and who says so."""

    kind: PriceKind
    subject: str
    usd: float
    usd_output: float | None = None
    per: str
    provider: str = ""
    terms: str = ""
    count: int = 1
    dated: date | None = None
    """None where the caller gave the price."""
    age_days: int | None = None
    stale: bool = False
    source: str = ""
    """Title and URL; ``given`` where the caller gave the price."""
    note: str = ""

    def text(self) -> str:
        """``1,599 USD per item (2022-10-12, 1,508 days old: stale; Wikipedia ...)``."""
        amount = f"{self.usd:,.0f}" if self.usd >= 100 else f"{self.usd:,.4g}"
        if self.usd_output is not None:
            amount += f" / {self.usd_output:,.4g}"
        where = f" at {self.provider}" + (f" ({self.terms})" if self.terms else "") if self.provider else ""
        if self.dated is None:
            return f"{amount} USD per {self.per}{where} (given)"
        age = f"{self.age_days:,} days old" + (": stale" if self.stale else "")
        return f"{amount} USD per {self.per}{where} ({self.dated.isoformat()}, {age}; {self.source})"
