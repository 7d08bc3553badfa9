"""The cheapest changes that make it fit, or faster: candidates evaluated together, the useful ones kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from willitrun.catalog import Catalog
from willitrun.estimators.evaluation import Evaluated, evaluate
from willitrun.estimators.requests import (
    Request,
    with_machine,
    with_quantization_checked,
    with_runtime_checked,
)
from willitrun.estimators.workloads import DIFFUSION_TASKS, GRAPH_TASKS, LLM_TASKS
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.machines import Machine
from willitrun.records.presentation import format_field
from willitrun.records.results import Remedy, RemedyKind

__all__ = ["find_remedies"]

_ORDER = {"will-not-run": 0, "unknown": 0, "offload": 1, "tight": 2, "comfortable": 3}
_KINDS = (
    "runtime",
    "quantization",
    "offload",
    "kv-type",
    "context",
    "batch",
    "concurrency",
    "precision",
    "execution",
    "hardware",
)
MOST_REMEDIES = 6
FASTER = 1.15
SHORTEST_CONTEXT = 2048
# Cards by memory that people can buy; the first on which it is comfortable is named.
HARDWARE_LADDER = (
    "nvidia-geforce-rtx-3060-12gb",
    "nvidia-geforce-rtx-5060-ti-16gb",
    "nvidia-geforce-rtx-3090",
    "nvidia-geforce-rtx-5090",
    "nvidia-rtx-6000-ada-generation",
    "nvidia-rtx-pro-6000-blackwell-workstation-edition",
    "nvidia-h200-sxm-141gb",
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A changed request, the kind of change, and how to say it."""

    kind: RemedyKind
    text: str
    request: Request
    arguments: dict[str, Any]


def find_remedies(found: Evaluated) -> tuple[Remedy, ...]:
    """Remedies in order of cost: runtime, format, cache type, context, batch, then hardware.

    Of each kind the mildest change that lifts the tier is kept; where none lifts it, the mildest that makes
    it clearly faster. Candidates are evaluated together in as few array calls as there are runtimes.
    """
    candidates = list(_candidates(found.request, stuck=found.tier == "will-not-run"))
    if not candidates:
        return ()
    results = evaluate([candidate.request for candidate in candidates])
    kept: list[Remedy] = []
    for kind in _KINDS:
        pairs = [(c, r) for c, r in zip(candidates, results, strict=True) if c.kind == kind]
        best = _mildest(found, pairs)
        if best is not None:
            kept.append(_remedy(*best))
    return tuple(kept[:MOST_REMEDIES])


def _mildest(
    found: Evaluated, pairs: list[tuple[Candidate, Evaluated]]
) -> tuple[Candidate, Evaluated] | None:
    now = _ORDER[found.tier]
    for wanted in ("comfortable", "tight", "offload"):
        if _ORDER[wanted] <= now:
            break
        for candidate, result in pairs:
            if result.tier == wanted:
                return candidate, result
    base = found.headline() if found.tier not in ("will-not-run", "unknown") else None
    if base is None:
        return None
    for candidate, result in pairs:
        head = result.headline()
        if _ORDER[result.tier] >= now and head is not None and head[1].best > FASTER * base[1].best:
            return candidate, result
    return None


def _remedy(candidate: Candidate, result: Evaluated) -> Remedy:
    head = result.headline()
    total = result.total()
    parts: list[str] = [result.tier]
    if total is not None:
        parts.append(format_field("bytes", total.best))
    if head is not None:
        parts.append(format_field(head[0], head[1].best))
    return Remedy.model_construct(
        change=candidate.text,
        kind=candidate.kind,
        arguments=candidate.arguments,
        tier=result.tier,
        total_bytes=total,
        headline=head[0] if head else "",
        speed=head[1] if head else None,
        message=f"{candidate.text}: {', '.join(parts)}",
    )


def _candidates(request: Request, *, stuck: bool) -> Iterator[Candidate]:
    """Changes from mild to drastic within each kind."""
    if request.model.task in LLM_TASKS:
        yield from _runtime_changes(request, stuck)
        yield from _format_changes(request)
        yield from _cache_changes(request)
        yield from _context_changes(request)
        yield from _count_changes(request, "concurrency")
    elif request.model.task in GRAPH_TASKS:
        yield from _count_changes(request, "batch_size")
        yield from _graph_changes(request)
    elif request.model.task in DIFFUSION_TASKS:
        yield from _count_changes(request, "batch_size")
        yield from _pipeline_changes(request)
    yield from _hardware_changes(request)


def _runtime_changes(request: Request, stuck: bool) -> Iterator[Candidate]:
    """Another runtime where this one can't, or where it keeps everything on the accelerator and that is full."""
    blocked = any(reason.code in _RUNTIME_CODES for reason in request.blockers)
    if not blocked and not (stuck and request.profile.cpu_offload == "none"):
        return
    for name in ("llama.cpp", "transformers", "vllm", "mlx"):
        if name == request.profile.id:
            continue
        changed = with_runtime_checked(request, name)
        if changed is not None and not changed.blockers:
            yield Candidate("runtime", f"Use {changed.profile.name}", changed, {"runtime": name})


_RUNTIME_CODES = {
    "format-not-supported-by-runtime",
    "runtime-not-on-vendor",
    "runtime-not-on-system",
    "task-not-supported-by-runtime",
    "no-accelerator",
}


