"""Command lines that reproduce a verdict, from the templates of the runtimes' records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from willitrun.catalog import Catalog
from willitrun.errors import CatalogInvalidError
from willitrun.estimators.evaluation import Evaluated
from willitrun.estimators.llm_evaluation import EvaluatedLlm
from willitrun.estimators.paged_pools import share_of_memory
from willitrun.estimators.requests import Request
from willitrun.estimators.topology import host_numbers
from willitrun.estimators.workloads import ASR_TASKS, GRAPH_TASKS
from willitrun.records.models import Model

__all__ = ["commands_of"]


def commands_of(found: Evaluated) -> tuple[str, ...]:
    """Command lines that reproduce a verdict; none where the runtime has no line for what was asked."""
    request = found.request
    template = request.profile.command_for(request.model.task)
    if not template or found.tier in ("will-not-run", "unknown") or request.workload.mode != "inference":
        return ()
    values = _values(found)
    chosen = _chosen(found)
    # In the order of the record: a later flag may name an earlier one.
    for field, flags in request.profile.flags_of.items():
        if chosen[field] not in flags:
            # The runtime has no switch for it, so no command line reproduces the verdict.
            return ()
        values[f"{field}_flag"] = _filled(request, flags[chosen[field]], values)
    command = re.sub(r" {2,}", " ", _filled(request, template, values).strip())
    placement = found.placement
    if placement.split and "{gpu_layers}" in template:
        command += f" --tensor-split {','.join(f'{part:g}' for part in placement.split)}"
    return tuple(command.splitlines())


def _values(found: Evaluated) -> dict[str, Any]:
    """What the names in braces stand for."""
    request, placement = found.request, found.placement
    model, workload, runtime = request.model, request.workload, request.runtime
    layers = model.transformer.num_hidden_layers if model.transformer else 0
    return {
        "model": _published(request),
        "source": _own_repository(request),
        "id": model.id,
        "task": workload.task or model.task,
        "weights": _weights(request),
        # With -hf the projector of a repository comes along.
        "projector": "" if _holds_gguf(model) else f"--mmproj mmproj-{model.id}.gguf",
        "file": f"{model.id}-{request.quantization.id}.gguf" if request.quantization else model.id,
        "context": (workload.context_tokens or 0) * workload.concurrency,
        "context_per_sequence": workload.context_tokens or 0,
        "gpu_layers": placement.gpu_layers if placement.gpu_layers is not None else layers + 1,
        "cpu_moe_layers": _Option(placement.cpu_moe_layers or None),
        "gpu_share": _gpu_share(placement.gpu_layers, layers + 1),
        "split_mode": _Option(
            "tensor" if placement.strategy == "tensor" or (placement.tp or 1) > 1 else None
        ),
        "parallel": workload.concurrency,
        "kv_k": runtime.kv_dtype_k or "f16",
        "kv_v": runtime.kv_dtype_v or "f16",
        "n_batch": _Option(runtime.n_batch),
        "n_ubatch": _Option(runtime.n_ubatch),
        "max_num_batched_tokens": _Option(runtime.max_num_batched_tokens),
        "max_num_seqs": runtime.max_num_seqs or workload.concurrency,
        "tp": placement.tp or 1,
        "pp": _Option(placement.pp if (placement.pp or 1) > 1 else None),
        "dp": _Option(placement.dp if (placement.dp or 1) > 1 else None),
        "utilization": _Option(share_of_memory(found) if isinstance(found, EvaluatedLlm) else None),
        "batch": max(workload.batch_size or 1, workload.concurrency if model.task in ASR_TASKS else 1),
        "image_size": workload.image_size or 0,
        "steps": workload.steps or 0,
        "frames": workload.frames or 0,
        "rpc_flag": _rpc_flag(request),
    }


def _chosen(found: Evaluated) -> dict[str, str]:
    """What was chosen of the fields for which a runtime may have a switch; ``none`` where nothing was."""
    request = found.request
    workload, runtime = request.workload, request.runtime
    chosen = {
        "precision": workload.precision,
        "execution": workload.execution,
        "layout": workload.layout,
        "backend": runtime.backend,
        "quantization": request.quantization.id if request.quantization else None,
        "text_encoder_quantization": runtime.text_encoder_quantization,
        "offload": runtime.offload or _own_offload(found),
        "vae_tiling": "on" if runtime.vae_tiling else None,
        "flash_attention": {True: "on", False: "off", None: None}[runtime.flash_attention],
        "swa_full": "on" if runtime.swa_full else None,
        # Slots that are counted share one cache where nobody says, as they do where nobody counts them.
        "kv_unified": {True: "on", False: "off", None: "on" if workload.concurrency > 1 else None}[
            runtime.kv_unified
        ],
        "kv_dtype_k": runtime.kv_dtype_k,
        "enforce_eager": "on" if runtime.enforce_eager else None,
    }
    return {field: str(value or "none") for field, value in chosen.items()}


def _own_offload(found: Evaluated) -> str | None:
    """The way of offloading that was found to work, where nobody asked for one."""
    ways = (reason.numbers.get("offload") for reason in found.reasons if reason.code == "needs-offload")
    return next((str(way) for way in ways if way is not None), None)


def _own_repository(request: Request) -> str:
    """Where weights in 16 bits are published, for runtimes that convert them as they load: as asked for, else the model's own."""
    model = request.model
    plain = request.catalog.quantizations[model.quantization].kind == "float"
    own = next((alias for alias in model.aliases if "/" in alias), model.id)
    # What runs networks of pictures loads those of one publisher, by its own names.
    foreign = model.task in GRAPH_TASKS and model.repository.partition("/")[0] != own.partition("/")[0]
    if plain and model.repository and not (foreign or _holds_gguf(model)):
        return model.repository
    return own


