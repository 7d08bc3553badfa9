"""Custom builds: which of the cards to use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations
from typing import Any

from willitrun.estimators.evaluation import Evaluated, evaluate
from willitrun.estimators.requests import Request
from willitrun.records.machines import Link, Machine

__all__ = ["best_of_subsets", "subsets"]


def subsets(machine: Machine) -> tuple[Machine, ...]:
    """The machine with every choice of its cards that differs in kind, all of them first.

    Three cards of one kind give three choices, not seven: alike cards are interchangeable.
    """
    devices = machine.accelerators
    seen: dict[tuple[object, ...], Machine] = {}
    for size in range(len(devices), 0, -1):
        for chosen in combinations(range(len(devices)), size):
            kept = tuple(devices[i] for i in chosen)
            links = _links_between(machine.links, chosen)
            kinds = (
                tuple((one.accelerator.id, one.memory_total_bytes, one.pcie_lanes) for one in kept),
                tuple((link.kind, link.bandwidth_bytes_per_s, link.devices) for link in links),
            )
            if kinds not in seen:
                fewer = machine.model_copy(update={"accelerators": kept, "links": links})
                seen[kinds] = machine if size == len(devices) else fewer
    return tuple(seen.values()) or (machine,)


def _links_between(links: Iterable[Link], chosen: tuple[int, ...]) -> tuple[Link, ...]:
    """Links as the chosen devices have them, by their new numbers.

    A network between the hosts of some of them stays one: leaving out the first card of a host makes no other local.
    """
    found = []
    for link in links:
        if link.kind == "ethernet" and len(link.devices) > 1:
            starts = sorted(link.devices)
            firsts: dict[int, int] = {}
            for place, i in enumerate(chosen):
                firsts.setdefault(max(sum(start <= i for start in starts) - 1, 0), place)
            moved = tuple(firsts.values())
            if len(moved) < 2:
                continue
        else:
            moved = tuple(chosen.index(i) for i in link.devices if i in chosen)
            if link.devices and len(moved) < min(2, len(link.devices)):
                continue
        found.append(link.model_copy(update={"devices": moved}))
    return tuple(found)


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
