"""What would change an answer most: the same question asked again with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log
from typing import Any

from willitrun.catalog import Catalog
from willitrun.errors import WillItRunError
from willitrun.estimators.defaults import GGUF_LADDER
from willitrun.estimators.evaluation import Evaluated, evaluate_one
from willitrun.estimators.requests import (
    Request,
    complete_request,
    with_machine,
    with_quantization_checked,
)
from willitrun.estimators.workloads import GRAPH_TASKS, LLM_TASKS
from willitrun.records.explanations import Sensitivity
from willitrun.records.machines import Machine
from willitrun.records.recipes import Runtime, Workload
from willitrun.records.results import Verdict

__all__ = ["find_sensitivities"]

STEP = 1.1
"""How much more of a rate is tried: a tenth."""


def find_sensitivities(
    verdict: Verdict, catalog: Catalog, *, model: Any = None, machine: Any = None
) -> tuple[tuple[Sensitivity, ...], str]:
    """Effects of single changes on speed, memory and tier, the largest on speed first.

    Parameters
    ----------
    verdict
        It is computed again from its inputs; what they do not hold has to be given.
    model, machine
        The subjects, where they are not in the catalog or the host was described.

    Returns
    -------
    tuple
        The sensitivities, and a reason where there are none.
    """
    inputs = verdict.inputs
    if model is None and inputs.model not in catalog.models:
        return (), f"{inputs.model} is in no catalog; give it to explain() as model=."
    if machine is None and not inputs.accelerators:
        return (), "the machine has no accelerator of the catalog; give it to explain() as machine=."
    try:
        request = _request(verdict, catalog, model, machine)
        base = evaluate_one(request)
    except WillItRunError as error:
        return (), f"the verdict cannot be computed again: {error}"
    before, told = base.headline(), verdict.speed.headline() if verdict.speed is not None else None
    if before is None or told is None:
        return (), "speed is unknown."
    if abs(log(before[1].best / told[1].best)) > 1e-6:
        return (
            (),
            "the verdict was for a machine with another host or free memory; give it to explain() as machine=.",
        )
    found = [
        _effect(change, base, before[1].best, evaluate_one(changed)) for change, changed in _changes(request)
    ]
    kept = [effect for effect in found if effect is not None]
    kept.sort(key=lambda effect: -abs(log(effect.ratio)))
    return tuple(kept), ""


def _request(verdict: Verdict, catalog: Catalog, model: Any, machine: Any) -> Request:
    inputs = verdict.inputs
    graph = inputs.quantization is None or (
        catalog.models.get(inputs.model) is not None and catalog.models[inputs.model].task in GRAPH_TASKS
    )
    return complete_request(
        model if model is not None else inputs.model,
        machine if machine is not None else list(inputs.accelerators),
        Workload(**inputs.workload),
        quantization=None if graph else inputs.quantization,
        runtime=Runtime(**inputs.runtime),
        memory=inputs.memory,
        catalog=catalog,
    )


def _effect(change: str, base: Evaluated, before: float, after: Evaluated) -> Sensitivity | None:
    head, total, old = after.headline(), after.total(), base.total()
    if head is None or after.tier in ("will-not-run", "unknown"):
        return None
    ratio = head[1].best / before
    # What takes longer when it is worse counts the other way round.
    better = head[0].endswith("_per_s") or head[0] == "real_time_factor"
    return Sensitivity(
        change=change,
        headline=head[0],
        before=before,
        after=head[1].best,
        ratio=ratio if better else 1.0 / ratio,
        total_bytes_before=old.best if old is not None else None,
        total_bytes_after=total.best if total is not None else None,
        tier=after.tier,
    )


def _changes(request: Request) -> Iterator[tuple[str, Request]]:
    machine = request.machine
    assert machine is not None
    if machine.accelerators:
        yield "10 % more memory bandwidth", with_machine(request, _faster(machine, "memory_bandwidth"))
        yield "10 % more arithmetic, in every format", with_machine(request, _faster(machine, "peaks"))
    bandwidth = machine.host.memory_bandwidth_bytes_per_s
    if bandwidth:
        host = machine.host.model_copy(update={"memory_bandwidth_bytes_per_s": bandwidth * STEP})
        yield (
            "10 % more bandwidth of main memory",
            with_machine(request, machine.model_copy(update={"host": host})),
        )
    yield from _loads(request)
    yield from _recipes(request)


def _faster(machine: Machine, field: str) -> Machine:
    devices = []
    for device in machine.accelerators:
        record = device.accelerator
        if field == "peaks":
            rates = {
                name: value * STEP
                for name, value in record.peaks.model_dump().items()
                if isinstance(value, float)
            }
            changed: Any = record.peaks.model_copy(update=rates)
        else:
            changed = record.memory_bandwidth * STEP if record.memory_bandwidth else None
        record = record.model_copy(update={field: changed})
        devices.append(device.model_copy(update={"accelerator": record}))
    return machine.model_copy(update={"accelerators": tuple(devices)})


def _loads(request: Request) -> Iterator[tuple[str, Request]]:
    load = request.workload
    doubled = {
        "context_tokens": "twice the context",
        "prompt_tokens": "twice the prompt",
        "batch_size": "twice the batch",
        "steps": "twice the steps",
    }
    for field, text in doubled.items():
        value = getattr(load, field)
        if value is None or (field == "batch_size" and request.model.task in LLM_TASKS):
            continue
        update: dict[str, Any] = {field: 2 * value}
        if field == "prompt_tokens" and load.context_tokens:
            update["context_tokens"] = max(load.context_tokens, 2 * value + (load.output_tokens or 0))
        changed = replace(request, workload=load.model_copy(update=update)).rechecked()
        if not changed.blockers:
            yield text, changed
    if request.model.task in LLM_TASKS and load.mode == "inference":
        many = load.model_copy(update={"concurrency": 2 * load.concurrency})
        yield "twice the sequences in flight", replace(request, workload=many)
        deep = load.cached_tokens + 8192
        full = load.model_copy(
            update={"cached_tokens": deep, "context_tokens": max(load.context_tokens or 0, deep + 1024)}
        )
        changed = replace(request, workload=full).rechecked()
        if not changed.blockers:
            yield "8,192 tokens in the cache before the prompt", changed


def _recipes(request: Request) -> Iterator[tuple[str, Request]]:
    if request.quantization is not None and request.quantization.id in GGUF_LADDER:
        place = GGUF_LADDER.index(request.quantization.id)
        for neighbour in (place - 1, place + 1):
            if 0 <= neighbour < len(GGUF_LADDER):
                changed = with_quantization_checked(request, GGUF_LADDER[neighbour])
                if changed is not None and not changed.blockers:
                    yield f"weights in {GGUF_LADDER[neighbour]} instead of {request.quantization.id}", changed
    if (
        request.model.task in LLM_TASKS
        and request.profile.kv_policy == "cells"
        and "q8_0" in request.profile.kv_formats
        and request.runtime.kv_dtype_k is None
    ):
        runtime = request.runtime.model_copy(update={"kv_dtype_k": "q8_0", "kv_dtype_v": "q8_0"})
        yield "keys and values in q8_0", replace(request, runtime=runtime)
    if request.model.task in GRAPH_TASKS and request.workload.mode == "inference":
        for field, value in (("precision", "amp-fp16"), ("execution", "compile")):
            if getattr(request.workload, field) != value and request.profile.id == "pytorch":
                yield (
                    f"{field} {value}",
                    replace(request, workload=request.workload.model_copy(update={field: value})).rechecked(),
                )
