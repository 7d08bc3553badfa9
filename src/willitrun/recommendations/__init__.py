"""`recommend`: choose my GPU, or my cloud instance; and what it would take on what I own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from willitrun.catalog import Catalog, load_catalog
from willitrun.checkpoints.descriptions import describe_model
from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.evaluation import Evaluated, evaluate
from willitrun.estimators.requests import Request, complete_request
from willitrun.estimators.workloads import ASR_TASKS, ENCODER_TASKS, GRAPH_TASKS
from willitrun.hardware.descriptions import describe_machine
from willitrun.planning.builds import best_of_subsets
from willitrun.planning.decks import DECK_LADDER
from willitrun.recommendations.goals import Goal, merit, refuse_foreign_targets
from willitrun.recommendations.offers import (
    additions_to,
    by_price,
    fastest_of,
    front_of,
    option_of,
    priced_options,
    steps_to,
)
from willitrun.records.machines import Machine
from willitrun.records.models import Model
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.recommendations import Option, Recommendation
from willitrun.records.results import Tier

__all__ = ["recommend"]

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
    goal = Goal.of(targets, tier, budget_usd, rent_budget_usd_per_hour, power_w, price_noise)
    day = today or date.today()
    machines = _machines(candidates, counts, forms, catalog)
    if not machines:
        raise InvalidWorkloadError("there is no machine to choose from.")
    formats = _formats(quantizations)
    loads = _loads(describe_model(model, catalog=catalog), workload, goal)

    def requests(machine: Machine) -> list[Request]:
        return [
            request
            for load in loads
            for request in _requests(model, machine, load, formats, runtime, placement, catalog)
        ]

    judged = _judge([request for machine in machines for request in requests(machine)], goal)
    refuse_foreign_targets(goal, judged)
    options: list[Option] = []
    unpriced: list[str] = []
    for found in judged:
        options += priced_options(found, goal, prices or {}, tuple(terms), catalog, day, unpriced)
    good = [option for option in options if option.meets]
    to_buy = sorted((option for option in good if option.way == "buy"), key=by_price)
    to_rent = sorted((option for option in good if option.way == "rent"), key=by_price)
    mine = None
    to_reach: tuple[str, ...] = ()
    additions: tuple[Option, ...] = ()
    if owned is not None:
        place = describe_machine(owned, catalog=catalog)
        best = best_of_subsets(requests(place), key=lambda one: merit(one, goal))
        mine = option_of(best, "owned", goal, (), None)
        if not mine.meets:
            additions = additions_to(place, machines, requests, goal, prices or {}, catalog, day)
            to_reach = steps_to(best, goal, additions)
    request = judged[0].request
    return Recommendation(
        goal=goal.text(request),
        cheapest=to_buy[0] if to_buy else None,
        fastest=fastest_of(to_buy or to_rent),
        most_efficient=max(
            (option for option in to_buy or to_rent if option.rate_per_watt is not None),
            key=lambda option: (option.rate_per_watt or 0.0, -(option.usd or 0.0)),
            default=None,
        ),
        cheapest_rent=to_rent[0] if to_rent else None,
        pareto=front_of(to_buy),
        owned=mine,
        to_reach=to_reach,
        additions=additions,
        considered=len(machines),
        met=len({option.machine for option in good}),
        without_price=tuple(dict.fromkeys(unpriced)),
        notes=_notes(options, price_noise),
        assumptions={"tier": tier, "price_noise": price_noise, "today": day.isoformat()},
    )


_BATCHES = (None, 16, 128)
"""Taken at once where a rate is the goal and nobody says how many: one, and then more."""
_BATCHED = {"images_per_s": GRAPH_TASKS, "samples_per_s": ENCODER_TASKS, "real_time_factor": ASR_TASKS}
"""Rates that grow with what is taken at once, and of which tasks: pictures, texts, windows of speech."""


def _loads(model: Model, workload: Workload | None, goal: Goal) -> tuple[Workload | None, ...]:
    """The load that is asked for; where a rate of what comes in batches is the goal, in batches until they reach it."""
    given = workload or Workload()
    wanted = any(rate in goal.targets and model.task in tasks for rate, tasks in _BATCHED.items())
    if not wanted or given.batch_size is not None:
        return (workload,)
    return tuple(given.model_copy(update={"batch_size": batch}) for batch in _BATCHES)


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


def _judge(requests: list[Request], goal: Goal) -> list[Evaluated]:
    """Of each machine the first format, best first, that meets the goal; else the one that comes nearest."""
    best: dict[int, Evaluated] = {}
    for found in evaluate(requests):
        place = id(found.request.machine)
        if place not in best or merit(found, goal) > merit(best[place], goal):
            best[place] = found
    return list(best.values())


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
