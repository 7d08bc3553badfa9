"""`recommend`: choose my GPU, or my cloud instance; and what it would take on what I own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError, MissingDataError, UnknownIdError
from willitrun.estimators.energy import board_limit
from willitrun.estimators.evaluation import Evaluated, evaluate
from willitrun.estimators.inverse import TIER_ORDER
from willitrun.estimators.remedies import find_remedies
from willitrun.estimators.requests import Request, complete_request
from willitrun.frozen import frozen
from willitrun.hardware.descriptions import describe_machine
from willitrun.intervals import Interval
from willitrun.kernels.costs import rate_per_watt
from willitrun.planning.builds import best_of_subsets
from willitrun.planning.decks import DECK_LADDER
from willitrun.planning.fronts import pareto_front
from willitrun.planning.prices import given, quote_machine, quote_rentals
from willitrun.records.machines import Machine
from willitrun.records.presentation import format_field
from willitrun.records.prices import Quote
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.recommendations import Option, Recommendation
from willitrun.records.results import SpeedEstimate, Tier
from willitrun.verdicts import workload_profile

__all__ = ["recommend"]

_LESS_IS_MORE = ("time_to_first_token_s", "time_per_output_token_s", "seconds_per_image", "training_step_s")
_FORMS = ("desktop", "workstation", "unified-soc")


def recommend(
    model: Any,
    workload: Workload | None = None,
    *,
    targets: Mapping[str, float] | None = None,
    tier: Tier = "tight",
    quantizations: str | Sequence[str] | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    budget_usd: float | None = None,
    rent_budget_usd_per_hour: float | None = None,
    power_w: float | None = None,
    owned: Any = None,
    candidates: Iterable[Any] | None = None,
    counts: Sequence[int] = (1, 2, 4),
    forms: Sequence[str] = _FORMS,
    prices: Mapping[str, float] | None = None,
    price_noise: float = 0.0,
    terms: Sequence[str] = ("on-demand",),
    today: date | None = None,
    catalog: Catalog | None = None,
) -> Recommendation:
    """The machines that meet a goal: cheapest, fastest, most efficient, and the Pareto front between them.

    Parameters
    ----------
    model, workload, runtime, placement
        What is to run, as for `assess`: the context, the users (``concurrency``) and the batch are part of the goal.
    targets
        Rates to reach, by the names of `SpeedEstimate`: ``{"decode_tokens_per_s": 20, "time_to_first_token_s": 2}``.
        Times are ceilings, everything else floors. The floors of the workload hold as well.
    tier
        Least tier: ``comfortable``, ``tight`` or ``offload``.
    quantizations
        Formats that are good enough, best first; of each machine the best that meets the goal is taken. None takes
        the model's own, or the GGUF ladder down to four bits.
    budget_usd, rent_budget_usd_per_hour, power_w
        Limits on the price of the accelerators [USD], on the rent [USD/h] and on their board power [W].
    owned
        A machine that is there already: whether it does, what would help, and which card added to it would.
    candidates
        Machines to choose from; None takes every card of the catalog with a price, in ``counts``, and every rent.
    counts
        How many cards of a kind a machine may hold.
    forms
        Forms of accelerators to buy: ``desktop``, ``workstation``, ``unified-soc``, ``server-pcie``, ...
    prices
        Prices that you know better, by accelerator id [USD].
    price_noise
        Share by which street prices may differ from these [1]: options carry ``usd_low`` and ``usd_high``, and a
        machine counts as within the budget if its high price is.
    terms
        Which rents count: ``on-demand``, ``community``, ``spot``.

    Returns
    -------
    Recommendation
        Every price dated, with its age; those without a source are named and left out of the order.

    Raises
    ------
    InvalidWorkloadError
        A target that no estimate has, or a limit that is no number >= 0.

    Examples
    --------
    >>> found = recommend("llama-3.1-8b", targets={"decode_tokens_per_s": 40}, quantizations="q4_k_m",
    ...     candidates=["rtx-3060-12gb", "rtx-4090"])
    >>> found.cheapest.machine, found.fastest.machine
    ('NVIDIA GeForce RTX 3060 12GB', 'NVIDIA GeForce RTX 4090')
    """
    catalog = catalog or load_catalog()
    goal = _Goal.of(targets, tier, budget_usd, rent_budget_usd_per_hour, power_w, price_noise)
    day = today or date.today()
    machines = _machines(candidates, counts, forms, catalog)
    if not machines:
        raise InvalidWorkloadError("there is no machine to choose from.")
    formats = _formats(quantizations)

    def requests(machine: Machine) -> list[Request]:
        return _requests(model, machine, workload, formats, runtime, placement, catalog)

    judged = _judge([request for machine in machines for request in requests(machine)], goal)
    options: list[Option] = []
    unpriced: list[str] = []
    for found in judged:
        options += _priced(found, goal, prices or {}, tuple(terms), catalog, day, unpriced)
    good = [option for option in options if option.meets]
    to_buy = sorted((option for option in good if option.way == "buy"), key=_by_price)
    to_rent = sorted((option for option in good if option.way == "rent"), key=_by_price)
    mine = None
    to_reach: tuple[str, ...] = ()
    additions: tuple[Option, ...] = ()
    if owned is not None:
        place = describe_machine(owned, catalog=catalog)
        best = best_of_subsets(requests(place), key=lambda one: _key(one, goal))
        mine = _option(best, "owned", goal, (), None)
        if not mine.meets:
            additions = _additions(place, machines, requests, goal, prices or {}, catalog, day)
            to_reach = _steps(best, goal, additions)
    request = judged[0].request
    return Recommendation(
        goal=goal.text(request),
        cheapest=to_buy[0] if to_buy else None,
        fastest=_fastest(to_buy or to_rent),
        most_efficient=max(
            (option for option in to_buy or to_rent if option.rate_per_watt is not None),
            key=lambda option: (option.rate_per_watt or 0.0, -(option.usd or 0.0)),
            default=None,
        ),
        cheapest_rent=to_rent[0] if to_rent else None,
        pareto=_front(to_buy),
        owned=mine,
        to_reach=to_reach,
        additions=additions,
        considered=len(machines),
        met=len({option.machine for option in good}),
        without_price=tuple(dict.fromkeys(unpriced)),
        notes=_notes(options, price_noise),
        assumptions={"tier": tier, "price_noise": price_noise, "today": day.isoformat()},
    )


@frozen
class _Goal:
    targets: dict[str, float]
    tier: Tier
    budget_usd: float | None
    rent_usd: float | None
    power_w: float | None
    noise: float

    @classmethod
    def of(
        cls,
        targets: Mapping[str, float] | None,
        tier: Tier,
        budget_usd: float | None,
        rent_usd: float | None,
        power_w: float | None,
        noise: float,
    ) -> _Goal:
        if tier not in ("comfortable", "tight", "offload"):
            raise UnknownIdError("tier", str(tier), ("comfortable", "tight", "offload"))
        wanted = dict(targets or {})
        for name, value in wanted.items():
            if name not in SpeedEstimate.model_fields or not name.endswith(("_s", "_per_image", "_factor")):
                raise InvalidWorkloadError(
                    f"{name!r} is no rate or time of a SpeedEstimate.",
                    hint="For example decode_tokens_per_s, images_per_s, time_to_first_token_s.",
                )
            if not value > 0:
                raise InvalidWorkloadError(f"the target {name} is above 0, got {value!r}.")
        for name, limit in (
            ("budget_usd", budget_usd),
            ("rent", rent_usd),
            ("power_w", power_w),
            ("noise", noise),
        ):
            if limit is not None and not 0 <= limit < float("inf"):
                raise InvalidWorkloadError(f"{name} is a number >= 0, got {limit!r}.")
        return cls(wanted, tier, budget_usd, rent_usd, power_w, noise)

    def text(self, request: Request) -> str:
        asked = [
            f"{name} {'<=' if name in _LESS_IS_MORE else '>='} {value:g}"
            for name, value in self.targets.items()
        ]
        return ", ".join([request.model.id, *asked, self.tier])

    def all_targets(self, request: Request) -> dict[str, float]:
        profile = workload_profile(request)
        floors = dict(profile.floor) if profile is not None else {}
        return floors | self.targets


def _formats(quantizations: str | Sequence[str] | None) -> tuple[str | None, ...]:
    if quantizations is None:
        return (None,)
    return (quantizations,) if isinstance(quantizations, str) else tuple(quantizations)


def _machines(
    candidates: Iterable[Any] | None, counts: Sequence[int], forms: Sequence[str], catalog: Catalog
) -> list[Machine]:
    if candidates is not None:
        return [describe_machine(one, catalog=catalog) for one in candidates]

    def derive() -> list[Machine]:
        priced = {price.subject for price in catalog.prices.values() if price.kind in ("purchase", "rental")}
        rented = {price.subject for price in catalog.prices.values() if price.kind == "rental"}
        found = []
        for record in catalog.accelerators.values():
            buyable = record.form in forms and (record.msrp is not None or record.id in priced)
            if record.memory_bandwidth is None or not (buyable or record.id in rented):
                continue
            for count in counts:
                found.append(describe_machine([record.id] * count, catalog=catalog))
        return found

    return catalog.remember(("recommend", tuple(counts), tuple(forms)), derive)


def _requests(
    model: Any,
    machine: Machine,
    workload: Workload | None,
    formats: tuple[str | None, ...],
    runtime: str | Runtime | None,
    placement: str | Placement | None,
    catalog: Catalog,
) -> list[Request]:
    found = []
    for name in formats:
        request = complete_request(
            model,
            machine,
            workload,
            quantization=name,
            runtime=runtime,
            placement=placement,
            catalog=catalog,
        )
        if request.quantization_open:
            table = catalog.quantizations
            found += [request.with_quantization(table[one]).rechecked() for one in DECK_LADDER]
        else:
            found.append(request)
    return found


def _judge(requests: list[Request], goal: _Goal) -> list[Evaluated]:
    """Of each machine the first format, best first, that meets the goal; else the one that comes nearest."""
    best: dict[int, Evaluated] = {}
    for found in evaluate(requests):
        place = id(found.request.machine)
        if place not in best or _key(found, goal) > _key(best[place], goal):
            best[place] = found
    return list(best.values())


def _key(found: Evaluated, goal: _Goal) -> tuple[float, ...]:
    """Meeting the goal first; then the tier; then how near to the targets. Formats come best first, so that ties
    keep the better format."""
    misses = _misses(found, goal)
    return (not misses, min(TIER_ORDER[found.tier], TIER_ORDER[goal.tier]), -len(misses))


def _misses(found: Evaluated, goal: _Goal, *, low: bool = False) -> tuple[str, ...]:
    """What is missing for the goal, at the best estimate or at the low end."""
    if TIER_ORDER[found.tier] < TIER_ORDER[goal.tier]:
        reason = next(iter((*found.request.blockers, *found.reasons)), None)
        return (f"{found.tier}: {reason.message}" if reason is not None else found.tier,)
    missing = []
    speed = found.speed_estimate()
    for name, wanted in goal.all_targets(found.request).items():
        value: Interval | None = getattr(speed, name, None)
        less = name in _LESS_IS_MORE
        if value is None:
            missing.append(f"{name} is unknown")
            continue
        got = (value.high if less else value.low) if low else value.best
        if got > wanted if less else got < wanted:
            missing.append(f"{format_field(name, got)}, {format_field(name, wanted)} is wanted")
    return tuple(missing)


def _option(found: Evaluated, way: str, goal: _Goal, quotes: tuple[Quote, ...], usd: float | None) -> Option:
    machine = found.request.machine
    assert machine is not None
    head = found.headline() if found.tier not in ("will-not-run", "unknown") else None
    speed = found.speed_estimate()
    total, power = found.total(), board_limit(machine)
    misses = list(_misses(found, goal))
    sure = not misses and not _misses(found, goal, low=True)
    if goal.power_w is not None and way != "rent":
        if power is None:
            misses.append("no source says what it draws")
        elif power > goal.power_w:
            misses.append(f"{power:,.0f} W, {goal.power_w:,.0f} W are allowed")
    limit = goal.rent_usd if way == "rent" else goal.budget_usd
    high = None if usd is None else usd * (1.0 + goal.noise)
    if limit is not None and way != "owned" and high is not None and high > limit:
        misses.append(f"{high:,.2f} USD, {limit:,.2f} USD are allowed")
    more = head is not None and head[0] not in _LESS_IS_MORE
    return Option.model_construct(
        machine=machine.name,
        accelerators=tuple(device.accelerator.id for device in machine.accelerators),
        way=way,
        quantization=found.request.quantization.id if found.request.quantization is not None else None,
        tier=found.tier,
        meets=not misses,
        sure=sure and not misses,
        misses=tuple(misses),
        headline=head[0] if head is not None else "",
        rate=head[1] if head is not None else None,
        total_bytes=round(total.best) if total is not None else None,
        power_w=power,
        usd=usd,
        usd_low=None if usd is None else max(0.0, usd * (1.0 - goal.noise)),
        usd_high=high,
        rate_per_watt=float(rate_per_watt(head[1].best, power))
        if head is not None and power and more
        else None,
        evidence=speed.evidence if speed is not None else "estimated",
        quotes=quotes,
    )


def _priced(
    found: Evaluated,
    goal: _Goal,
    prices: Mapping[str, float],
    terms: tuple[str, ...],
    catalog: Catalog,
    day: date,
    unpriced: list[str],
) -> list[Option]:
    """The machine to buy and to rent, as far as prices are known."""
    machine = found.request.machine
    assert machine is not None
    options = []
    bought = _bought(machine, prices, catalog, day)
    if bought is not None:
        options.append(_option(found, "buy", goal, bought, sum(quote.usd for quote in bought)))
    cards = {device.accelerator.id for device in machine.accelerators}
    if len(cards) == 1:
        count = len(machine.accelerators)
        offers = quote_rentals(next(iter(cards)), catalog, today=day, terms=terms)
        for offer in [offer for offer in offers if offer.count <= count][:1]:
            options.append(_option(found, "rent", goal, (offer,), offer.usd * count))
    if not options and not _misses(found, goal):
        unpriced.append(machine.name)
    return options


def _bought(
    machine: Machine, prices: Mapping[str, float], catalog: Catalog, day: date
) -> tuple[Quote, ...] | None:
    known = {device.accelerator.id for device in machine.accelerators} <= prices.keys()
    if known and machine.accelerators:
        return tuple(
            given("purchase", prices[device.accelerator.id], subject=device.accelerator.id)
            for device in machine.accelerators
        )
    try:
        found = quote_machine(machine, catalog, today=day)
    except MissingDataError:
        return None
    return tuple(
        given("purchase", prices[quote.subject], subject=quote.subject) if quote.subject in prices else quote
        for quote in found
    )


def _by_price(option: Option) -> tuple[float, float, str]:
    return (option.usd or 0.0, -_rate(option), option.machine)


def _rate(option: Option) -> float:
    """The headline as something to maximise."""
    if option.rate is None:
        return 0.0
    return -option.rate.best if option.headline in _LESS_IS_MORE else option.rate.best


def _fastest(options: Sequence[Option]) -> Option | None:
    return max(options, key=lambda option: (_rate(option), -(option.usd or 0.0)), default=None)


def _front(options: list[Option]) -> tuple[Option, ...]:
    """Options that no other one beats in price, speed and power at once."""
    points = [
        (o.usd or 0.0, -_rate(o), o.power_w if o.power_w is not None else float("inf")) for o in options
    ]
    return tuple(options[i] for i in pareto_front(points))


def _additions(
    place: Machine,
    machines: Sequence[Machine],
    requests: Any,
    goal: _Goal,
    prices: Mapping[str, float],
    catalog: Catalog,
    day: date,
) -> tuple[Option, ...]:
    """Single machines' cards put into what is owned, where that meets the goal."""
    found = []
    for machine in machines:
        if not machine.accelerators or any(device.shares_host_memory for device in machine.accelerators):
            continue
        bought = _bought(machine, prices, catalog, day)
        if bought is None:
            continue
        joined = place.model_copy(
            update={
                "name": f"{place.name} + {machine.name}",
                "accelerators": (*place.accelerators, *machine.accelerators),
            }
        )
        usd = sum(quote.usd for quote in bought)
        if goal.budget_usd is not None and usd > goal.budget_usd:
            continue
        best = best_of_subsets(requests(joined), key=lambda one: _key(one, goal))
        # It is named and powered as the whole, even where a part does the work.
        whole = replace(best.request, machine=joined)
        option = _option(best, "buy", goal, bought, usd)
        if option.meets and whole.machine is not None:
            found.append(option.model_copy(update={"machine": joined.name}))
    return tuple(sorted(found, key=_by_price)[:5])


