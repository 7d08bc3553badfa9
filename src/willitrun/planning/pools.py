"""`effective_memory`: what a custom build offers a model, never a plain sum of its cards."""

from __future__ import annotations

from typing import Any, Literal

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import WillItRunError
from willitrun.estimators.availability import available_memory
from willitrun.estimators.llm_machines import machine_row, on_host, parallel, select_devices
from willitrun.estimators.requests import Request, complete_request
from willitrun.estimators.topology import host_numbers
from willitrun.hardware.queries import to_query
from willitrun.records.builds import BuildDevice, EffectiveMemory, MemoryDeduction
from willitrun.records.machines import InstalledAccelerator, Machine
from willitrun.records.recipes import Placement, Runtime

__all__ = ["effective_memory"]

_REFERENCE = "llama-3.1-8b"
"""Asked about where nobody names a model: heads and formats of a common one."""


def effective_memory(
    machine: Any = None,
    *,
    model: Any = None,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    memory: str = "free",
    catalog: Catalog | None = None,
) -> EffectiveMemory:
    """Memory that a model can have on a build, with every deduction.

    Parameters
    ----------
    machine
        Whatever `describe_machine` takes; None is this machine.
    model, quantization, runtime, placement
        What is to run: they decide which devices are used and how. None is a common 8B on what suits it.
    memory
        ``free``, ``idle`` or ``nameplate``, as for `assess`.

    Returns
    -------
    EffectiveMemory
        ``installed_bytes`` less ``deductions`` of devices is ``effective_bytes``: drivers, desktops, other processes,
        budgets of unified memory, what a runtime leaves by its own choice, devices that it leaves out, and what uneven
        cards lose to a tensor split.

    Raises
    ------
    WillItRunError
        The model is of a kind that uses one device (code ``not-a-language-model``).

    Examples
    --------
    >>> found = effective_memory(["rtx-3090", "rtx-3060-12gb"], runtime="vllm", quantization="awq-int4")
    >>> found.split, [one.device for one in found.deductions if one.cause.startswith("uneven")]
    ('tensor', ['all'])
    """
    catalog = catalog or load_catalog()
    request = complete_request(
        model or _REFERENCE,
        machine,
        quantization=quantization or ("q4_k_m" if model is None and runtime is None else None),
        runtime=runtime,
        placement=placement,
        memory=memory,
        catalog=catalog,
    )
    if request.model.transformer is None:
        raise WillItRunError(
            f"{request.model.name} is no language model: it uses one device.",
            code="not-a-language-model",
            hint="See estimate_memory.",
        )
    place = request.machine
    assert place is not None
    if on_host(request):
        return _host_only(request, place)
    chosen = select_devices(request)
    used = place.model_copy(update={"accelerators": tuple(place.accelerators[i] for i in chosen)})
    room = available_memory(used, request.memory, catalog)
    view = machine_row(request)
    deductions = [
        MemoryDeduction(device=one.name, cause=one.cause, bytes=one.bytes) for one in room.deductions
    ]
    tensor = parallel(request, len(chosen))[0] > 1
    split: Literal["single", "layer", "tensor"] = (
        "single" if len(chosen) == 1 else "tensor" if tensor else "layer"
    )
    for name, before, after in zip(view.names, room.devices, view.available, strict=True):
        if before > after:
            cause = f"left free by {request.profile.name} (gpu_memory_utilization)"
            deductions.append(MemoryDeduction(device=name, cause=cause, bytes=before - after))
    smallest = min(view.available)
    lost = sum(view.available) - smallest * len(chosen) if tensor else 0
    if lost:
        cause = "uneven cards: a tensor split takes as much of each as the smallest has"
        deductions.append(MemoryDeduction(device="all", cause=cause, bytes=lost))
    hosts = host_numbers(place)
    shared = {hosts[i] for i in chosen if place.accelerators[i].shares_host_memory}
    devices = []
    for i, device in enumerate(place.accelerators):
        installed = _installed(device, place)
        # An integrated GPU beside cards, or two views of one memory: its RAM is the host's, not more.
        counted = not device.shares_host_memory or i in chosen
        effective = (smallest if tensor else view.available[chosen.index(i)]) if i in chosen else 0
        devices.append(
            BuildDevice(
                name=device.accelerator.name,
                host=hosts[i],
                installed_bytes=installed if counted else 0,
                effective_bytes=effective,
            )
        )
        if i not in chosen and counted:
            cause = f"left out by {request.profile.name} with this split or back end"
            deductions.append(MemoryDeduction(device=device.accelerator.name, cause=cause, bytes=installed))
    return EffectiveMemory(
        machine=place.name,
        runtime=request.profile.id,
        split=split,
        pooled=len(chosen) == 1,
        installed_bytes=sum(device.installed_bytes for device in devices),
        effective_bytes=sum(device.effective_bytes for device in devices),
        largest_device_bytes=max(view.available),
        host_bytes=0 if shared else room.host,
        devices=tuple(devices),
        deductions=tuple(deductions),
        query=_query(place),
        notes=_notes(
            request, split, [reason.message for reason in view.reasons if reason.code == "over-network"]
        ),
    )


def _installed(device: InstalledAccelerator, machine: Machine) -> int:
    if device.shares_host_memory:
        return machine.host.ram_total_bytes or 0
    return device.memory_total_bytes or device.accelerator.memory or device.accelerator.memory_marketed or 0


def _host_only(request: Request, machine: Machine) -> EffectiveMemory:
    room = available_memory(machine, request.memory, request.catalog, on_host=True)
    return EffectiveMemory(
        machine=machine.name,
        runtime=request.profile.id,
        split="host",
        pooled=True,
        installed_bytes=machine.host.ram_total_bytes or 0,
        effective_bytes=room.host,
        largest_device_bytes=room.host,
        host_bytes=room.host,
        deductions=tuple(
            MemoryDeduction(device=one.name, cause=one.cause, bytes=one.bytes) for one in room.deductions
        ),
        query=_query(machine),
        notes=_notes(request, "host", []),
    )


def _query(machine: Machine) -> str | None:
    try:
        return to_query(machine)
    except WillItRunError:
        return None


_SPLITS = {
    "layer": "Memory does not pool: each card holds whole layers and its own part of the cache and buffers.",
    "tensor": "Memory does not pool: each card holds an equal share of every layer, and buffers of its own.",
    "single": "One device holds all of the model that does not go to the host.",
    "host": "The host computes, in its own memory.",
}


def _notes(request: Request, split: str, more: list[str]) -> tuple[str, ...]:
    notes = [_SPLITS[split], *more]
    machine = request.machine
    if machine is not None and machine.assumptions:
        notes.append(f"Assumed: {'; '.join(machine.assumptions)}.")
    return tuple(notes)
