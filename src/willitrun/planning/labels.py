"""`chips`: what a machine is good for, as labels."""

from __future__ import annotations

from typing import Any

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import MissingDataError
from willitrun.estimators.evaluation import Evaluated, evaluate_one
from willitrun.estimators.requests import complete_request
from willitrun.hardware.descriptions import describe_machine
from willitrun.hardware.detection import detect
from willitrun.planning.scores import is_practical
from willitrun.records.machines import Machine
from willitrun.records.presentation import format_field
from willitrun.records.rankings import Chip, Chips
from willitrun.records.recipes import Workload, WorkloadProfile

__all__ = ["chips"]


def chips(machine: Any = None, *, memory: str = "free", catalog: Catalog | None = None) -> Chips:
    """Labels of a machine: chat by size of model, coding, retrieval, pictures, speech, fine-tuning, ...

    Each label is a workload record with a reference model. ``yes`` means that it runs without offload and is fast
    enough; ``tight`` and ``offload`` are those tiers, fast enough all the same; ``slow`` that it runs below the floor of the workload;
    ``no`` that it does not run; ``unknown`` that a fact is missing.

    Parameters
    ----------
    machine
        Anything `describe_machine` takes; None detects this machine.
    memory
        As for `assess`.

    Examples
    --------
    >>> {chip.label: chip.answer for chip in chips("rtx-3060-12gb").chips}["70B chat"]
    'no'
    """
    catalog = catalog or load_catalog()
    place = detect() if machine is None else describe_machine(machine, catalog=catalog)
    found = [
        _chip(profile, place, memory, catalog) for profile in catalog.workloads.values() if profile.reference
    ]
    return Chips(machine=place.name, chips=tuple(found))


def _chip(profile: WorkloadProfile, machine: Machine, memory: str, catalog: Catalog) -> Chip:
    quantization = profile.reference_quantization
    try:
        request = complete_request(
            profile.reference,
            machine,
            Workload(**profile.fields, use=profile.id),
            quantization=quantization,
            memory=memory,
            catalog=catalog,
        )
        found = evaluate_one(request)
    except MissingDataError as error:
        return _made(profile, "unknown", "unknown", why=str(error))
    speed = found.speed_estimate() if found.tier not in ("will-not-run", "unknown") else None
    rates = {name: value.best for name in profile.floor if (value := getattr(speed, name, None)) is not None}
    practical = is_practical(found.tier, rates, profile.floor)
    answer = _answer(found, practical)
    if answer == "slow":
        name = next(name for name, floor in profile.floor.items() if rates[name] < floor)
        return _made(profile, answer, found.tier, name, rates[name],
                     f"{format_field(name, rates[name])}, {format_field(name, profile.floor[name])} are needed")  # fmt: skip
    head = speed.headline() if speed is not None else None
    reason = next(iter((*request.blockers, *found.reasons)), None)
    why = reason.message if reason is not None else found.tier
    if answer == "unknown" and found.tier != "unknown":
        why = f"{found.tier}, and its speed is not modelled"
    elif head is not None:
        return _made(profile, answer, found.tier, head[0], head[1].best,
                     f"{found.tier}, {format_field(head[0], head[1].best)}")  # fmt: skip
    return _made(profile, answer, found.tier, why=why)


def _answer(found: Evaluated, practical: bool | None) -> str:
    if found.tier == "will-not-run":
        return "no"
    if found.tier == "unknown" or practical is None:
        return "unknown"
    if not practical:
        return "slow"
    return "yes" if found.tier == "comfortable" else found.tier


def _made(
    profile: WorkloadProfile,
    answer: str,
    tier: Any,
    headline: str = "",
    rate: float | None = None,
    why: str = "",
) -> Chip:
    return Chip(
        label=profile.label,
        workload=profile.id,
        model=profile.reference,
        quantization=profile.reference_quantization,
        answer=answer,
        tier=tier,
        headline=headline,
        rate=rate,
        why=why,
    )
