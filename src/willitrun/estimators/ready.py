"""An evaluated request whose estimates are already packed: training, diffusion, speech."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.obstacles import memory_suffices
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen
from willitrun.intervals import Interval
from willitrun.kernels.overheads import MemoryRange
from willitrun.kernels.placement import TIERS, Demand, Room, place
from willitrun.records.recipes import Placement
from willitrun.records.results import DeviceMemory, MemoryEstimate, Reason, SpeedEstimate, Term, Tier
from willitrun.units import format_bytes

__all__ = ["Part", "Ready", "judge_parts", "where_it_runs"]

ZERO = Interval.exact(0)
_FIELDS = ("weights", "kv_cache", "state", "activation", "gradient", "optimizer", "overhead")


@frozen
class Part:
    """One addend of the memory on a device: which field it counts for, its name, range and equation [bytes]."""

    field: str
    name: str
    low: int
    best: int
    high: int
    equation: str
    inputs: dict[str, float | int | str]
    evidence: Literal["exact", "calibrated"] = "exact"
    cites: tuple[str, ...] = ()

    @classmethod
    def exact(
        cls, field: str, name: str, value: int, equation: str, inputs: dict[str, float | int | str]
    ) -> Part:
        """A part whose rule is known."""
        return cls(field, name, value, value, value, equation, inputs)

    @classmethod
    def ranged(
        cls,
        field: str,
        name: str,
        found: MemoryRange,
        equation: str,
        inputs: dict[str, float | int | str],
        cites: tuple[str, ...] = ("memory",),
    ) -> Part:
        """A part with a calibrated range."""
        low, best, high = (int(np.asarray(value).ravel()[0]) for value in (found.low, found.best, found.high))
        return cls(field, name, min(low, best), best, max(high, best), equation, inputs, "calibrated", cites)


@frozen
class Ready:
    """An evaluated request."""

    request: Request
    tier: Tier
    placement: Placement
    reasons: tuple[Reason, ...]
    cites: tuple[str, ...]
    calibrations: tuple[str, ...]
    memory: MemoryEstimate | None
    speed: SpeedEstimate | None

    def total(self) -> Interval | None:
        """Memory on the accelerators [bytes]."""
        return self.memory.total_bytes if self.memory is not None else None

    def headline(self) -> tuple[str, Interval] | None:
        """The speed that answers "how fast"."""
        return self.speed.headline() if self.speed is not None else None

    def memory_estimate(self) -> MemoryEstimate | None:
        """The memory estimate."""
        return self.memory

    def speed_estimate(self) -> SpeedEstimate | None:
        """The speed estimate; None where it does not run."""
        return self.speed


def where_it_runs(tier: Tier, *reasons: Reason) -> tuple[Reason, ...]:
    """Reasons about speed: what does not run has none, so nothing binds it.

    >>> where_it_runs("will-not-run", Reason(code="compute-bound", message="Arithmetic takes most of a step."))
    ()
    """
    return () if tier == "will-not-run" else reasons


def judge_parts(
    request: Request, view: MachineView, parts: Sequence[Part], *, host_bytes: int = 0, disk_bytes: int = 0
) -> tuple[Tier, MemoryEstimate, Reason]:
    """Tier, estimate and reason from the parts that every device in use holds alike.

    Half-widths of the parts' ranges add in quadrature; the tier rule is that of `kernels.placement`.
    """
    best = sum(part.best for part in parts)
    below = round(sum((part.best - part.low) ** 2 for part in parts) ** 0.5)
    above = round(sum((part.high - part.best) ** 2 for part in parts) ** 0.5)
    devices = len(view.available)
    column = np.array([[best]], dtype=np.int64)
    none = np.zeros(1, dtype=np.int64)
    layout = place(
        Demand(
            repeating=none,
            experts=none,
            output=none,
            embedding=none,
            n_layers=none + 1,
            n_moe_layers=none,
            kv_cache=none,
            state=none,
            activation=column,
            activation_low=column - below,
            activation_high=column + above,
            overhead=column * 0,
            overhead_low=column * 0,
            overhead_high=column * 0,
            weights_low=np.ones(1),
            weights_high=np.ones(1),
            host_buffer=none + host_bytes,
            kv_heads=none + 1,
        ),
        Room(
            available=np.array([view.available], dtype=np.int64),
            host_available=np.array([view.row.host_available], dtype=np.int64),
            strategy=none,
            offload=none,
            unified=np.array([view.row.unified]),
            gpu_layers=none - 1,
            cpu_moe_layers=none - 1,
        ),
    )
    tier: Tier = TIERS[int(layout.tier[0])]  # type: ignore[assignment]
    total = Interval(float(best - below), float(best), float(best + above))
    sums = {name: sum(part.best for part in parts if part.field == name) for name in _FIELDS}
    ranges = {
        name: Interval(
            float(sum(part.low for part in parts if part.field == name)),
            float(sums[name]),
            float(sum(part.high for part in parts if part.field == name)),
        )
        for name in _FIELDS
    }
    scaled: dict[str, Any] = {f"{name}_bytes": interval.scale(devices) for name, interval in ranges.items()}
    amounts: dict[str, Any] = {f"{name}_bytes": amount for name, amount in sums.items()}
    memory = MemoryEstimate.model_construct(
        **scaled,
        total_bytes=total.scale(devices),
        host_bytes=Interval.exact(float(host_bytes)),
        disk_bytes=Interval.exact(float(disk_bytes)),
        per_device=tuple(
            DeviceMemory.model_construct(
                device=name,
                **amounts,
                total_bytes=total,
                available_bytes=available,
            )
            for name, available in zip(view.names, view.available, strict=True)
        ),
        terms=tuple(
            Term.model_construct(
                name=part.name,
                value=part.best * devices,
                unit="B",
                equation=part.equation,
                inputs=part.inputs,
                cites=part.cites,
                evidence=part.evidence,
            )
            for part in parts
        ),
        notes=(),
    )
    need, have = format_bytes(best * devices), format_bytes(sum(view.available))
    numbers: dict[str, float | int | str] = {
        "total_bytes": best * devices,
        "available_bytes": sum(view.available),
    }
    if bool(layout.out_of_host[0]):
        reason = Reason.model_construct(
            code="out-of-host-memory",
            message=f"It needs {format_bytes(host_bytes)} of host memory and {format_bytes(view.row.host_available)} are available.",
            numbers=numbers | {"host_bytes": host_bytes},
        )
    elif tier == "comfortable":
        reason = Reason.model_construct(
            code="fits-comfortably", message=f"{need} of {have}, with room to spare.", numbers=numbers
        )
    elif tier == "tight":
        reason = Reason.model_construct(
            code="fits-tightly", message=f"{need} of {have}: little is left.", numbers=numbers
        )
    else:
        reason = Reason.model_construct(
            code="does-not-fit", message=f"It needs {need} and {have} are available.", numbers=numbers
        )
    if request.blockers and tier != "will-not-run":
        suffices = memory_suffices(best * devices, sum(view.available))
        return (
            "will-not-run",
            memory,
            suffices.model_copy(update={"numbers": suffices.numbers | {"fit": reason.code}}),
        )
    return tier, memory, reason
