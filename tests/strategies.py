"""Made-up machines and helpers that several test modules share."""

from __future__ import annotations

from typing import Any

from willitrun import Placement, Runtime, Verdict, Workload, assess, describe_machine
from willitrun.records.machines import Machine

TIER_ORDER = {"will-not-run": 0, "offload": 1, "tight": 2, "comfortable": 3}


def card_spec(memory: str, **changes: object) -> dict[str, object]:
    """A card of which no measurement exists, with a given memory."""
    spec: dict[str, object] = {
        "name": "test card",
        "vendor": "nvidia",
        "memory": memory,
        "memory_type": "GDDR6X",
        "memory_bandwidth": "900 GB/s",
        "peaks": {"fp32": "40 TFLOP/s", "fp16_tensor": "80 TFLOP/s", "int8": "320 TOP/s"},
        "compute_capability": "8.9",
        "compute_units": 100,
        "boost_clock": "2.4 GHz",
        "tdp": "300 W",
    }
    return spec | changes


def machine_with(available_bytes: int, *, count: int = 1, ram: str = "128 GiB") -> Machine:
    """A machine whose cards have exactly so many bytes free."""
    spec = {"name": "test machine", "accelerators": [card_spec("640 GiB")] * count, "host": {"ram": ram}}
    machine = describe_machine(spec)
    cards = tuple(
        card.model_copy(update={"memory_free_bytes": available_bytes, "memory_total_bytes": available_bytes})
        for card in machine.accelerators
    )
    return machine.model_copy(update={"accelerators": cards})


def recompute(verdict: Verdict) -> Verdict:
    """The verdict that a verdict's own inputs lead to."""
    inputs = verdict.inputs
    return assess(
        inputs.model,
        list(inputs.accelerators),
        Workload(**inputs.workload),
        quantization=inputs.quantization,
        runtime=Runtime(**inputs.runtime),
        placement=Placement(**inputs.placement),
        memory=inputs.memory,
    )


def apply_remedy(
    arguments: dict[str, Any], machine: Any, workload: Workload, quantization: str, runtime: str
) -> tuple[Any, Workload, str, Runtime]:
    """What to ask instead, as a remedy's arguments say."""
    load = workload.model_copy(update={k: v for k, v in arguments.items() if k in Workload.model_fields})
    kv = {name: arguments[name] for name in ("kv_dtype_k", "kv_dtype_v") if name in arguments}
    return (
        arguments.get("machine", machine),
        load,
        arguments.get("quantization", quantization),
        Runtime(name=arguments.get("runtime", runtime), **kv),
    )
