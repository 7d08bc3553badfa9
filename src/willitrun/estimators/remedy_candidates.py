"""Changes that may make a combination fit, or make it faster: what each task has, from mild to drastic."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from willitrun.catalog import Catalog
from willitrun.estimators.defaults import GGUF_LADDER
from willitrun.estimators.remedy_machines import Candidate, hardware_changes, more_memory
from willitrun.estimators.remedy_training import training_changes
from willitrun.estimators.requests import (
    Request,
    with_machine,
    with_quantization_checked,
    with_runtime_checked,
    with_runtime_fields,
)
from willitrun.estimators.workloads import DIFFUSION_TASKS, GRAPH_TASKS, LLM_TASKS
from willitrun.frozen import with_changes
from willitrun.records.presentation import counted
from willitrun.records.recipes import Quantization
from willitrun.records.results import RemedyKind

__all__ = ["lasting_llm_changes", "llm_load_changes", "other_changes"]

SHORTEST_CONTEXT = 2048


def lasting_llm_changes(request: Request, *, stuck: bool) -> Iterator[Candidate]:
    """Changes of a language model's request that no load decides."""
    yield from _placement_changes(request)
    yield from _runtime_changes(request, stuck)
    yield from _format_changes(request)
    yield from _cache_changes(request)
    yield from hardware_changes(request)


def llm_load_changes(request: Request) -> Iterator[Candidate]:
    """A shorter context, fewer sequences."""
    yield from _context_changes(request)
    yield from _count_changes(request, "concurrency")


def other_changes(request: Request, *, stuck: bool) -> Iterator[Candidate]:
    """Changes of any other request, and of training a language model."""
    task = request.model.task
    if task in GRAPH_TASKS:
        yield from _runtime_changes(request, stuck=False)
        yield from _count_changes(request, "batch_size")
        yield from _graph_changes(request)
    elif task in DIFFUSION_TASKS:
        yield from _runtime_changes(request, stuck=False)
        yield from _count_changes(request, "batch_size")
        yield from _pipeline_changes(request)
    else:
        yield from _runtime_changes(request, stuck)
        yield from _format_changes(request)
        yield from _cache_changes(request)
        yield from _count_changes(request, "batch_size")
        if task in LLM_TASKS:
            yield from llm_load_changes(request)
    if request.workload.mode != "inference" and task not in GRAPH_TASKS:
        yield from training_changes(request)
    yield from hardware_changes(request)


def _placement_changes(request: Request) -> Iterator[Candidate]:
    """Let the runtime place the model, where somebody else did."""
    if any(value is not None for value in request.placement.stated().values()):
        text = f"Leave the placement to {request.profile.name}"
        yield Candidate("placement", text, request.unplaced(), {"placement": None})


def _runtime_changes(request: Request, stuck: bool) -> Iterator[Candidate]:
    """Another runtime where this one can't, or where it keeps everything on the accelerator and that is full."""
    blocked = any(reason.code in _RUNTIME_CODES for reason in request.blockers)
    if not blocked and not (stuck and request.profile.cpu_offload in ("none", "experts-only")):
        return
    for name in _runtimes_of(request.model.task):
        if name == request.profile.id:
            continue
        changed = with_runtime_checked(request, name)
        if changed is not None and not changed.blockers:
            yield Candidate("runtime", f"Use {changed.profile.name}", changed, {"runtime": name})


def _runtimes_of(task: str) -> tuple[str, ...]:
    """Runtimes to change to for a task, those first that run on most machines."""
    if task in GRAPH_TASKS:
        return ("pytorch",)
    return ("diffusers",) if task in DIFFUSION_TASKS else ("llama.cpp", "transformers", "vllm", "mlx")


