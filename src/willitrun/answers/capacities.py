"""Questions that name an amount of memory and no card: what fits is told, how fast it is cannot be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from willitrun.answers.cases import Case, default_format, format_name
from willitrun.answers.wording import TIER_WORDS, interval_text
from willitrun.estimators.defaults import GGUF_LADDER
from willitrun.estimators.memory import estimate_memory
from willitrun.estimators.workloads import DIFFUSION_TASKS, trained_context
from willitrun.kernels.placement import less_headroom
from willitrun.records.recipes import Runtime, Workload
from willitrun.records.results import MemoryEstimate
from willitrun.units import format_bytes

__all__ = ["best_format_of_capacity", "context_of_capacity", "fit_of_capacity", "need_of"]

_STEP_TOKENS = 1024


def need_of(case: Case, **changed: object) -> MemoryEstimate:
    """Memory of a case on a device without limit."""
    asked = {"workload": case.workload, "quantization": case.quantization, "runtime": case.runtime} | changed
    workload = asked.pop("workload")
    assert isinstance(workload, Workload)
    return estimate_memory(case.model, None, workload, catalog=case.catalog, **asked)  # type: ignore[arg-type]


def _room(case: Case) -> int:
    return (case.reading.vram_gib or 0) * 2**30


def _tier(case: Case, need: MemoryEstimate) -> str:
    room = _room(case)
    if need.total_bytes.high <= int(less_headroom(np.array(room, dtype=np.int64))):
        return "comfortable"
    return "tight" if need.total_bytes.best <= room else "will-not-run"


def fit_of_capacity(case: Case) -> str:
    """Whether it fits an amount of memory; of a pipeline also with its parts in host memory."""
    chosen = case.quantization or default_format(case)
    need = need_of(case, quantization=chosen)
    case.value = _tier(case, need)
    case.assumptions.append("speed depends on the card, and only its memory was named")
    told = (
        f"{case.model.name} needs {interval_text('total_bytes', need.total_bytes)}, "
        f"and the card has {format_bytes(_room(case))} less what the system keeps."
    )
    if case.value == "will-not-run":
        for mode, moved in _offloaded(case, chosen):
            if _tier(case, moved) != "will-not-run":
                case.value = "offload"
                told += (
                    f" With {mode} offload it needs {interval_text('total_bytes', moved.total_bytes)} there."
                )
                break
    return f"{TIER_WORDS[str(case.value)]}: {told}"


def _offloaded(case: Case, quantization: str | None) -> Iterator[tuple[str, MemoryEstimate]]:
    if case.model.task in DIFFUSION_TASKS and case.runtime is None:
        for mode in ("model", "sequential"):
            runtime = Runtime(name="diffusers", offload=mode)
            yield mode, need_of(case, quantization=quantization, runtime=runtime)


def best_format_of_capacity(case: Case) -> str:
    """The best GGUF format that an amount of memory holds comfortably."""
    case.assumptions.append("speed depends on the card, and only its memory was named")
    for name in GGUF_LADDER:
        need = need_of(case, quantization=name)
        if _tier(case, need) == "comfortable":
            case.value = case.quantization = name
            return (
                f"{format_name(name)} is the best format that is comfortable: {case.model.name} then needs "
                f"{interval_text('total_bytes', need.total_bytes)} of {format_bytes(_room(case))}."
            )
    case.value = None
    return f"No GGUF format of {case.model.name} is comfortable in {format_bytes(_room(case))}."


def context_of_capacity(case: Case) -> str:
    """The longest context that an amount of memory holds comfortably, in steps of 1,024 tokens."""
    chosen = case.quantization or default_format(case)
    case.assumptions.append("speed depends on the card, and only its memory was named")

    def fits(steps: int) -> bool:
        load = case.workload.model_copy(update={"context_tokens": steps * _STEP_TOKENS})
        return _tier(case, need_of(case, workload=load, quantization=chosen)) == "comfortable"

    most = (trained_context(case.model) or 2**20) // _STEP_TOKENS
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    case.quantization = chosen
    if not low:
        return f"No context is comfortable. {fit_of_capacity(case)}"
    case.value = low * _STEP_TOKENS
    why = "all that the model was trained for" if low == most else "the most that is comfortable"
    load = case.workload.model_copy(update={"context_tokens": case.value})
    need = need_of(case, workload=load, quantization=chosen)
    return (
        f"{case.value:,} tokens, {why}: {case.model.name} then needs {interval_text('total_bytes', need.total_bytes)} "
        f"of {format_bytes(_room(case))}."
    )
