"""`scan`: every model of a catalog on one machine, ranked by usefulness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError, UnknownIdError
from willitrun.estimators.inverse import TIER_ORDER
from willitrun.estimators.requests import refuse_other_memory, refuse_other_types
from willitrun.estimators.workloads import LLM_TASKS
from willitrun.hardware.descriptions import describe_machine
from willitrun.hardware.detection import detect
from willitrun.kernels.scores import FIT_FACTORS, fit_score, speed_score
from willitrun.planning.axes import refuse_lone
from willitrun.planning.decks import Deck, deck_for
from willitrun.planning.hands import Hand, deal
from willitrun.records.rankings import RankedModel, Scan
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.results import Tier

__all__ = ["scan"]

FloatArray = NDArray[np.float64]
OrderBy = Literal["size", "score", "speed", "prior"]


def scan(
    machine: Any = None,
    workload: Workload | None = None,
    *,
    models: Sequence[Any] | None = None,
    task: str | Sequence[str] | None = None,
    tier: Tier = "comfortable",
    order_by: OrderBy | None = None,
    prior: Mapping[str, float] | Callable[[str], float | None] | None = None,
    quantizations: Sequence[str] | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    memory: str = "free",
    catalog: Catalog | None = None,
) -> Scan:
    """Rank the models of the catalog on one machine: what is worth running here?

    Models that reach the tier and are fast enough for their use come first. Among them the order is by size
    (a larger model that runs well is the more useful one, and size is a fact), by `score`, by speed, or by a
    quality prior of the caller's. Quality is never mixed into the score.

    Parameters
    ----------
    machine
        Anything `describe_machine` takes; None detects this machine.
    workload
        What is asked of every model; None takes each task's defaults.
    models
        Ids or whatever `describe_model` takes; None takes every model of the task in the catalog.
    task
        One task or several; None takes language models, ``"all"`` takes every task.
    tier
        Least tier that counts: ``comfortable``, ``tight`` or ``offload``.
    order_by
        ``size``, ``score``, ``speed`` or ``prior``; None takes ``prior`` where one is given, else ``size``.
    prior
        Quality by model id, from wherever you trust it: a mapping or a function. Models without one come last.
    quantizations
        Formats to choose from, best first; None takes each model's own, or the GGUF ladder down to IQ4_XS (`assess`
        goes on below four bits): of each model the best format of the best tier is ranked, and the smallest where none
        runs.

    Returns
    -------
    Scan
        ``ranked`` holds every model; those that don't qualify have rank 0, and why.

    Raises
    ------
    UnknownIdError
        A task or an order that does not exist.
    InvalidWorkloadError
        An argument of another type than it takes.

    Examples
    --------
    >>> found = scan("rtx-3060-12gb", models=["llama-3.1-8b", "llama-3.2-1b", "llama-3.3-70b"])
    >>> [row.model for row in found.fitting]
    ['llama-3.1-8b', 'llama-3.2-1b']
    """
    catalog = catalog or load_catalog()
    if tier not in ("comfortable", "tight", "offload"):
        raise UnknownIdError("tier", str(tier), ("comfortable", "tight", "offload"))
    order = order_by or ("prior" if prior is not None else "size")
    if order not in ("size", "score", "speed", "prior"):
        raise UnknownIdError("order of a scan", str(order), ("size", "score", "speed", "prior"))
    if order == "prior" and prior is None:
        raise InvalidWorkloadError(
            "order_by='prior' needs a prior.", hint="Pass prior={model id: quality} or a function."
        )
    refuse_other_memory(memory)
    refuse_lone(models=models, quantizations=quantizations)
    for name in quantizations or (None,):
        refuse_other_types(workload, name, runtime, placement)
    if prior is not None and not isinstance(prior, Mapping) and not callable(prior):
        raise InvalidWorkloadError(
            f"prior is a mapping or a function, got {type(prior).__name__}.",
            hint="Pass prior={model id: quality} or a function of the id.",
        )
    place = detect() if machine is None else describe_machine(machine, catalog=catalog)
    deck = deck_for(
        place,
        tuple(models) if models is not None else models_of(catalog, task),
        workload or Workload(),
        quantizations=tuple(quantizations or ()),
        runtime=runtime,
        placement=placement,
        catalog=catalog,
    )
    quality = prior.get if isinstance(prior, Mapping) else prior
    least = TIER_ORDER[tier]
    keyed: list[tuple[tuple[object, ...], _Line]] = []
    for hand in deal(deck, place, catalog, memory=memory):
        keyed += _lines(hand, deck, quality, least, order)
    keyed.sort(key=lambda pair: pair[0])
    ranked = []
    for number, (key, line) in enumerate(keyed, 1):
        ranked.append(RankedModel(0 if key[0] else number, *line))
    return Scan.model_construct(machine=place.name, tier=tier, order_by=order, ranked=tuple(ranked))


def models_of(catalog: Catalog, task: str | Sequence[str] | None) -> tuple[str, ...]:
    """Ids of the models of a task, of several, or of all.

    Raises
    ------
    UnknownIdError
        The catalog has no model of that task.
    InvalidWorkloadError
        A task is no name.
    """

    def derive() -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for identifier in catalog.models:
            found.setdefault(str(catalog.models.raw(identifier)["task"]), []).append(identifier)
        return {name: tuple(ids) for name, ids in found.items()}

    by_task = catalog.remember(("models", "by-task"), derive)
    if task is None:
        wanted: Sequence[str] = sorted(LLM_TASKS - {"text-to-speech"})
    elif task == "all":
        wanted = sorted(by_task)
    else:
        wanted = (task,) if isinstance(task, str) else task
        refuse_lone(task=wanted)
    for name in wanted:
        if not isinstance(name, str):
            raise InvalidWorkloadError(
                f"a task is a name, got {type(name).__name__}.",
                hint=f"Tasks are {', '.join(sorted(by_task))}.",
            )
        if name not in by_task:
            raise UnknownIdError("task", name, tuple(sorted(by_task)))
    return tuple(identifier for name in wanted for identifier in by_task[name])


_Line = tuple[Any, ...]
"""Fields of a `RankedModel` after its rank."""


def _lines(
    hand: Hand, deck: Deck, quality: Callable[[str], float | None] | None, least: int, order: str
) -> list[tuple[tuple[object, ...], _Line]]:
    """Sort keys and fields of a hand's cards: qualified first, then by the order asked for, then by size,
    score and name, so that the order is total."""
    n = len(hand.requests)
    shares: FloatArray = np.ones(n)
    reached = np.ones(n, dtype=bool)
    known = np.zeros(n, dtype=bool)
    floors = [deck.floors[card] for card in hand.cards.tolist()]
    for name in {name for floor in floors for name in floor}:
        least_rate = np.array([floor.get(name, 0.0) for floor in floors])
        asked = least_rate > 0.0
        rate = hand.rates[name][:, 1] if name in hand.rates else np.full(n, np.nan)
        shares = np.minimum(shares, np.where(asked, speed_score(rate, np.where(asked, least_rate, 1.0)), 1.0))
        reached &= ~asked | (rate >= least_rate)
        known |= asked
    scores = fit_score([FIT_FACTORS[name] for name in hand.tier], shares)
    gap = np.isnan(shares)
    found: list[tuple[tuple[object, ...], _Line]] = []
    for i, (request, tier) in enumerate(zip(hand.requests, hand.tier, strict=True)):
        model, headline = request.model, hand.headline[i]
        practical = False if tier == "will-not-run" else None
        if tier not in ("will-not-run", "unknown") and known[i] and not gap[i]:
            practical = bool(reached[i])
        score = None if tier == "unknown" or np.isnan(scores[i]) else float(scores[i])
        low = best = high = None
        if headline in hand.rates and not np.isnan(hand.rates[headline][i, 1]):
            low, best, high = hand.rates[headline][i].tolist()
        prior = quality(model.id) if quality is not None else None
        chosen = {"prior": prior, "score": score, "speed": best, "size": model.parameters}[order]
        qualified = TIER_ORDER[tier] >= least and practical is not False
        key = (
            not qualified,
            chosen is None,
            -(chosen or 0),
            -(model.parameters or 0),
            -(score or 0.0),
            model.id,
        )
        line = (
            model.id,
            model.task,
            request.quantization.id if request.quantization is not None else None,
            request.profile.id,
            tier,
            practical,
            score,
            headline,
            best,
            low,
            high,
            hand.total_bytes[i],
            model.parameters,
            model.released,
            hand.evidence[i],
            prior,
            hand.blocked_by[i],
        )
        found.append((key, line))
    return found
