"""`plan_batch`: a job of so many documents, images or hours of audio: how long, how much energy, how much money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.evaluation import Evaluated, evaluate, evaluate_one
from willitrun.estimators.requests import Request, complete_request
from willitrun.estimators.workloads import complete_workload
from willitrun.intervals import Interval
from willitrun.kernels.costs import job_hours, job_kwh
from willitrun.planning.offers import board_power, rents_of
from willitrun.planning.prices import given, quote_electricity
from willitrun.planning.production import inverse, work_of
from willitrun.records.prices import Quote
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.serving import BatchOption, BatchPlan
from willitrun.verdicts import best_comfortable

__all__ = ["plan_batch"]

_AT_A_TIME = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def plan_batch(
    model: Any,
    machines: Any = None,
    workload: Workload | None = None,
    *,
    items: float,
    replicas: int = 1,
    deadline_hours: float | None = None,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    power_w: float | None = None,
    electricity_usd_per_kwh: float | None = None,
    quotes: Sequence[Quote] = (),
    today: date | None = None,
    catalog: Catalog | None = None,
) -> BatchPlan:
    """Hours, energy and money of a job that keeps a machine busy.

    Parameters
    ----------
    model, workload, quantization, runtime, placement, catalog
        As for `assess`; the workload says how long a document is and how many are in flight or in a batch. Where it
        does not say how many, the number with the highest throughput that fits is taken.
    machines
        One machine or a list of them to compare; None is this machine.
    items
        Requests of a language model, images, texts to embed, or hours of audio.
    replicas
        Machines of the kind that share the job evenly.
    deadline_hours
        Instead: time in which the job has to be done [h]; every option says how many machines that takes.
    power_w
        Of one machine while it works [W]; None takes the board limits of the cards, an upper bound.
    electricity_usd_per_kwh
        None takes the average of US households, dated [USD/kWh].
    quotes, today
        As for `cost`.

    Returns
    -------
    BatchPlan
        An option per machine, fastest first; intervals are those of the speed. Energy is absent where no source
        says what the machine draws.

    Raises
    ------
    InvalidWorkloadError
        ``items``, ``replicas`` or ``deadline_hours`` is not above 0, or both of the latter are given.

    Examples
    --------
    >>> found = plan_batch("resnet-50", "rtx-3060-12gb", Workload(batch_size=64), items=1_281_167)
    >>> found.unit, found.options[0].hours is not None
    ('images', True)
    """
    if not 0 < items < float("inf"):
        raise InvalidWorkloadError(f"items is a number above 0, got {items!r}.")
    if replicas < 1:
        raise InvalidWorkloadError(f"replicas is a whole number above 0, got {replicas!r}.")
    if deadline_hours is not None and not (0 < deadline_hours < float("inf") and replicas == 1):
        raise InvalidWorkloadError(
            f"deadline_hours is a number above 0 and stands in place of replicas, got {deadline_hours!r}."
        )
    if power_w is not None and not 0 <= power_w < float("inf"):
        raise InvalidWorkloadError(f"power_w is a number of watts >= 0, got {power_w!r}.")
    catalog = catalog or load_catalog()
    day = today or date.today()
    electricity = (
        quote_electricity(catalog, today=day)
        if electricity_usd_per_kwh is None
        else given("electricity", electricity_usd_per_kwh)
    )
    places = machines if isinstance(machines, list | tuple) else [machines]
    if not places:
        raise InvalidWorkloadError("there are no machines to plan with.")
    unit, options = "", []
    for place in places:
        request = complete_request(
            model,
            place,
            workload,
            quantization=quantization,
            runtime=runtime,
            placement=placement,
            catalog=catalog,
        )
        if request.quantization_open:
            request = best_comfortable(request)
        found = _fullest(request, workload)
        item, option = _option(
            found, items, replicas, deadline_hours, power_w, electricity, quotes, day, catalog
        )
        unit = unit or item
        options.append(option)
    options.sort(key=_by_time if deadline_hours is None else _by_rent)
    return BatchPlan(
        model=request.model.id,
        items=float(items),
        unit=unit or "items",
        machines=replicas if deadline_hours is None else None,
        deadline_hours=deadline_hours,
        options=tuple(options),
        notes=(
            "The machine is busy all the time; loading the model and reading the items are not counted.",
            "Power is what was given."
            if power_w is not None
            else "Power is the board limit of the cards, an upper bound.",
            *(
                (
                    "It runs in 32 bits, as the checkpoint is stored; quantization='f16' is faster on most devices.",
                )
                if any(option.quantization == "f32" for option in options)
                else ()
            ),
        ),
    )


def _by_time(option: BatchOption) -> float:
    return option.hours.best if option.hours is not None else math.inf


def _by_rent(option: BatchOption) -> tuple[float, float]:
    rent = option.rent_usd.best if option.rent_usd is not None else math.inf
    return rent, option.replicas or math.inf


def _fullest(request: Request, asked: Workload | None) -> Evaluated:
    """The request with as many items at a time as give the highest throughput; as asked where it says how many."""
    if asked is not None and asked.model_fields_set & {"concurrency", "batch_size"}:
        return evaluate_one(request)
    field = "concurrency" if request.workload.batch_size is None else "batch_size"
    # What nobody said follows from how many are taken: more windows at a time need a recording of as many.
    said = request.workload.model_copy(
        update={
            name: Workload.model_fields[name].default
            for path in request.defaulted
            if (name := path.removeprefix("workload.")) != path
        }
    )
    tries = [
        complete_workload(request.model, said.model_copy(update={field: count}), request.profile.id)[0]
        for count in _AT_A_TIME
    ]
    first, *more = evaluate([replace(request, workload=load).rechecked() for load in tries])
    best, rate = first, _rate(first)
    for one in more:
        if one.tier in ("comfortable", "tight") and (found := _rate(one)) > rate:
            best, rate = one, found
    return best


def _rate(found: Evaluated) -> float:
    work = work_of(found)
    return work.units_per_s.best if work is not None else 0.0


def _option(
    found: Evaluated,
    items: float,
    replicas: int,
    deadline_hours: float | None,
    power_w: float | None,
    electricity: Quote,
    quotes: Sequence[Quote],
    day: date,
    catalog: Catalog,
) -> tuple[str, BatchOption]:
    request = found.request
    machine = request.machine
    assert machine is not None
    load = request.workload
    base = BatchOption(
        machine=machine.name,
        tier=found.tier,
        quantization=request.quantization.id if request.quantization is not None else load.precision or "",
        runtime=request.profile.id,
        in_flight=load.batch_size or load.concurrency,
    )
    work = work_of(found)
    if work is None:
        why = found.reasons[0].message if found.reasons else "No speed is known here."
        return "", base.model_copy(update={"problem": why})
    units = items / work.per_unit
    alone = inverse(lambda rate: float(job_hours(units, rate, 1)), work.units_per_s)
    count, least, most = replicas, None, None
    if deadline_hours is not None:
        count, least, most = (math.ceil(end / deadline_hours) for end in (alone.best, alone.low, alone.high))
    hours = alone.scale(1.0 / count)
    power = power_w if power_w is not None else board_power(machine, catalog)[0]
    energy = None if power is None else _each(hours, lambda h: float(job_kwh(power, h, count)))
    rents = rents_of(machine, None, quotes, catalog, day, ("on-demand",))
    cards = max(1, len(machine.accelerators)) * count
    return work.item, base.model_copy(
        update={
            "evidence": work.evidence,
            "replicas": count,
            "replicas_low": least,
            "replicas_high": most,
            "hours": hours,
            "energy_kwh": energy,
            "electricity_usd": energy.scale(electricity.usd) if energy is not None else None,
            "rent_usd": hours.scale(rents[0].usd * cards) if rents else None,
            "quotes": (*((electricity,) if energy is not None else ()), *rents[:1]),
        }
    )


def _each(interval: Interval, what: Any) -> Interval:
    return Interval(what(interval.low), what(interval.best), what(interval.high), interval.level)