def _steps(found: Evaluated, goal: _Goal, additions: tuple[Option, ...]) -> tuple[str, ...]:
    """What it would take on what is owned: changes that cost nothing first, then the cheapest cards."""
    free = []
    for remedy in find_remedies(found):
        if remedy.kind == "hardware" or TIER_ORDER[remedy.tier] < TIER_ORDER[goal.tier]:
            continue
        wanted = goal.all_targets(found.request).get(remedy.headline)
        if wanted is None or remedy.speed is None or remedy.speed.best >= wanted:
            free.append(remedy.message)
    bought = [
        f"Add {option.machine.rpartition(' + ')[2]} for {option.usd:,.0f} USD: {option.tier}"
        + (f", {format_field(option.headline, option.rate.best)}" if option.rate is not None else "")
        for option in additions
    ]
    return (*free, *bought)


def _notes(options: Sequence[Option], noise: float) -> tuple[str, ...]:
    notes = ["Prices are those of the accelerators alone; the rest of the machine is not counted."]
    stale = {quote.subject for option in options for quote in option.quotes if quote.stale}
    if stale:
        notes.append(
            f"Prices of {len(stale)} accelerators are stale; pass prices={{id: USD}} that you know better."
        )
    if noise:
        notes.append(f"Prices may differ by {noise:.0%}; budgets hold at the high end.")
    return tuple(notes)
