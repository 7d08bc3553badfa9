"""Other machines as remedies: more of the same cards, larger ones, the same chip with more memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from willitrun.estimators.next_machines import CARD_FORMS, machines_to_buy
from willitrun.estimators.requests import Request, with_machine
from willitrun.estimators.workloads import is_language
from willitrun.frozen import frozen
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.machines import Host, Machine
from willitrun.records.results import RemedyKind
from willitrun.units import format_bytes

__all__ = ["Candidate", "hardware_changes", "more_memory"]

MOST_CARDS = 8
"""Policy: most cards of one kind that a remedy proposes; more are a question for `plan`."""


@frozen
class Candidate:
    """A changed request, the kind of change, and how to say it."""

    kind: RemedyKind
    text: str
    request: Request
    arguments: dict[str, Any]


def hardware_changes(request: Request) -> Iterator[Candidate]:
    """The same chip with more memory; more of the same cards, a larger one, as many larger ones."""
    machine = request.machine
    assert machine is not None
    devices = machine.accelerators
    if any(device.shares_host_memory for device in devices):
        yield from _roomier_systems(request, machine)
        return
    if devices:
        yield from _more_cards(request, machine)
    elif (machine.host.memory_type or "").upper().startswith("LPDDR"):
        # Soldered memory: a board or a thin laptop, which has no slot for a card.
        return
    vendor = devices[0].accelerator.vendor if devices else "nvidia"
    have = max((d.memory_total_bytes or d.accelerator.memory or 0 for d in devices), default=0)
    counts = (1, len(devices)) if len(devices) > 1 and _divides_work(request) else (1,)
    for count in counts:
        for memory, card in machines_to_buy(request.catalog, vendor):
            if memory <= have:
                continue
            accelerator = card.accelerators[0].accelerator
            spec: Any = accelerator.id if count == 1 else [accelerator.id] * count
            name = accelerator.name if count == 1 else f"{count} x {accelerator.name}"
            text = (
                f"Use cards with more memory: {name}"
                if count > 1
                else f"Use a card with more memory: {name}"
                if devices
                else f"Use a graphics card: {name}"
            )
            yield _moved(request, spec, text, machine.host)


def _moved(request: Request, spec: Any, text: str, host: Host) -> Candidate:
    catalog = request.catalog
    described = catalog.remember(
        ("machine-to-buy", repr(spec)), lambda: describe_machine(spec, catalog=catalog)
    )
    other = catalog.memo("machines-moved").get(
        (described, host), None, partial(described.model_copy, update={"host": host})
    )
    return Candidate("hardware", text, with_machine(request, other), {"machine": spec})


def _divides_work(request: Request) -> bool:
    """Whether several cards hold one copy of the model in this runtime."""
    trains = request.workload.mode != "inference"
    return bool(request.profile.multi_gpu) and is_language(request.model) and not trains


def _more_cards(request: Request, machine: Machine) -> Iterator[Candidate]:
    """One more of the same card, and twice as many, where cards of the kind go into a board."""
    first, devices = machine.accelerators[0].accelerator, machine.accelerators
    alike = len({device.accelerator.id for device in devices}) == 1
    known = first.id in request.catalog.accelerators
    if not (alike and known) or first.form not in CARD_FORMS or not _divides_work(request):
        return
    for count in dict.fromkeys((len(devices) + 1, 2 * len(devices))):
        if count <= MOST_CARDS:
            yield _moved(request, [first.id] * count, f"Use {count} x {first.name}", machine.host)


def _roomier_systems(request: Request, machine: Machine) -> Iterator[Candidate]:
    """The same chip in a system with more memory, as it is sold."""
    if len(machine.accelerators) != 1:
        return
    accelerator, have = machine.accelerators[0].accelerator, machine.host.ram_total_bytes or 0
    for size in sorted(accelerator.unified_memory_options):
        if size > have:
            spec = f"{accelerator.id}:{size // 2**30} GiB"
            text = f"Use the system with {format_bytes(size)} of memory"
            host = machine.host.model_copy(update=more_memory(machine.host, size))
            yield _moved(request, spec, text, host)


def more_memory(host: Host, size: int) -> dict[str, int]:
    """Fields of a host that change when its memory does [bytes]."""
    more = size - (host.ram_total_bytes or 0)
    available = host.ram_available_bytes
    return {"ram_total_bytes": size} | (
        {} if available is None else {"ram_available_bytes": available + more}
    )
