"""Questions that name an amount of memory and no card: what fits is told, how fast it is cannot be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from willitrun.answers.cases import Case, default_format, format_name
from willitrun.answers.wording import TIER_WORDS, interval_text
from willitrun.estimators.availability import driver_reserve_bytes
from willitrun.estimators.defaults import GGUF_LADDER
from willitrun.estimators.memory import estimate_memory
from willitrun.estimators.workloads import DIFFUSION_TASKS, trained_context
from willitrun.kernels.placement import less_headroom
from willitrun.records.recipes import Runtime, Workload
from willitrun.records.results import MemoryEstimate
from willitrun.units import format_bytes

__all__ = [
    "best_format_of_capacity",
    "context_of_capacity",
    "count_of_capacity",
    "fit_of_capacity",
    "need_of",
    "runtime_of_capacity",
]

_STEP_TOKENS = 1024
_MOST_AT_ONCE = 65536
_ONLY_MEMORY = "speed depends on the card, and only its memory was named"


def need_of(case: Case, **changed: object) -> MemoryEstimate:
    """Memory of a case on a device without limit."""
    asked = {"workload": case.workload, "quantization": case.quantization, "runtime": case.runtime} | changed
    workload = asked.pop("workload")
    assert isinstance(workload, Workload)
    return estimate_memory(case.model, None, workload, catalog=case.catalog, **asked)  # type: ignore[arg-type]


def _size(case: Case) -> int:
    return (case.reading.vram_gib or 0) * 2**30


def _room(case: Case) -> int:
    """What is left to a model of the memory that was named: as much as of a card of that size that is described."""
    return _size(case) - driver_reserve_bytes(_size(case), case.catalog)


def _room_text(case: Case) -> str:
    return f"the {format_bytes(_room(case))} that a driver leaves of {format_bytes(_size(case))}"


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
    case.assumptions.append(_ONLY_MEMORY)
    told = (
        f"{case.model.name} needs {interval_text('total_bytes', need.total_bytes)}, "
        f"and may use {_room_text(case)}."
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
    case.assumptions.append(_ONLY_MEMORY)
    for name in GGUF_LADDER:
        need = need_of(case, quantization=name)
        if _tier(case, need) == "comfortable":
            case.value = case.quantization = name
            return (
                f"{format_name(name)} is the best format that is comfortable: {case.model.name} then needs "
                f"{interval_text('total_bytes', need.total_bytes)} of {_room_text(case)}."
            )
    case.value = None
    return f"No GGUF format of {case.model.name} is comfortable in {_room_text(case)}."


def context_of_capacity(case: Case) -> str:
    """The longest context that an amount of memory holds comfortably, in steps of 1,024 tokens."""
    most = (trained_context(case.model) or 2**20) // _STEP_TOKENS
    found = _most(case, "context_tokens", _STEP_TOKENS, most)
    if not found:
        return f"No context is comfortable. {fit_of_capacity(case)}"
    why = "all that the model was trained for" if found == most else "the most that is comfortable"
    return f"{case.value:,} tokens, {why}: {_then_needs(case)}"


def count_of_capacity(case: Case, field: str, noun: str) -> str:
    """The largest batch, or the most sequences, that an amount of memory holds comfortably."""
    if not _most(case, field, 1, _MOST_AT_ONCE):
        return f"Not even one is comfortable. {fit_of_capacity(case)}"
    return f"{case.value:,} {noun}: {_then_needs(case)}"


def runtime_of_capacity(case: Case) -> str:
    """That an amount of memory does not tell the runtime: makers and generations do."""
    case.value = None
    return f"Which runtime suits {case.model.name} depends on the card, and only its memory was named."


def _most(case: Case, field: str, step: int, most: int) -> int:
    """The most steps of a field of the workload that are comfortable, at most so many; the case is left with them."""
    chosen = case.quantization or default_format(case)
    case.assumptions.append(_ONLY_MEMORY)

    def load(steps: int) -> Workload:
        return case.workload.model_copy(update={field: steps * step})

    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        need = need_of(case, workload=load(middle), quantization=chosen)
        low, high = (middle, high) if _tier(case, need) == "comfortable" else (low, middle)
    case.quantization = chosen
    if low:
        case.workload, case.value = load(low), low * step
    return low


def _then_needs(case: Case) -> str:
    need = need_of(case)
    return f"{case.model.name} then needs {interval_text('total_bytes', need.total_bytes)} of {_room_text(case)}."
