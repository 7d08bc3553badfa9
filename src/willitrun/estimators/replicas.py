"""Data-parallel language models: replicas that hold everything and share nothing but the requests.

Each replica has devices of its own and gets its part of the sequences in flight. One replica is judged; memory and
throughput are those of all of them. Where their devices differ, the one with the least room is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from willitrun.estimators.evaluation import Evaluated, evaluate_one
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen
from willitrun.intervals import Interval
from willitrun.records.machines import InstalledAccelerator, Machine
from willitrun.records.recipes import Placement
from willitrun.records.results import MemoryEstimate, Reason, SpeedEstimate, Tier

__all__ = ["Replicated", "evaluate_replicas", "replicas_asked"]

_AMOUNTS = (
    "weights_bytes", "kv_cache_bytes", "state_bytes", "activation_bytes", "gradient_bytes", "optimizer_bytes",
    "overhead_bytes", "total_bytes", "host_bytes",
)  # fmt: skip


def replicas_asked(request: Request) -> int:
    """Data-parallel replicas that a placement asks for: ``dp``, or as many as there are groups of devices.

    Groups that spread the experts of a layer over all of them (``ep`` beyond ``tp``) hold one model together: only
    their attention is data-parallel, and none can run alone.
    """
    placement, machine = request.placement, request.machine
    if machine is None or request.workload.mode != "inference":
        return 1
    if placement.ep is not None and placement.ep > (placement.tp or 1):
        return 1
    if placement.dp is not None:
        return placement.dp
    if placement.strategy != "data":
        return 1
    return max(1, len(machine.accelerators) // ((placement.tp or 1) * (placement.pp or 1)))


def evaluate_replicas(request: Request) -> Evaluated:
    """Judge one replica of a data-parallel request, and count all of them."""
    count, machine = replicas_asked(request), request.machine
    assert machine is not None
    placement = request.placement
    size = (placement.tp or 1) * (placement.pp or 1)
    devices = machine.accelerators
    groups = [devices[first : first + size] for first in range(0, count * size, size)]
    tightest = min((group for group in groups if len(group) == size), key=_room, default=devices)
    one = replace(
        request,
        machine=_holding(machine, tightest),
        placement=placement.model_copy(
            update={"dp": None, "strategy": None if placement.strategy == "data" else placement.strategy}
        ),
        workload=request.workload.model_copy(
            update={"concurrency": -(-request.workload.concurrency // count)}
        ),
    )
    return Replicated(request, evaluate_one(one), count)


def _room(group: Sequence[InstalledAccelerator]) -> int:
    return min(
        device.memory_free_bytes or device.memory_total_bytes or device.accelerator.memory or 0
        for device in group
    )


def _holding(machine: Machine, devices: Sequence[InstalledAccelerator]) -> Machine:
    return machine.model_copy(update={"accelerators": tuple(devices)})


@frozen
class Replicated:
    """What is known of all replicas, from one of them."""

    request: Request
    one: Evaluated
    count: int

    @property
    def tier(self) -> Tier:
        """That of a replica."""
        return self.one.tier

    @property
    def placement(self) -> Placement:
        """That of a replica, so many times."""
        return self.one.placement.model_copy(update={"dp": self.count, "strategy": "data"})

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Those of a replica."""
        return self.one.reasons

    @property
    def cites(self) -> tuple[str, ...]:
        """Those of a replica."""
        return self.one.cites

    @property
    def calibrations(self) -> tuple[str, ...]:
        """Those of a replica."""
        return self.one.calibrations

    def total(self) -> Interval | None:
        """Memory on the accelerators of all replicas [bytes]."""
        total = self.one.total()
        return None if total is None else total.scale(self.count)

    def headline(self) -> tuple[str, Interval] | None:
        """Speed of one sequence."""
        return self.one.headline()

    def memory_estimate(self) -> MemoryEstimate | None:
        """Memory of all replicas; their files lie on disk once."""
        found = self.one.memory_estimate()
        if found is None:
            return None
        amounts = {name: getattr(found, name).scale(self.count) for name in _AMOUNTS}
        return found.model_copy(
            update={
                **amounts,
                "per_device": found.per_device * self.count,
                "terms": tuple(
                    term.model_copy(
                        update={
                            "value": term.value * self.count,
                            "equation": f"({term.equation}) x replicas",
                            "inputs": {**term.inputs, "replicas": self.count},
                        }
                    )
                    for term in found.terms
                ),
            }
        )

    def speed_estimate(self) -> SpeedEstimate | None:
        """A sequence runs as in one replica; throughput is that of all."""
        found = self.one.speed_estimate()
        if found is None or found.throughput_tokens_per_s is None:
            return found
        return found.model_copy(
            update={"throughput_tokens_per_s": found.throughput_tokens_per_s.scale(self.count)}
        )
