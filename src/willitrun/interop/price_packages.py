"""Prices from maintained packages, where they are installed: genai-prices (tokens) and gpuhunt (rents).

They go into `willitrun.cost` as ``quotes=``. genai-prices ships its prices and is read offline; gpuhunt fetches its
catalog from the network, and does so when `rental_quotes` is called, never before.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from willitrun.errors import MissingExtraError
from willitrun.records.prices import Quote

__all__ = ["rental_quotes", "token_quotes"]


def token_quotes(
    model: str, names: Iterable[tuple[str, str]], *, today: date | None = None
) -> tuple[Quote, ...]:
    """Token prices of a model from genai-prices.

    Parameters
    ----------
    model
        Catalog id of the model that the quotes are for.
    names
        Pairs of provider id and model reference as genai-prices knows them: ``("groq", "llama-3.1-8b-instant")``.
    today
        Day for which prices are asked; prices that change by date follow it.

    Raises
    ------
    MissingExtraError
        The package is not installed (extra ``prices``).

    Notes
    -----
    The package says neither when it read a price nor how sure it is: quotes carry no date but its version.
    """
    try:
        from genai_prices import Usage, calc_price
    except ImportError as error:
        raise MissingExtraError("genai-prices", "prices") from error
    from datetime import datetime, time

    stamp = None if today is None else datetime.combine(today, time(), UTC)
    found = []
    for provider, name in names:
        million = 1_000_000
        priced: Any = calc_price(
            Usage(input_tokens=million, output_tokens=million),
            model_ref=name,
            provider_id=provider,
            genai_request_timestamp=stamp,
        )
        found.append(
            Quote(
                kind="tokens",
                subject=model,
                usd=float(priced.input_price),
                usd_output=float(priced.output_price),
                per="million tokens",
                provider=provider,
                source=f"genai-prices {_version('genai-prices')}, https://github.com/pydantic/genai-prices",
                note=f"{name}; the package carries no date of reading.",
            )
        )
    return tuple(found)


def rental_quotes(
    accelerator: str, name: str, *, count: int = 1, today: date | None = None, query: Any = None
) -> tuple[Quote, ...]:
    """Offers of an accelerator by the hour from gpuhunt, cheapest first; one per provider and terms.

    Parameters
    ----------
    accelerator
        Catalog id that the quotes are for.
    name
        The card as gpuhunt knows it: ``"RTX4090"``, ``"H100"``.
    count
        Accelerators per instance.
    query
        What to call instead of ``gpuhunt.query``, which uses the network.

    Raises
    ------
    MissingExtraError
        The package is not installed (extra ``prices``).
    """
    if query is None:
        try:
            import gpuhunt
        except ImportError as error:
            raise MissingExtraError("gpuhunt", "prices") from error
        query = gpuhunt.query
    day = today or date.today()
    best: dict[tuple[str, str], Quote] = {}
    for item in query(gpu_name=name, min_gpu_count=count, max_gpu_count=count):
        terms = "spot" if item.spot else "on-demand"
        quote = Quote(
            kind="rental",
            subject=accelerator,
            usd=float(item.price) / max(1, int(item.gpu_count)),
            per="accelerator and hour",
            provider=str(item.provider),
            terms=terms,
            count=int(item.gpu_count),
            dated=day,
            age_days=0,
            source=f"gpuhunt {_version('gpuhunt')}, https://github.com/dstackai/gpuhunt",
            note=f"{item.instance_name} in {item.location}",
        )
        key = (quote.provider, terms)
        if key not in best or quote.usd < best[key].usd:
            best[key] = quote
    return tuple(sorted(best.values(), key=lambda quote: quote.usd))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
