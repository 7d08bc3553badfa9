"""What a second of a machine costs, and from where on owning it is cheaper than renting. All in USD."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "HOURS_PER_YEAR",
    "SECONDS_PER_HOUR",
    "break_even_hours",
    "cost_per_unit",
    "energy_per_unit_j",
    "energy_per_unit_kwh",
    "energy_usd_per_s",
    "job_hours",
    "job_kwh",
    "owned_usd_per_s",
    "per_hour",
    "quotient_spread",
    "rate_per_watt",
    "request_seconds",
    "token_usd",
    "units_of_hours",
]

FloatArray = NDArray[np.float64]

SECONDS_PER_HOUR = 3600.0
HOURS_PER_YEAR = 8766.0
"""365.25 days."""
JOULES_PER_KWH = 3.6e6


def energy_usd_per_s(power_w: ArrayLike, usd_per_kwh: ArrayLike) -> FloatArray:
    """Electricity of one second: ``W x USD/kWh / 3.6e6`` [USD/s].

    Examples
    --------
    >>> round(float(energy_usd_per_s(1000.0, 0.18)) * 3600, 6)
    0.18
    """
    found: FloatArray = np.asarray(power_w, dtype=np.float64) * np.asarray(usd_per_kwh) / JOULES_PER_KWH
    return found


def owned_usd_per_s(
    price_usd: ArrayLike,
    *,
    years: ArrayLike,
    utilisation: ArrayLike,
    power_w: ArrayLike,
    usd_per_kwh: ArrayLike,
    residual: ArrayLike = 0.0,
    idle_power_w: ArrayLike = 0.0,
) -> FloatArray:
    """One busy second of a machine that was bought [USD/s].

    ``price (1 - residual) / (years x utilisation) + energy(busy) + energy(idle) (1 - u) / u``: the price is spread
    over the busy seconds of its life, and idle seconds burn electricity that the busy ones have to pay.

    Parameters
    ----------
    price_usd
        What the machine cost [USD].
    years
        Life over which it is written off [years].
    utilisation
        Share of the time in which it works, above 0 [1].
    power_w, idle_power_w
        Power while it works and while it waits [W].
    usd_per_kwh
        Electricity [USD/kWh].
    residual
        Share of the price that it still fetches at the end [1].

    Examples
    --------
    >>> busy = owned_usd_per_s(1599.0, years=3, utilisation=0.5, power_w=450.0, usd_per_kwh=0.1872)
    >>> round(float(busy) * 3600, 3)
    0.206
    """
    use = np.asarray(utilisation, dtype=np.float64)
    life = np.asarray(years, dtype=np.float64) * HOURS_PER_YEAR * SECONDS_PER_HOUR
    written_off = np.asarray(price_usd, dtype=np.float64) * (1.0 - np.asarray(residual)) / (life * use)
    idle = energy_usd_per_s(idle_power_w, usd_per_kwh) * (1.0 - use) / use
    found: FloatArray = written_off + energy_usd_per_s(power_w, usd_per_kwh) + idle
    return found


def request_seconds(
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
    prefill_tokens_per_s: ArrayLike,
    throughput_tokens_per_s: ArrayLike,
    *,
    interleaved: ArrayLike,
) -> FloatArray:
    """Machine time that one request takes: ``output / throughput (+ prompt / prefill)`` [s].

    Where the runtime interleaves prefills with decoding, throughput contains them already.
    """
    reading = np.asarray(prompt_tokens, dtype=np.float64) / np.asarray(prefill_tokens_per_s)
    writing = np.asarray(output_tokens, dtype=np.float64) / np.asarray(throughput_tokens_per_s)
    found: FloatArray = writing + np.where(interleaved, 0.0, reading)
    return found


def cost_per_unit(usd_per_s: ArrayLike, units_per_s: ArrayLike, units: float = 1.0) -> FloatArray:
    """Cost of so many units: ``units x USD/s / rate``; infinite where nothing moves [USD]."""
    with np.errstate(divide="ignore"):
        found: FloatArray = units * np.asarray(usd_per_s, dtype=np.float64) / np.asarray(units_per_s)
    return found


def energy_per_unit_j(power_w: ArrayLike, units_per_s: ArrayLike) -> FloatArray:
    """Energy of one unit of work: power over rate [J].

    Examples
    --------
    >>> float(energy_per_unit_j(300.0, 120.0))
    2.5
    """
    with np.errstate(divide="ignore"):
        found: FloatArray = np.asarray(power_w, dtype=np.float64) / np.asarray(units_per_s)
    return found


def energy_per_unit_kwh(power_w: ArrayLike, units_per_s: ArrayLike) -> FloatArray:
    """Energy of one unit of work: power over rate [kWh]."""
    found: FloatArray = energy_per_unit_j(power_w, units_per_s) / JOULES_PER_KWH
    return found


def quotient_spread(
    above: tuple[float, float, float], below: tuple[float, float, float]
) -> tuple[float, float]:
    """Factors from the best estimate of a quotient to its low and high end, from (low, best, high) of both parts.

    The parts err on their own, so their logarithmic distances add in squares: ``exp(-+sqrt(ln^2 + ln^2))``.

    Examples
    --------
    >>> low, high = quotient_spread((200.0, 300.0, 400.0), (100.0, 100.0, 100.0))
    >>> round(low, 3), round(high, 3)
    (0.667, 1.333)
    """
    low = math.hypot(math.log(above[0] / above[1]), math.log(below[2] / below[1]))
    high = math.hypot(math.log(above[2] / above[1]), math.log(below[0] / below[1]))
    return math.exp(-low), math.exp(high)


def token_usd(
    usd_per_million: ArrayLike,
    usd_output_per_million: ArrayLike,
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
) -> FloatArray:
    """What a hosted API asks for one request [USD]."""
    asked = np.asarray(usd_per_million, dtype=np.float64) * np.asarray(prompt_tokens)
    answered = np.asarray(usd_output_per_million, dtype=np.float64) * np.asarray(output_tokens)
    found: FloatArray = (asked + answered) / 1e6
    return found


def break_even_hours(
    price_usd: ArrayLike, alternative_usd_per_s: ArrayLike, running_usd_per_s: ArrayLike
) -> FloatArray:
    """Busy hours after which a machine that was bought has paid for itself [h].

    ``price / (alternative - running)`` where running costs are those of the own machine without its price;
    infinite where the alternative is cheaper than the electricity alone.

    Examples
    --------
    >>> round(float(break_even_hours(1599.0, 0.74 / 3600, 0.084 / 3600)))
    2438
    >>> float(break_even_hours(1599.0, 0.05 / 3600, 0.084 / 3600))
    inf
    """
    saved = np.asarray(alternative_usd_per_s, dtype=np.float64) - np.asarray(running_usd_per_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        hours = np.asarray(price_usd, dtype=np.float64) / (saved * SECONDS_PER_HOUR)
    found: FloatArray = np.where(saved > 0.0, hours, np.inf)
    return found


def job_hours(units: ArrayLike, units_per_s: ArrayLike, machines: ArrayLike = 1) -> FloatArray:
    """Time of a job that machines share evenly: ``units / (machines x rate)``; infinite where nothing moves [h].

    Examples
    --------
    >>> float(job_hours(7200.0, 1.0, machines=2))
    1.0
    """
    with np.errstate(divide="ignore"):
        seconds = np.asarray(units, dtype=np.float64) / (np.asarray(units_per_s) * np.asarray(machines))
    found: FloatArray = seconds / SECONDS_PER_HOUR
    return found


def job_kwh(power_w: ArrayLike, hours: ArrayLike, machines: ArrayLike = 1) -> FloatArray:
    """Energy of machines that draw so much for so long [kWh]."""
    found: FloatArray = np.asarray(power_w, dtype=np.float64) * np.asarray(hours) * np.asarray(machines) / 1e3
    return found


def rate_per_watt(rate: ArrayLike, power_w: ArrayLike) -> FloatArray:
    """Work per second and watt, which is work per joule [1/J]."""
    found: FloatArray = np.asarray(rate, dtype=np.float64) / np.asarray(power_w)
    return found


def per_hour(per_s: ArrayLike) -> FloatArray:
    """What comes to so much per second, per hour."""
    found: FloatArray = np.asarray(per_s, dtype=np.float64) * SECONDS_PER_HOUR
    return found


def units_of_hours(hours: ArrayLike, units_per_s: ArrayLike) -> FloatArray:
    """Units of work that so many busy hours do."""
    found: FloatArray = np.asarray(hours, dtype=np.float64) * per_hour(units_per_s)
    return found
