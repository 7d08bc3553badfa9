"""Changes that let a training step fit: recomputed activations, sharded and smaller states, adapters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from willitrun.estimators.remedy_machines import Candidate
from willitrun.estimators.requests import Request, with_quantization_checked
from willitrun.frozen import with_changes
from willitrun.records.recipes import Workload

__all__ = ["training_changes"]

SHORT_SEQUENCE = 2048
"""Length that a longer sequence is cut to [tokens]."""

_ELSEWHERE = {"batch_size", "context_tokens"}
"""Changes that are remedies of another kind where they help alone."""


def training_changes(request: Request) -> Iterator[Candidate]:
    """Each change alone, then with all that are milder: most of them lift little by themselves."""
    together: dict[str, Any] = {}
    words: dict[str, str] = {}
    for text, change in _steps(request):
        if not _ELSEWHERE & change.keys():
            yield from _candidate(request, text, change)
        # What trains less of the model takes the place of what trains more; states of adapters are small anyway.
        for field in ("optimizer", "mode") if "mode" in change else ():
            words.pop(field, None)
            together.pop(field, None)
        together |= change
        words[next(iter(change))] = text
        if len(words) > 1:
            first, *others = words.values()
            joined = ", ".join([first, *(other[0].lower() + other[1:] for other in others)])
            yield from _candidate(request, joined, dict(together))


def _steps(request: Request) -> Iterator[tuple[str, dict[str, Any]]]:
    """Changes from those that cost nothing but time to those that train less of the model."""
    load, machine = request.workload, request.machine
    if load.gradient_checkpointing != "full":
        yield "Recompute activations in the backward pass", {"gradient_checkpointing": "full"}
    if (load.batch_size or 1) > 1:
        yield "Take 1 sequence at once and sum up gradients", {"batch_size": 1}
    if machine is not None and len(machine.accelerators) > 1 and (load.zero_stage or 0) < 3:
        yield "Shard all states over the devices (ZeRO stage 3, FSDP)", {"zero_stage": 3}
    if (load.context_tokens or 0) > SHORT_SEQUENCE:
        yield f"Train on sequences of {SHORT_SEQUENCE:,} tokens", {"context_tokens": SHORT_SEQUENCE}
    if load.mode == "full-finetune" and load.optimizer in (None, "adamw"):
        yield "Keep the optimizer in 8 bits", {"optimizer": "adamw-8bit"}
    if load.mode == "full-finetune":
        yield "Train adapters only (LoRA)", {"mode": "lora", "lora_rank": load.lora_rank or 16}
    if load.mode != "qlora":
        yield (
            "Train adapters on weights in 4 bits (QLoRA)",
            {"mode": "qlora", "lora_rank": load.lora_rank or 16},
        )


def _candidate(request: Request, text: str, change: dict[str, Any]) -> Iterator[Candidate]:
    """The changed request, where the runtime loads the format that frozen weights then have."""
    workload: Workload = request.workload.model_copy(update=change)
    changed: Request | None = with_changes(request, workload=workload)
    assert changed is not None
    if workload.mode != request.workload.mode:
        changed = with_quantization_checked(changed, "nf4" if workload.mode == "qlora" else "bf16")
    if changed is not None and not changed.blockers:
        yield Candidate("training", text, changed, change)