def _format_changes(request: Request) -> Iterator[Candidate]:
    current = request.quantization
    if current is None or request.model.tensors is not None:
        return
    for name in smaller_formats(request.catalog, current.id, request.profile.id):
        changed = with_quantization_checked(request, name)
        if changed is not None and not changed.blockers:
            assert changed.quantization is not None
            yield Candidate(
                "quantization", f"Use {changed.quantization.name}", changed, {"quantization": name}
            )


@lru_cache(maxsize=512)
def smaller_formats(catalog: Catalog, name: str, runtime: str) -> tuple[str, ...]:
    """Formats below one in quality that a runtime loads, best first."""
    profile = catalog.runtimes[runtime]
    current = catalog.quantizations[name]
    found = []
    for other in catalog.quantizations.values():
        loads = set(other.container) & set(profile.containers) and (
            not profile.formats or other.id in profile.formats
        )
        if loads and other.exact and other.quality_rank < current.quality_rank:
            found.append((other.quality_rank, other.id))
    return tuple(identifier for _, identifier in sorted(found, reverse=True))


def _cache_changes(request: Request) -> Iterator[Candidate]:
    profile = request.profile
    for kind in ("q8_0", "fp8", "q4_0"):
        if kind in profile.kv_formats and request.runtime.kv_dtype_k in (None, "f16", "bf16"):
            runtime = request.runtime.model_copy(update={"kv_dtype_k": kind, "kv_dtype_v": kind})
            yield Candidate(
                "kv-type",
                f"Store the KV cache in {kind}",
                replace(request, runtime=runtime),
                {"kv_dtype_k": kind, "kv_dtype_v": kind},
            )


def _context_changes(request: Request) -> Iterator[Candidate]:
    load = request.workload
    context = load.context_tokens or 0
    shortest = load.cached_tokens + (load.prompt_tokens or 0) + (load.output_tokens or 0)
    longest = request.model.transformer.max_position_embeddings if request.model.transformer else None
    lengths: list[int] = [longest] if longest is not None and longest < context else []
    length = context // 2
    while length >= max(SHORTEST_CONTEXT, shortest):
        lengths.append(length // 256 * 256)
        length //= 2
    blockers = tuple(reason for reason in request.blockers if reason.code != "context-above-trained-maximum")
    for length in lengths:
        if longest is not None and length > longest:
            continue
        workload = load.model_copy(update={"context_tokens": length})
        changed = replace(request, workload=workload, blockers=blockers)
        yield Candidate(
            "context", f"Shorten the context to {length:,} tokens", changed, {"context_tokens": length}
        )


def _count_changes(request: Request, field: Literal["concurrency", "batch_size"]) -> Iterator[Candidate]:
    value = getattr(request.workload, field) or 1
    kind: RemedyKind = "concurrency" if field == "concurrency" else "batch"
    noun = "sequences at once" if field == "concurrency" else "images at once"
    while value > 1:
        value = value // 2
        changed = replace(request, workload=request.workload.model_copy(update={field: value}))
        yield Candidate(kind, f"Take {value} {noun}", changed, {field: value})


def _graph_changes(request: Request) -> Iterator[Candidate]:
    load = request.workload
    if load.precision == "fp32":
        changed = replace(request, workload=load.model_copy(update={"precision": "amp-fp16"}))
        yield Candidate("precision", "Use autocast to fp16", changed, {"precision": "amp-fp16"})
    if load.execution == "eager":
        changed = replace(request, workload=load.model_copy(update={"execution": "compile"}))
        yield Candidate("execution", "Use torch.compile", changed, {"execution": "compile"})


def _pipeline_changes(request: Request) -> Iterator[Candidate]:
    """The denoiser in fewer bits, the decoder in tiles, whole components or layers in host memory."""
    current = request.quantization
    for name in ("fp8", "nf4"):
        changed = with_quantization_checked(request, name)
        if changed is None or changed.blockers or current is None or changed.quantization is None:
            continue
        if changed.quantization.quality_rank < current.quality_rank:
            yield Candidate(
                "quantization",
                f"Use {changed.quantization.name} for the denoiser",
                changed,
                {"quantization": name},
            )
    runtime = request.runtime
    if not runtime.vae_tiling:
        tiled = runtime.model_copy(update={"vae_tiling": True})
        yield Candidate("offload", "Decode in tiles", replace(request, runtime=tiled), {"vae_tiling": True})
    if request.profile.cpu_offload == "components" and runtime.offload == "none":
        moved = runtime.model_copy(update={"offload": "model"})
        yield Candidate(
            "offload",
            "Keep components that wait in host memory",
            replace(request, runtime=moved),
            {"offload": "model"},
        )


@lru_cache(maxsize=32)
def _ladder_machine(catalog: Catalog, name: str, host: str) -> Machine:
    return describe_machine(name, catalog=catalog)


def _hardware_changes(request: Request) -> Iterator[Candidate]:
    machine = request.machine
    assert machine is not None
    if machine.accelerators and machine.accelerators[0].accelerator.vendor != "nvidia":
        # Another vendor's card may need another runtime: `recommend` answers that.
        return
    have = max((d.memory_total_bytes or d.accelerator.memory or 0 for d in machine.accelerators), default=0)
    for name in HARDWARE_LADDER:
        if name not in request.catalog.accelerators:
            continue
        memory = request.catalog.accelerators[name].memory or 0
        if memory <= have:
            continue
        card = _ladder_machine(request.catalog, name, machine.name)
        other = card.model_copy(update={"host": machine.host})
        changed = with_machine(request, other)
        yield Candidate(
            "hardware", f"Use a {card.accelerators[0].accelerator.name}", changed, {"machine": name}
        )
