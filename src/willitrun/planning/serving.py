"""`plan_serving`: replicas, hardware and money of a service that has to keep its latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog, load_catalog
from willitrun.checkpoints.descriptions import describe_model
from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.evaluation import Evaluated, evaluate
from willitrun.estimators.requests import Request, complete_request
from willitrun.estimators.workloads import LLM_TASKS
from willitrun.frozen import frozen
from willitrun.intervals import Interval
from willitrun.kernels.costs import SECONDS_PER_HOUR, cost_per_unit
from willitrun.kernels.queueing import (
    closed_arrivals_per_s,
    finished_per_s,
    in_flight,
    interpolate,
    response_seconds,
    service_variation,
    shared_token_seconds,
    wait_mean_s,
    wait_quantile_s,
)
from willitrun.planning.lengths import Lengths, read_lengths
from willitrun.planning.offers import board_power, bought_of, rents_of
from willitrun.records.prices import Quote
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.results import Tier
from willitrun.records.serving import ServingOption, ServingPlan
from willitrun.verdicts import best_comfortable

__all__ = ["plan_serving"]

TARGETS = ("time_to_first_token_s", "time_per_output_token_s", "throughput_tokens_per_s")
_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_RUNS: dict[str, tuple[Tier, ...]] = {"comfortable": ("comfortable",), "tight": ("comfortable", "tight")}
_MOST_REPLICAS = 4096
_LAST_RESORT = ("awq-int4",)
"""Formats that nobody is given who did not ask, while a better one does."""
_NOTES = (
    "Arrivals are random (Poisson) at the rate of the busiest hour, spread evenly over replicas; slots wait as in M/G/c.",
    "Every slot can hold the longest request; prompt and output lengths are taken as independent.",
    "A replica is one whole machine. Rent is that of its cards; board power is an upper bound.",
)


def plan_serving(
    model: Any,
    machines: Any = None,
    *,
    requests_per_s: float | None = None,
    users: int | None = None,
    think_time_s: float = 60.0,
    prompt_tokens: Any = 512,
    output_tokens: Any = 128,
    targets: Mapping[str, float] | None = None,
    percentile: float = 0.95,
    utilisation: float = 0.85,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    tier: str = "tight",
    quotes: Sequence[Quote] = (),
    today: date | None = None,
    catalog: Catalog | None = None,
) -> ServingPlan:
    """How many machines of each kind a service needs, and what they cost.

    Parameters
    ----------
    model
        Whatever `describe_model` takes.
    machines
        One machine or a list of machines, each the hardware of one replica; None is this machine.
        Several cards in one machine are a list inside the list, or ``"rtx-3090 x2"``.
    requests_per_s
        Arrivals in the busiest hour [1/s].
    users, think_time_s
        Instead: people who are active at once, and the pause between an answer and the next request [s].
    prompt_tokens, output_tokens
        A length, samples of lengths, or a mapping of lengths to weights [tokens].
    targets
        ``time_to_first_token_s`` (most, at the percentile, queueing included), ``time_per_output_token_s`` (most, with
        all slots taken), ``throughput_tokens_per_s`` (output tokens that all replicas could make, at least).
    percentile
        Share of the requests that see the first token in time [1].
    utilisation
        Most of a replica's throughput that the load may take [1]: queues grow without end towards 1.
    quantization, runtime, placement, catalog
        As for `assess`. Where neither format nor runtime is named, the model's default and vLLM are compared.
    tier
        Least tier of a replica with all its slots: ``tight`` or ``comfortable``.
    quotes
        Rentals of a price package, see `willitrun.interop.price_packages`.
    today
        Day on which the ages of prices are counted.

    Returns
    -------
    ServingPlan
        An option per machine with replicas at the best, fast and slow estimate of its speed; cheapest first. Equations
        in `willitrun.kernels.queueing`.

    Raises
    ------
    InvalidWorkloadError
        Neither or both of requests_per_s and users; an unknown target; a model that does not write tokens.

    Examples
    --------
    >>> found = plan_serving("llama-3.1-8b", ["l4", "h100-sxm"], requests_per_s=5, prompt_tokens={500: 3, 4000: 1},
    ...     output_tokens=200, targets={"time_to_first_token_s": 2.0}, quantization="bf16", runtime="vllm")
    >>> all(option.replicas for option in found.options)
    True
    """
    goals = _checked(requests_per_s, users, think_time_s, percentile, utilisation, targets or {}, tier)
    catalog = catalog or load_catalog()
    model = describe_model(model, catalog=catalog)
    if model.task not in LLM_TASKS:
        raise InvalidWorkloadError(
            f"{model.name} does {model.task}: a service is planned for models that write tokens.",
            hint="plan_batch plans jobs of other models.",
        )
    prompt, output = (
        read_lengths(prompt_tokens, "prompt_tokens"),
        read_lengths(output_tokens, "output_tokens"),
    )
    places = machines if isinstance(machines, list | tuple) else [machines]
    if not places:
        raise InvalidWorkloadError("there are no machines to plan with.")
    context = prompt.longest + output.longest
    load = Workload(
        context_tokens=context,
        prompt_tokens=ceil(prompt.mean),
        output_tokens=ceil(output.mean),
        concurrency=1,
    )
    options, rates = [], []
    for place in places:
        best: tuple[ServingOption, Request, float | None] | None = None
        for one, style in _recipes(quantization, runtime):
            if best is not None and best[0].replicas is not None and one in _LAST_RESORT:
                break
            request = complete_request(
                model, place, load, quantization=one, runtime=style, placement=placement, catalog=catalog
            )
            if request.quantization_open:
                request = best_comfortable(request)
            curve = _curve(request, _RUNS[tier], prompt.mean, output.mean)
            option, rate = _option(
                request,
                curve,
                requests_per_s,
                users,
                think_time_s,
                prompt,
                output,
                goals,
                percentile,
                utilisation,
            )
            if best is None or _fewer(option, best[0]):
                best = option, request, rate
        assert best is not None
        option, request, rate = best
        rates.append(rate)
        options.append(_priced(option, request, rate, output.mean, quotes, today or date.today(), catalog))
    options.sort(key=_order)
    known = [rate for rate in rates if rate is not None]
    chosen = "Of the default runtime and of vLLM in 16 and 8 bits, that with the fewest replicas was taken; 4 bits where no other does."
    open_recipe = quantization is None and runtime is None
    notes = (
        *_NOTES,
        *((chosen,) if open_recipe else ()),
    ) + (
        (
            f"{users} users who pause {think_time_s:g} s ask at most so often: answers of an idle server are assumed.",
        )
        if users is not None
        else ()
    )
    return ServingPlan(
        model=request.model.id,
        requests_per_s=max(known, default=requests_per_s or 0.0),
        prompt_tokens_mean=prompt.mean,
        output_tokens_mean=output.mean,
        context_tokens=context,
        percentile=percentile,
        targets=goals,
        options=tuple(options),
        notes=notes,
    )


def _recipes(
    quantization: str | None, runtime: str | Runtime | None
) -> tuple[tuple[str | None, str | Runtime | None], ...]:
    """What is asked for, or the usual choices: the default of the model, and a paged server in 16, 8 and 4 bits."""
    if quantization is not None or runtime is not None:
        return ((quantization, runtime),)
    return ((None, None), *((one, "vllm") for one in ("bf16", "fp8", *_LAST_RESORT)))


def _fewer(one: ServingOption, other: ServingOption) -> bool:
    return (one.replicas or _MOST_REPLICAS + 1) < (other.replicas or _MOST_REPLICAS + 1)


def _checked(
    rate: float | None,
    users: int | None,
    think_s: float,
    percentile: float,
    utilisation: float,
    targets: Mapping[str, float],
    tier: str,
) -> dict[str, float]:
    if (rate is None) == (users is None):
        raise InvalidWorkloadError("a service has requests_per_s or users.", hint="Give one of the two.")
    amount = rate if rate is not None else users
    if amount is None or not 0 < amount < float("inf"):
        raise InvalidWorkloadError(f"requests_per_s or users is a number above 0, got {amount!r}.")
    if not 0 <= think_s < float("inf"):
        raise InvalidWorkloadError(f"think_time_s is a number of seconds >= 0, got {think_s!r}.")
    if not 0 < percentile < 1:
        raise InvalidWorkloadError(
            f"percentile is a share between 0 and 1, got {percentile!r}.", hint="Write 0.95."
        )
    if not 0 < utilisation < 1:
        raise InvalidWorkloadError(f"utilisation is a share between 0 and 1, got {utilisation!r}.")
    if tier not in _RUNS:
        raise InvalidWorkloadError(f"a service runs at the tier {' or '.join(_RUNS)}, not {tier!r}.")
    for name, value in targets.items():
        if name not in TARGETS:
            raise InvalidWorkloadError(
                f"{name!r} is no target of a service.", hint=f"Targets: {', '.join(TARGETS)}."
            )
        if not 0 < value < float("inf"):
            raise InvalidWorkloadError(f"the target {name} is a number above 0, got {value!r}.")
    return dict(targets)


@frozen(eq=False)
class _Curve:
    """Speed of a replica at rising numbers in flight; the last axis is slow, best, fast."""

    first: Evaluated
    counts: NDArray[np.float64]
    first_token_s: NDArray[np.float64]
    per_token_s: NDArray[np.float64]


def _curve(request: Request, tiers: tuple[Tier, ...], prompt: float, output: float) -> _Curve:
    loads = [request.workload.model_copy(update={"concurrency": count}) for count in _COUNTS]
    found = evaluate([replace(request, workload=load).rechecked() for load in loads])
    counts, firsts, tokens = [], [], []
    for count, one in zip(_COUNTS, found, strict=True):
        speed = one.speed_estimate() if one.tier in tiers else None
        if speed is None or speed.time_to_first_token_s is None or speed.time_per_output_token_s is None:
            break
        token = np.array(_slow_to_fast(speed.time_per_output_token_s))
        if request.profile.kv_policy != "pages" and speed.prefill_tokens_per_s is not None:
            # The estimate is that of writing alone; a server reads the prompts of the others in between.
            read = speed.prefill_tokens_per_s
            token = shared_token_seconds(token, count - 1, prompt, output, (read.low, read.best, read.high))
        counts.append(count)
        firsts.append(_slow_to_fast(speed.time_to_first_token_s))
        tokens.append(token)
    # More in flight never makes one of them faster: what predictions say less than that is noise.
    worse = (np.maximum.accumulate(np.array(rows).reshape(-1, 3), axis=0) for rows in (firsts, tokens))
    return _Curve(found[0], np.array(counts, dtype=np.float64), *worse)


def _slow_to_fast(seconds: Interval) -> tuple[float, float, float]:
    return seconds.high, seconds.best, seconds.low


_SLOW, _BEST, _FAST = range(3)


def _option(
    request: Request,
    curve: _Curve,
    rate: float | None,
    users: int | None,
    think_s: float,
    prompt: Lengths,
    output: Lengths,
    goals: Mapping[str, float],
    percentile: float,
    utilisation: float,
) -> tuple[ServingOption, float | None]:
    assert request.machine is not None
    base = ServingOption(
        machine=request.machine.name,
        tier=curve.first.tier,
        quantization=request.quantization.id if request.quantization is not None else "",
        runtime=request.profile.id,
    )
    if not len(curve.counts):
        reasons = curve.first.reasons
        why = reasons[0].message if reasons else f"One request is {curve.first.tier} here."
        return base.model_copy(update={"problem": why}), rate
    speed = curve.first.speed_estimate()
    assert speed is not None
    if rate is None:
        assert users is not None
        idle = response_seconds(curve.first_token_s[0, _BEST], output.mean, curve.per_token_s[0, _BEST])
        rate = float(closed_arrivals_per_s(users, think_s, idle))
    plans = [_size(curve, end, rate, prompt, output, goals, percentile, utilisation) for end in range(3)]
    best = plans[_BEST]
    update: dict[str, Any] = {"evidence": speed.evidence}
    if best is None:
        return base.model_copy(update=update | {"problem": _why_not(curve, goals)}), rate
    slow, fast = plans[_SLOW], plans[_FAST]
    update |= best | {
        "replicas_low": fast["replicas"] if fast else None,
        "replicas_high": slow["replicas"] if slow else None,
    }
    return base.model_copy(update=update), rate


def _why_not(curve: _Curve, goals: Mapping[str, float]) -> str:
    token = goals.get("time_per_output_token_s")
    alone = curve.per_token_s[0, _BEST]
    if token is not None and alone > token:
        return (
            f"A single request takes {alone * 1e3:.3g} ms per output token, {token * 1e3:.3g} ms are asked."
        )
    first, wanted = curve.first_token_s[0, _BEST], goals.get("time_to_first_token_s")
    if wanted is not None and first > wanted:
        return f"The first token of a single request comes after {first:.3g} s on an idle server, {wanted:g} s are asked."
    return (
        f"Saturated, or the first token of a single request is later than asked ({curve.first_token_s[0, _BEST]:.3g} s on "
        f"an idle server at mean length), with {_MOST_REPLICAS} replicas too."
    )


def _size(
    curve: _Curve,
    end: int,
    rate: float,
    prompt: Lengths,
    output: Lengths,
    goals: Mapping[str, float],
    percentile: float,
    utilisation: float,
) -> dict[str, Any] | None:
    """Fewest replicas that meet the targets, over caps of slots (rows) and replicas (columns) in one array call."""
    first, token = curve.first_token_s[:, end], curve.per_token_s[:, end]
    response = response_seconds(first, output.mean, token)
    slots = curve.counts[:, None]
    # Every number up to 250, then steps of 0.4 %.
    replicas = np.unique(np.geomspace(1, _MOST_REPLICAS, 2048).round())[None, :]
    arrivals = rate / replicas
    capacity = finished_per_s(curve.counts, response)[:, None]
    level = in_flight(arrivals, curve.counts, response, slots)
    busy = np.nan_to_num(level, nan=curve.counts[-1])
    variation = service_variation(prompt.variance, output.variance, first / prompt.mean, token, response)[
        :, None
    ]
    wait = wait_quantile_s(arrivals, capacity, slots, variation, percentile)
    longer = max(prompt.quantile(percentile) / prompt.mean, 1.0)
    seen = wait + interpolate(busy, curve.counts, first) * longer
    meets = ~np.isnan(level) & (arrivals <= utilisation * capacity)
    meets &= seen <= goals.get("time_to_first_token_s", np.inf)
    meets &= token[:, None] <= goals.get("time_per_output_token_s", np.inf)
    meets &= capacity * replicas * output.mean >= goals.get("throughput_tokens_per_s", 0.0)
    if not meets.any():
        return None
    column = int(np.argmax(meets.any(axis=0)))
    # Of the caps that do, the one with the earliest first token; ties take fewer slots.
    row = int(np.argmin(np.where(meets[:, column], seen[:, column], np.inf)))
    count = int(replicas[0, column])
    at = arrivals[0, column]
    return {
        "replicas": count,
        "slots": int(curve.counts[row]),
        "in_flight": float(level[row, column]),
        "utilisation": float(at / capacity[row, 0]),
        "wait_mean_s": float(wait_mean_s(at, capacity[row, 0], int(curve.counts[row]), variation[row, 0])),
        "wait_quantile_s": float(wait[row, column]),
        "time_to_first_token_s": float(seen[row, column]),
        "time_per_output_token_s": float(interpolate(level[row, column], curve.counts, token)),
        "throughput_tokens_per_s": rate * output.mean,
        "capacity_requests_per_s": float(capacity[row, 0]),
    }


def _priced(
    option: ServingOption,
    request: Request,
    rate: float | None,
    output_mean: float,
    quotes: Sequence[Quote],
    today: date,
    catalog: Catalog,
) -> ServingOption:
    machine = request.machine
    if option.replicas is None or rate is None or machine is None:
        return option
    bought = bought_of(machine, None, catalog, today, [])
    rents = rents_of(machine, None, quotes, catalog, today, ("on-demand",))
    power, _ = board_power(machine, catalog)
    cards = max(1, len(machine.accelerators))
    rent = rents[0].usd * cards * option.replicas if rents else None
    per_million = None
    if rent is not None:
        per_million = float(cost_per_unit(rent / SECONDS_PER_HOUR, rate * output_mean, 1e6))
    return option.model_copy(
        update={
            "purchase_usd": sum(quote.usd for quote in bought) * option.replicas if bought else None,
            "rent_usd_per_hour": rent,
            "power_w": power * option.replicas if power is not None else None,
            "usd_per_million_output_tokens": per_million,
            "quotes": (*(bought or ()), *rents[:1]),
        }
    )


def _order(option: ServingOption) -> tuple[bool, float, float, int]:
    """What meets the goal first; then by rent, by price, by number."""
    infinite = float("inf")
    rent = option.rent_usd_per_hour if option.rent_usd_per_hour is not None else infinite
    price = option.purchase_usd if option.purchase_usd is not None else infinite
    return option.replicas is None, rent, price, option.replicas or 0
