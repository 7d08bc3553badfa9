"""A network in Python as a model of the library: traced once, then assessed like one of the catalog."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from willitrun.errors import InvalidWorkloadError
from willitrun.interop.tracing import trace_module
from willitrun.records.bases import Citation
from willitrun.records.models import Model, Task, VisionConfig
from willitrun.records.traces import OperatorTrace

if TYPE_CHECKING:
    import torch

__all__ = ["model_from_module", "record_of_trace"]


def model_from_module(
    module: torch.nn.Module,
    *inputs: Any,
    name: str | None = None,
    task: Task = "image-classification",
    **named_inputs: Any,
) -> Model:
    """Describe a ``torch.nn.Module`` by tracing one forward pass on the meta device.

    No weight is needed and no arithmetic is done: build large networks under ``torch.device("meta")``. The
    module is left on the meta device. Re-parameterise it first if it is deployed so.

    Parameters
    ----------
    module
        Any module whose forward pass does not depend on the values of its inputs.
    inputs, named_inputs
        What ``forward`` takes, for one image (batch size 1). The first 4-dimensional tensor is the image.
    name
        How results call it; the class name if None.
    task
        What it does.

    Returns
    -------
    Model
        To be passed to ``assess``, ``estimate_memory``, ``estimate_speed`` and ``plan``.

    Raises
    ------
    MissingExtraError
        When torch is not installed.
    InvalidWorkloadError
        No input is an image of one sample, ``(1, channels, height, width)``.

    Examples
    --------
    >>> import torch
    >>> from willitrun import assess
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 7, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(),
    ...     torch.nn.Linear(64 * 112 * 112, 10))
    >>> assess(model_from_module(net, torch.empty(1, 3, 224, 224)), "rtx-3060-12gb").tier
    'comfortable'
    """
    size = _image_size((*inputs, *named_inputs.values()))
    label = name or type(module).__name__
    found = trace_module(module, *inputs, **named_inputs)
    trace = OperatorTrace(
        architecture=label,
        image_size=size,
        parameters=found.parameters,
        buffers=found.buffers,
        macs=found.macs,
        operators=found.n_ops,
        peak_elements=found.peak_elements,
        peak_autocast_bytes=found.peak_autocast_bytes,
        classes={kind: dict(row) for kind, row in found.summary.items()},
        tool=_tool(),
    )
    return record_of_trace(trace, name=label, task=task, origin=f"{type(module).__module__}.{label}")


def record_of_trace(trace: OperatorTrace, *, name: str, task: Task, origin: str) -> Model:
    """A model that consists of its trace."""
    return Model(
        id=_identifier(name),
        name=name,
        family=name,
        task=task,
        parameters=trace.parameters,
        quantization="f32",
        vision=VisionConfig(
            architecture=trace.architecture,
            image_size=trace.image_size,
            macs=trace.macs or None,
            operators=trace.operators or None,
            trace=trace,
        ),
        origin=origin,
        cite={"*": (Citation(source="local-file", basis="measured", at=origin),)},
    )


def _identifier(name: str) -> str:
    kept = "".join(char if char.isalnum() else "-" for char in name.lower())
    return "-".join(filter(None, kept.split("-"))) or "module"


def _image_size(inputs: tuple[Any, ...]) -> int:
    for value in inputs:
        shape = tuple(getattr(value, "shape", ()))
        if len(shape) == 4:
            if shape[0] != 1:
                raise InvalidWorkloadError(
                    f"the image has a batch of {shape[0]}.",
                    hint="Trace with one image, for example torch.empty(1, 3, 224, 224); batch_size belongs to the workload.",
                )
            # Work goes by area; the side of a square of equal area stands for other shapes.
            return round(math.sqrt(shape[2] * shape[3]))
    raise InvalidWorkloadError(
        "no input is an image.", hint="Pass what forward takes, for example torch.empty(1, 3, 224, 224)."
    )


def _tool() -> str:
    import torch

    return f"torch {torch.__version__}"
