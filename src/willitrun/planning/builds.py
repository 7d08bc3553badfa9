"""Custom builds: which of the cards to use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations
from typing import Any

from willitrun.estimators.evaluation import Evaluated, evaluate
from willitrun.estimators.requests import Request
from willitrun.records.machines import Machine

__all__ = ["best_of_subsets", "subsets"]


def subsets(machine: Machine) -> tuple[Machine, ...]:
    """The machine with every choice of its cards that differs in kind, all of them first.

    Three cards of one kind give three choices, not seven: alike cards are interchangeable.
    """
    devices = machine.accelerators
    seen: dict[tuple[object, ...], Machine] = {}
    for size in range(len(devices), 0, -1):
        for chosen in combinations(range(len(devices)), size):
            kinds = tuple(
                (devices[i].accelerator.id, devices[i].memory_total_bytes, devices[i].pcie_lanes)
                for i in chosen
            )
            if kinds not in seen:
                kept = tuple(devices[i] for i in chosen)
                links = tuple(
                    link for link in machine.links if not link.devices or set(link.devices) <= set(chosen)
                )
                moved = tuple(
                    link.model_copy(update={"devices": tuple(chosen.index(i) for i in link.devices)})
                    for link in links
                )
                whole = size == len(devices)
                seen[kinds] = (
                    machine if whole else machine.model_copy(update={"accelerators": kept, "links": moved})
                )
    return tuple(seen.values()) or (machine,)


def best_of_subsets(requests: Iterable[Request], key: Callable[[Evaluated], Any]) -> Evaluated:
    """The best of all choices of cards of each request's machine: a card more never makes it worse.

    Ties keep the earlier request, and more cards.
    """
    candidates = []
    for request in requests:
        if request.machine is None:
            candidates.append(request)
            continue
        candidates += [replace(request, machine=machine).rechecked() for machine in subsets(request.machine)]
    found = evaluate(candidates)
    best = found[0]
    for one in found[1:]:
        if key(one) > key(best):
            best = one
    return best
