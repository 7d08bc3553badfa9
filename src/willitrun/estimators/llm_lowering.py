"""Requests of language models as rows of numbers: what no load changes of them, and with it."""

from __future__ import annotations

from willitrun.estimators.llm_machines import (
    MachineView,
    WorkloadRow,
    machine_row,
    parallel,
    ranks_divide,
    workload_row,
)
from willitrun.estimators.llm_models import ModelRow, model_row
from willitrun.estimators.llm_policies import container_of, runtime_policy
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen
from willitrun.kernels.llm_runtime import RuntimePolicy
from willitrun.records.recipes import Placement, Runtime

__all__ = ["BlockKey", "Lowered", "Prepared", "prepare"]


@frozen(eq=False)
class Lowered:
    """What a request comes to whatever its load: the runtime's policy, the model's row, the machine as it is used."""

    policy: RuntimePolicy
    model: ModelRow
    machine: MachineView
    parallelism: tuple[int, int, int, int]
    placement: Placement
    divides: bool
    """Whether tensor-parallel ranks divide the attention heads."""
    key: BlockKey


@frozen(eq=False)
class Prepared:
    """A request lowered to rows."""

    request: Request
    lowered: Lowered
    load: WorkloadRow

    @property
    def policy(self) -> RuntimePolicy:
        """How the runtime spends memory and time."""
        return self.lowered.policy

    @property
    def model(self) -> ModelRow:
        """The model at its format."""
        return self.lowered.model

    @property
    def machine(self) -> MachineView:
        """The machine as the request uses it."""
        return self.lowered.machine

    @property
    def parallelism(self) -> tuple[int, int, int, int]:
        """Tensor ranks, pipeline stages, data groups and expert shards."""
        return self.lowered.parallelism


BlockKey = tuple[Runtime, str, str | None, bool, bool, int, tuple[float, ...] | None]
"""What all rows of one block share: the runtime but for its cache types, its profile, the system, whether the host
computes, encoders, the program's level, parts of the devices as told."""


def prepare(request: Request, *, view: MachineView | None = None) -> Prepared:
    """Rows of one request; a part of a larger model hands in the machine as the whole uses it.

    Raises
    ------
    MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError
        A fact that the kernels need is not known.
    """
    records = (request.model, request.machine, request.quantization, request.runtime, request.profile)
    lowered = request.catalog.memo("lowered").get(
        (*records, request.placement, view), request.memory, lambda: _lower(request, view)
    )
    return Prepared(request, lowered, workload_row(request.model, request.workload))


def _lower(request: Request, view: MachineView | None) -> Lowered:
    assert request.quantization is not None
    assert request.machine is not None
    model = model_row(
        request.model,
        request.quantization,
        container_of(request),
        request.catalog,
        imatrix=request.runtime.imatrix,
    )
    view = view or machine_row(request)
    policy = runtime_policy(request, _shares(request.placement, len(view.available)))
    parallelism = parallel(request, len(view.available))
    return Lowered(
        policy,
        model,
        view,
        parallelism,
        request.placement,
        ranks_divide(request, parallelism[0]),
        (
            request.runtime.model_copy(update={"kv_dtype_k": None, "kv_dtype_v": None}),
            request.profile.id,
            request.machine.host.system,
            view.row.on_host,
            model.reads_only,
            int(policy.codes["runtime"][0]),
            policy.shares,
        ),
    )


def _shares(placement: Placement, devices: int) -> tuple[float, ...] | None:
    """Parts of the devices as told: those that are not named get nothing. None where nobody said, or said nothing of use."""
    split = placement.split
    if split is None or len(split) > devices or not any(split):
        return None
    return (*split, *(0.0,) * (devices - len(split)))
