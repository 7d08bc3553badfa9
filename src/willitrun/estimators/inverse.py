"""The questions the other way round: the longest context, the largest batch, the best format, the smallest machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from willitrun.catalog import Catalog
from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.defaults import GGUF_LADDER
from willitrun.estimators.evaluation import evaluate
from willitrun.estimators.requests import (
    Request,
    complete_request,
    with_machine,
    with_quantization_checked,
)
from willitrun.hardware.descriptions import describe_machine
from willitrun.kernels.queueing import shared_token_seconds
from willitrun.records.machines import Machine
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.results import SpeedEstimate

__all__ = ["best_quantization", "largest_batch", "largest_concurrency", "largest_context", "smallest_machine"]

TIER_ORDER = {"unknown": -1, "will-not-run": 0, "offload": 1, "tight": 2, "comfortable": 3}
LATENCIES = ("time_to_first_token_s", "time_per_output_token_s")
_NO_GOALS: Mapping[str, float] = MappingProxyType({})
PROBES = 32
"""Values tried per array call; two calls narrow 2^20 values down to one."""


def largest_context(
    model: Any,
    machine: Any = None,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    tier: str = "comfortable",
    step: int = 256,
    catalog: Catalog | None = None,
) -> int | None:
    """Longest context per sequence that still reaches a tier [tokens]; None if not even the shortest does.

    Never above the trained maximum; a multiple of ``step``.

    Examples
    --------
    >>> largest_context("llama-3.1-8b", "rtx-3060-12gb", quantization="q4_k_m") > 8192
    True
    """
    load = workload or Workload()
    short = load.model_copy(update={"context_tokens": None})
    request = complete_request(
        model,
        machine,
        short,
        quantization=quantization,
        runtime=runtime,
        placement=placement,
        catalog=catalog,
    )
    transformer = request.model.transformer
    if transformer is None:
        raise InvalidWorkloadError(f"{request.model.name} has no context.")
    done = request.workload
    least = done.cached_tokens + (done.prompt_tokens or 0) + (done.output_tokens or 0)
    most = transformer.max_position_embeddings or 2**20

    def at(value: int) -> Request:
        length = min(max(value * step, least), most)
        changed = replace(request, workload=done.model_copy(update={"context_tokens": length}))
        return changed.rechecked()

    found = _largest(at, 1, -(-most // step), tier)
    return None if found is None else min(max(found * step, least), most)


def largest_batch(
    model: Any,
    machine: Any = None,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    tier: str = "comfortable",
    most: int = 65536,
    catalog: Catalog | None = None,
) -> int | None:
    """Largest batch of images (or documents) that still reaches a tier; None if not even 1 does.

    Examples
    --------
    >>> largest_batch("resnet-50", "rtx-3060-12gb") >= 64
    True
    """
    return _largest_count("batch_size", model, machine, workload, quantization, runtime, tier, most, catalog)


def largest_concurrency(
    model: Any,
    machine: Any = None,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    tier: str = "comfortable",
    targets: Mapping[str, float] | None = None,
    most: int = 65536,
    catalog: Catalog | None = None,
) -> int | None:
    """Most sequences in flight that still reach a tier, and keep the latencies; None if not even one does.

    Parameters
    ----------
    model, machine, workload, quantization, runtime, catalog
        As for `assess`; the workload's own concurrency does not count.
    tier
        Least tier that is good enough.
    targets
        ``time_to_first_token_s`` and ``time_per_output_token_s``, at most, by the best estimate and with all of them in
        flight all the time, so that prompts of the others are read in between. For requests that come at random see
        `plan_serving`.
    most
        Where the search ends.

    Examples
    --------
    >>> slow, fast = (largest_concurrency("llama-3.1-8b", "l4", quantization="fp8", runtime="vllm",
    ...     targets={"time_per_output_token_s": seconds}) for seconds in (0.1, 0.05))
    >>> slow > fast >= 1
    True
    """
    goals = dict(targets or {})
    for name, value in goals.items():
        if name not in LATENCIES:
            raise InvalidWorkloadError(
                f"{name!r} is no latency of a server.", hint=f"Targets: {', '.join(LATENCIES)}."
            )
        if not 0 < value < float("inf"):
            raise InvalidWorkloadError(f"the target {name} is a number above 0, got {value!r}.")
    return _largest_count(
        "concurrency", model, machine, workload, quantization, runtime, tier, most, catalog, goals
    )


def _largest_count(
    field: str,
    model: Any,
    machine: Any,
    workload: Workload | None,
    quantization: str | None,
    runtime: str | Runtime | None,
    tier: str,
    most: int,
    catalog: Catalog | None,
    goals: Mapping[str, float] | None = None,
) -> int | None:
    load = (workload or Workload()).model_copy(update={field: 1})
    request = complete_request(
        model, machine, load, quantization=quantization, runtime=runtime, catalog=catalog
    )

    def at(value: int) -> Request:
        return replace(request, workload=request.workload.model_copy(update={field: value}))

    return _largest(at, 1, most, tier, goals or {})


def _keeps(request: Request, speed: SpeedEstimate | None, goals: Mapping[str, float]) -> bool:
    """Whether latencies are known and no longer than asked for."""
    if speed is None:
        return not goals
    for name, longest in goals.items():
        value = getattr(speed, name)
        if value is None:
            return False
        best, load = value.best, request.workload
        read = speed.prefill_tokens_per_s
        if name == "time_per_output_token_s" and request.profile.kv_policy != "pages" and read is not None:
            # The estimate is that of writing alone; a server reads the prompts of the others in between.
            outputs = max(load.output_tokens or 1, 1)
            best = float(
                shared_token_seconds(best, load.concurrency - 1, load.prompt_tokens or 0, outputs, read.best)
            )
        if best > longest:
            return False
    return True


def _largest(
    at: Callable[[int], Request], low: int, high: int, tier: str, goals: Mapping[str, float] = _NO_GOALS
) -> int | None:
    """Largest value whose tier, and whose latencies, are good enough, by array calls over ever narrower grids.

    Neither memory nor a latency falls with the value, so the good values are a prefix.
    """
    wanted = TIER_ORDER[tier]

    def good(values: Sequence[int]) -> list[bool]:
        asked = [at(value) for value in values]
        return [
            TIER_ORDER[found.tier] >= wanted and (not goals or _keeps(request, found.speed_estimate(), goals))
            for request, found in zip(asked, evaluate(asked), strict=True)
        ]

    if not good([low])[0]:
        return None
    best = low
    while best < high:
        span = high - best
        count = min(PROBES, span)
        values = [best + -(-span * (i + 1) // count) for i in range(count)]
        passed = good(values)
        reached = sum(1 for _ in _prefix(passed))
        if reached == len(values):
            return high
        best, high = (values[reached - 1] if reached else best), values[reached] - 1
    return best


def _prefix(passed: Iterable[bool]) -> Iterable[bool]:
    for value in passed:
        if not value:
            return
        yield value


def best_quantization(
    model: Any,
    machine: Any = None,
    workload: Workload | None = None,
    *,
    runtime: str | Runtime | None = None,
    tier: str = "comfortable",
    quantizations: Sequence[str] = GGUF_LADDER,
    catalog: Catalog | None = None,
) -> str | None:
    """The best weight format of a list that still reaches a tier; None if none does.

    Examples
    --------
    >>> best_quantization("llama-3.1-8b", "rtx-4090")
    'q8_0'
    """
    request = complete_request(
        model, machine, workload, quantization=quantizations[0], runtime=runtime, catalog=catalog
    )
    candidates = [with_quantization_checked(request, name) for name in quantizations]
    known = [candidate for candidate in candidates if candidate is not None]
    for candidate, found in zip(known, evaluate(known), strict=True):
        if TIER_ORDER[found.tier] >= TIER_ORDER[tier] and candidate.quantization is not None:
            return candidate.quantization.id
    return None


def smallest_machine(
    model: Any,
    machines: Sequence[Any] | None = None,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    tier: str = "comfortable",
    catalog: Catalog | None = None,
) -> str | None:
    """Id of the accelerator with the least memory on which a model reaches a tier; of several cards the machine's name.

    Parameters
    ----------
    machines
        What to choose from; None takes every card of the catalog with memory of its own.

    Examples
    --------
    >>> smallest_machine("llama-3.1-8b", ["rtx-3060-12gb", "rtx-4090"], quantization="q4_k_m")
    'nvidia-geforce-rtx-3060-12gb'
    """
    from willitrun.catalog import load_catalog

    catalog = catalog or load_catalog()
    names = machines if machines is not None else _cards(catalog)
    described = [describe_machine(name, catalog=catalog) for name in names]
    if not described:
        raise InvalidWorkloadError("there is no machine to choose from.")
    described.sort(key=_memory_of)
    request = complete_request(
        model, described[0], workload, quantization=quantization, runtime=runtime, catalog=catalog
    )
    found = evaluate([with_machine(request, machine) for machine in described])
    for machine, result in zip(described, found, strict=True):
        if TIER_ORDER[result.tier] >= TIER_ORDER[tier]:
            alone = len(machine.accelerators) == 1
            return machine.accelerators[0].accelerator.id if alone else machine.name
    return None


def _memory_of(machine: Machine) -> int:
    """Memory of a machine's accelerators, of the host where it has none [bytes]."""
    if not machine.accelerators:
        return machine.host.ram_total_bytes or 0
    return sum(d.memory_total_bytes or d.accelerator.memory or 0 for d in machine.accelerators)


def _cards(catalog: Catalog) -> list[str]:
    return [
        record.id
        for record in catalog.accelerators.values()
        if record.memory and not record.unified_memory and record.memory_bandwidth and record.kind == "gpu"
    ]
