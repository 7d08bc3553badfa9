"""`plan_batch`: a job of so many documents, images or hours of audio: how long, how much energy, how much money."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.evaluation import evaluate_one
from willitrun.estimators.requests import Request, complete_request
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


def plan_batch(
    model: Any,
    machines: Any = None,
    workload: Workload | None = None,
    *,
    items: float,
    replicas: int = 1,
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
        As for `assess`; the workload says how long a document is and how many are in flight.
    machines
        One machine or a list of them to compare; None is this machine.
    items
        Requests of a language model, images, texts to embed, or hours of audio.
    replicas
        Machines of the kind that share the job evenly.
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
        ``items`` or ``replicas`` is not above 0.

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
        item, option = _option(request, items, replicas, power_w, electricity, quotes, day, catalog)
        unit = unit or item
        options.append(option)
    options.sort(key=lambda option: option.hours.best if option.hours is not None else float("inf"))
    return BatchPlan(
        model=request.model.id,
        items=float(items),
        unit=unit or "items",
        machines=replicas,
        options=tuple(options),
        notes=(
            "The machine is busy all the time; loading the model and reading the items are not counted.",
            "Power is what was given."
            if power_w is not None
            else "Power is the board limit of the cards, an upper bound.",
        ),
    )


def _option(
    request: Request,
    items: float,
    replicas: int,
    power_w: float | None,
    electricity: Quote,
    quotes: Sequence[Quote],
    day: date,
    catalog: Catalog,
) -> tuple[str, BatchOption]:
    machine = request.machine
    assert machine is not None
    found = evaluate_one(request)
    work = work_of(found)
    if work is None:
        why = found.reasons[0].message if found.reasons else "No speed is known here."
        return "", BatchOption(machine=machine.name, tier=found.tier, problem=why)
    units = items / work.per_unit
    hours = inverse(lambda rate: float(job_hours(units, rate, replicas)), work.units_per_s)
    power = power_w if power_w is not None else board_power(machine)[0]
    energy = None if power is None else _each(hours, lambda h: float(job_kwh(power, h, replicas)))
    rents = rents_of(machine, None, quotes, catalog, day, ("on-demand",))
    cards = max(1, len(machine.accelerators)) * replicas
    return work.item, BatchOption(
        machine=machine.name,
        tier=found.tier,
        evidence=work.evidence,
        hours=hours,
        energy_kwh=energy,
        electricity_usd=energy.scale(electricity.usd) if energy is not None else None,
        rent_usd=hours.scale(rents[0].usd * cards) if rents else None,
        quotes=(*((electricity,) if energy is not None else ()), *rents[:1]),
    )


def _each(interval: Interval, what: Any) -> Interval:
    return Interval(what(interval.low), what(interval.best), what(interval.high), interval.level)