_RUNTIME_CODES = {
    "format-not-supported-by-runtime",
    "runtime-not-on-vendor",
    "runtime-not-on-system",
    "task-not-supported-by-runtime",
    "no-accelerator",
    "placement-not-supported-by-runtime",
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
    yield from _gguf_elsewhere(request, current)


def _gguf_elsewhere(request: Request, current: Quantization) -> Iterator[Candidate]:
    """Smaller files in the runtime that reads them, where this one reads none: most people's way to large models."""
    chat = request.model.task in LLM_TASKS - {"text-to-speech"} and request.workload.mode == "inference"
    if not chat or "gguf" in request.profile.containers:
        return
    table = request.catalog.quantizations
    for name in GGUF_LADDER:
        if table[name].quality_rank >= current.quality_rank:
            continue
        changed = with_runtime_checked(request.with_quantization(table[name]), "llama.cpp")
        if changed is not None and not changed.blockers:
            text = f"Use {table[name].name} in {changed.profile.name}"
            yield Candidate("quantization", text, changed, {"quantization": name, "runtime": "llama.cpp"})


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
            yield Candidate(
                "kv-type",
                f"Store the KV cache in {kind}",
                with_runtime_fields(request, kv_dtype_k=kind, kv_dtype_v=kind),
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
        fields = {"context_tokens": length}
        if length < shortest:
            # The trained maximum is less than what was to be read and written.
            output = min(load.output_tokens or 1, max(length - load.cached_tokens - 1, 1))
            fields |= {"prompt_tokens": length - load.cached_tokens - output, "output_tokens": output}
            if fields["prompt_tokens"] < 1:
                continue
        workload = load.model_copy(update=fields)
        changed = with_changes(request, workload=workload, blockers=blockers)
        yield Candidate("context", f"Shorten the context to {length:,} tokens", changed, fields)


def _count_changes(request: Request, field: Literal["concurrency", "batch_size"]) -> Iterator[Candidate]:
    value = getattr(request.workload, field) or 1
    kind: RemedyKind = "concurrency" if field == "concurrency" else "batch"
    pictures = request.model.task in GRAPH_TASKS | DIFFUSION_TASKS
    noun = "image" if pictures else "sequence"
    while value > 1:
        value = value // 2
        changed = with_changes(request, workload=request.workload.model_copy(update={field: value}))
        yield Candidate(kind, f"Take {counted(value, noun)} at once", changed, {field: value})


def _graph_changes(request: Request) -> Iterator[Candidate]:
    load = request.workload
    if load.precision == "fp32":
        changed = with_changes(request, workload=load.model_copy(update={"precision": "amp-fp16"}))
        yield Candidate("precision", "Use autocast to fp16", changed, {"precision": "amp-fp16"})
    if load.execution == "eager":
        changed = with_changes(request, workload=load.model_copy(update={"execution": "compile"}))
        yield Candidate("execution", "Use torch.compile", changed, {"execution": "compile"})


def _pipeline_changes(request: Request) -> Iterator[Candidate]:
    """Components in fewer bits, the decoder in tiles, components or layers in host memory, more of that."""
    yield from _component_formats(request)
    runtime = request.runtime
    if not runtime.vae_tiling:
        tiled = runtime.model_copy(update={"vae_tiling": True})
        yield Candidate(
            "offload", "Decode in tiles", with_changes(request, runtime=tiled), {"vae_tiling": True}
        )
    if request.profile.cpu_offload != "components":
        return
    if runtime.offload in ("none", "model"):
        for mode, text in _MODES[0 if runtime.offload == "none" else 1 :]:
            moved = runtime.model_copy(update={"offload": mode})
            yield Candidate("offload", text, with_changes(request, runtime=moved), {"offload": mode})
    machine = request.machine
    assert machine is not None
    have = machine.host.ram_total_bytes
    if have is None or any(device.shares_host_memory for device in machine.accelerators):
        return
    for size in HOST_SIZES:
        if size > have:
            host = machine.host.model_copy(update=more_memory(machine.host, size))
            roomy = machine.model_copy(update={"host": host})
            text = f"Give the host {size // 2**30} GiB of memory, and keep there what waits"
            yield Candidate(
                "offload", text, with_machine(request, roomy), {"host": {"ram": f"{size // 2**30} GiB"}}
            )


_MODES = (
    ("model", "Keep components that wait in host memory"),
    ("sequential", "Keep all layers in host memory and move one at a time"),
)
HOST_SIZES = tuple(size * 2**30 for size in (32, 64, 128))
"""Memory that desktop mainboards take [bytes]."""


def _component_formats(request: Request) -> Iterator[Candidate]:
    """Text encoders first, since pictures suffer least from it; then the denoiser; then both."""
    current = request.quantization
    if current is None:
        return
    smaller = [
        changed
        for name in ("fp8", "nf4")
        if (changed := with_quantization_checked(request, name)) is not None
        and not changed.blockers
        and changed.quantization is not None
        and changed.quantization.quality_rank < current.quality_rank
    ]
    encoders = ("nf4",) if request.runtime.text_encoder_quantization is None else ()
    for changed in (request, *smaller):
        assert changed.quantization is not None
        told = {} if changed is request else {"quantization": changed.quantization.id}
        text = "" if changed is request else f"{changed.quantization.name} for the denoiser"
        if told:
            yield Candidate("quantization", f"Use {text}", changed, told)
        for name in encoders:
            both = with_runtime_fields(changed, text_encoder_quantization=name)
            record = request.catalog.quantizations[name]
            joined = (
                f"{text} and {record.name} for the text encoders"
                if told
                else f"{record.name} for the text encoders"
            )
            yield Candidate(
                "quantization", f"Use {joined}", both, {**told, "text_encoder_quantization": name}
            )