def _holds_gguf(model: Model) -> bool:
    return model.repository.lower().endswith("gguf")


def _weights(request: Request) -> str:
    """The option of llama.cpp that loads the weights: from the repository that was asked for, else from a file."""
    quantization = request.quantization
    if quantization is not None and _holds_gguf(request.model):
        return f"-hf {request.model.repository}:{quantization.id.upper()}"
    return f"-m {request.model.id}-{quantization.id}.gguf" if quantization else f"-m {request.model.id}"


def _published(request: Request) -> str:
    """Where the weights in the verdict's format are published; a name for them where no source knows a place."""
    model, quantization = request.model, request.quantization
    if model.repository and quantization is not None and quantization.id == model.quantization:
        return model.repository
    own = _own_repository(request)
    if quantization is None or quantization.kind == "float" or quantization.id == model.quantization:
        return own
    # Thousands of checkpoints are gone through once for a catalog, not for every verdict.
    known = request.catalog.remember("repositories", lambda: _repositories(request.catalog))
    return known.get((model.id, quantization.id), f"{model.id}-{quantization.id}")


def _repositories(catalog: Catalog) -> dict[tuple[str, str], str]:
    """First repository that publishes a model in a format, by the ids of both."""
    found: dict[tuple[str, str], str] = {}
    for raw in map(catalog.checkpoints.raw, catalog.checkpoints):
        if raw.get("repository") and raw.get("quantization"):
            found.setdefault((raw["model"], raw["quantization"]), str(raw["repository"]))
    return found


def _filled(request: Request, template: str, values: Mapping[str, Any]) -> str:
    try:
        return template.format_map(values)
    except KeyError as error:
        raise CatalogInvalidError(
            f"runtimes/{request.profile.id}.toml",
            f"{request.profile.id}.command",
            f"names {error}, which no verdict fills in",
            hint=f"Known: {', '.join(sorted(values))}.",
        ) from error


def _gpu_share(told: int | None, layers: int) -> str:
    """Part of the layers on the card, as LM Studio is told it; the output counts as one."""
    return "max" if told is None or told >= layers else f"{told / layers:.2f}"


def _rpc_flag(request: Request) -> str:
    """The other hosts of a build, for runtimes that reach them by remote procedure calls."""
    others = (
        range(1, max(host_numbers(request.machine), default=0) + 1) if request.machine is not None else ()
    )
    return f"--rpc {','.join(f'HOST{number}:50052' for number in others)}" if others else ""


class _Option:
    """A value whose option is written where there is one: ``{pp:--pipeline-parallel-size}``."""

    def __init__(self, value: float | str | None) -> None:
        self.value = value

    def __format__(self, option: str) -> str:
        return "" if self.value is None else f"{option} {self.value}"
