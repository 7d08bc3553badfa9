"""Replicas under load: Little's law for what is in flight, Erlang's C for what has to wait.

A replica is a server of ``c`` slots whose service slows down as slots fill. Its speed is known at some numbers of
sequences in flight; in between, throughput is interpolated. Columns broadcast: caps of slots against replicas.

Sources: Little, "A proof for the queuing formula L = lambda W" (1961), https://doi.org/10.1287/opre.9.3.383 ;
Allen and Cunneen's correction of M/M/c for M/G/c as in Whitt, "Approximations for the GI/G/m queue" (1993),
https://doi.org/10.1111/j.1937-5956.1993.tb00094.x .
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "closed_arrivals_per_s",
    "erlang_c",
    "finished_per_s",
    "in_flight",
    "interpolate",
    "response_seconds",
    "shared_token_seconds",
    "service_variation",
    "wait_mean_s",
    "wait_quantile_s",
]

FloatArray = NDArray[np.float64]
_HALVINGS = 60
"""Bisections: 2^-60 of the slots is far below one request."""


def closed_arrivals_per_s(users: ArrayLike, think_s: ArrayLike, response_s: ArrayLike) -> FloatArray:
    """Requests of users who think, ask, and wait: ``N / (Z + R)`` [1/s], the interactive response-time law.

    With the response of an idle server it is an upper bound: slower answers make people ask less often.

    Examples
    --------
    >>> float(closed_arrivals_per_s(100, 45.0, 5.0))
    2.0
    """
    found: FloatArray = np.asarray(users, dtype=np.float64) / (np.asarray(think_s) + np.asarray(response_s))
    return found


def response_seconds(
    first_token_s: ArrayLike, output_tokens: ArrayLike, per_token_s: ArrayLike
) -> FloatArray:
    """One request from its start to its last token: ``TTFT + (output - 1) TPOT`` [s]."""
    rest = np.maximum(np.asarray(output_tokens, dtype=np.float64) - 1.0, 0.0)
    found: FloatArray = np.asarray(first_token_s, dtype=np.float64) + rest * np.asarray(per_token_s)
    return found


def shared_token_seconds(
    per_token_s: ArrayLike,
    in_flight: ArrayLike,
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
    prefill_per_s: ArrayLike,
) -> FloatArray:
    """Time per output token while the prompts of the others are read in between [s].

    For every token that each of ``B`` sequences writes, ``B x prompt / output`` tokens of prompts have to be read:
    ``step + B (prompt / output) / prefill rate``. For runtimes whose ``per_token_s`` is that of writing alone.

    Examples
    --------
    >>> float(shared_token_seconds(0.02, 8, 1000, 100, 4000))
    0.04
    """
    read = np.asarray(in_flight, dtype=np.float64) * np.asarray(prompt_tokens) / np.asarray(output_tokens)
    found: FloatArray = np.asarray(per_token_s, dtype=np.float64) + read / np.asarray(prefill_per_s)
    return found


def service_variation(
    prompt_variance: ArrayLike,
    output_variance: ArrayLike,
    prompt_s: ArrayLike,
    token_s: ArrayLike,
    mean_s: ArrayLike,
) -> FloatArray:
    """Squared coefficient of variation of the service time, lengths of prompt and output being independent [1].

    ``(var(prompt) a^2 + var(output) b^2) / S^2`` with a seconds per prompt token and b per output token.
    """
    variance = np.asarray(prompt_variance, dtype=np.float64) * np.square(prompt_s)
    variance = variance + np.asarray(output_variance) * np.square(token_s)
    found: FloatArray = variance / np.square(mean_s)
    return found


def interpolate(at: ArrayLike, counts: FloatArray, values: FloatArray) -> FloatArray:
    """Values that are known at some counts in flight, in between and (flat) below the first."""
    found: FloatArray = np.interp(np.asarray(at, dtype=np.float64), counts, values)
    return found


def finished_per_s(counts: FloatArray, response_s: FloatArray) -> FloatArray:
    """Requests that a replica finishes with so many in flight: ``X = L / S(L)``, never less with more [1/s]."""
    found: FloatArray = np.maximum.accumulate(counts / response_s)
    return found


def in_flight(
    arrivals_per_s: ArrayLike, counts: FloatArray, response_s: FloatArray, slots: ArrayLike
) -> FloatArray:
    """Requests in flight at which a replica finishes as many as arrive; NaN where it never does (saturated).

    The fixed point ``L = lambda S(L)`` of Little's law, found by bisection on ``X(L) = L / S(L)``, which is
    interpolated from ``X(0) = 0`` and does not fall with L.

    Parameters
    ----------
    arrivals_per_s
        Requests that reach one replica [1/s].
    counts, response_s
        Numbers in flight, rising, and the response time at each [s].
    slots
        Most that are in flight at once; the others wait.

    Examples
    --------
    >>> counts, response = np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 2.0])
    >>> in_flight([0.5, 1.5, 2.5], counts, response, 4.0).tolist()
    [0.5, 1.5, nan]
    """
    nodes = np.concatenate(([0.0], counts))
    finished = np.concatenate(([0.0], finished_per_s(counts, response_s)))
    wanted, most = np.broadcast_arrays(
        np.asarray(arrivals_per_s, dtype=np.float64), np.asarray(slots, dtype=np.float64)
    )
    low, high = np.zeros(wanted.shape), most.astype(np.float64)
    saturated = wanted >= np.interp(most, nodes, finished)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        enough = np.interp(middle, nodes, finished) >= wanted
        high = np.where(enough, middle, high)
        low = np.where(enough, low, middle)
    found: FloatArray = np.where(saturated, np.nan, high)
    return found


def erlang_c(offered: ArrayLike, slots: ArrayLike) -> FloatArray:
    """Probability that an arrival finds all slots taken, Poisson arrivals; 1 from ``offered >= slots`` on.

    By the recursion of Erlang's B, ``B_k = a B / (k + a B)``, and ``C = B / (1 - (a / c)(1 - B))``.

    Parameters
    ----------
    offered
        Work that arrives, in slots that it would keep busy: arrivals times service time [1].
    slots
        Whole numbers above 0.

    Examples
    --------
    >>> round(float(erlang_c(2.0, 3)), 4), float(erlang_c(0.5, 1)), float(erlang_c(4.0, 3))
    (0.4444, 0.5, 1.0)
    """
    load, count = np.broadcast_arrays(
        np.asarray(offered, dtype=np.float64), np.asarray(slots, dtype=np.int64)
    )
    blocked = np.ones(load.shape)
    for k in range(1, int(count.max(initial=0)) + 1):
        blocked = np.where(k <= count, load * blocked / (k + load * blocked), blocked)
    share = load / count
    with np.errstate(divide="ignore", invalid="ignore"):
        waits = blocked / (1.0 - share * (1.0 - blocked))
    found: FloatArray = np.where(share >= 1.0, 1.0, waits)
    return found


def wait_mean_s(
    arrivals_per_s: ArrayLike, capacity_per_s: ArrayLike, slots: ArrayLike, variation: ArrayLike
) -> FloatArray:
    """Mean wait for a slot: ``C (1 + cs^2) / 2 / (capacity - arrivals)`` [s]; infinite where saturated.

    Examples
    --------
    >>> float(wait_mean_s(0.5, 1.0, 1, 1.0)), float(wait_mean_s(1.0, 1.0, 1, 1.0))
    (1.0, inf)
    """
    return _drained(arrivals_per_s, capacity_per_s, slots, variation, lambda waits: waits)


def wait_quantile_s(
    arrivals_per_s: ArrayLike, capacity_per_s: ArrayLike, slots: ArrayLike, variation: ArrayLike, share: float
) -> FloatArray:
    """Wait that a share of requests stays below [s]: ``ln(C / (1 - share)) (1 + cs^2) / 2 / (capacity - arrivals)``.

    Nothing where fewer than ``1 - share`` have to wait; infinite where saturated. The tail is exponential as in
    M/M/c, stretched by the variation of the service.

    Examples
    --------
    >>> round(float(wait_quantile_s(0.5, 1.0, 1, 1.0, 0.95)), 3), float(wait_quantile_s(0.01, 1.0, 1, 1.0, 0.95))
    (4.605, 0.0)
    """
    return _drained(
        arrivals_per_s,
        capacity_per_s,
        slots,
        variation,
        lambda waits: np.log(np.maximum(waits / (1.0 - share), 1.0)),
    )


def _drained(
    arrivals_per_s: ArrayLike,
    capacity_per_s: ArrayLike,
    slots: ArrayLike,
    variation: ArrayLike,
    weight: Callable[[FloatArray], FloatArray],
) -> FloatArray:
    arrivals = np.asarray(arrivals_per_s, dtype=np.float64)
    capacity = np.asarray(capacity_per_s, dtype=np.float64)
    waits = erlang_c(arrivals * np.asarray(slots) / capacity, slots)
    spare = capacity - arrivals
    with np.errstate(divide="ignore", invalid="ignore"):
        found = weight(waits) * (1.0 + np.asarray(variation)) / 2.0 / spare
    result: FloatArray = np.where(spare > 0.0, found, np.inf)
    return result
