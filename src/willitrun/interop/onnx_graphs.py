"""ONNX files as operator traces: shapes by inference, nothing run, no weight read.

Shapes come from ``onnx.shape_inference`` with data propagation: without it the shape arithmetic of exported
transformers stays open, and their work would be counted several times too low.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from willitrun.errors import CorruptCheckpointError, MissingExtraError, UnsupportedFormatError
from willitrun.interop.modules import record_of_trace
from willitrun.interop.onnx_folding import infer_closed_shapes
from willitrun.interop.onnx_operators import FREE, Node, fuse_attention, work_of_node
from willitrun.kernels.operator_work import WORK_COLUMNS, class_name
from willitrun.records.models import Model, Task
from willitrun.records.traces import OperatorTrace

__all__ = ["model_from_onnx", "trace_onnx"]

MAX_BYTES = 2 << 30
"""A protobuf message cannot be larger; weights of larger models lie outside of the graph."""
MAX_NODES = 200_000
_FLOATS = {1, 10, 11, 16, 17, 18, 19, 20}  # FLOAT, FLOAT16, DOUBLE, BFLOAT16 and the FLOAT8 types
_FUSABLE = frozenset({"bn", "conv_bias", "ln", "softmax", "reduction", "elementwise", "copy"})


def model_from_onnx(
    path: str | os.PathLike[str],
    *,
    image_size: int | None = None,
    name: str | None = None,
    task: Task = "image-classification",
) -> Model:
    """Describe an ONNX file of an image model; only its graph is read.

    Parameters
    ----------
    path
        The ``.onnx`` file. Weights that lie outside of it are not opened.
    image_size
        Side of the image [pixels], where the file leaves it open.
    name
        How results call it; the file's name if None.
    task
        What it does.

    Returns
    -------
    Model
        To be passed to ``assess``, ``estimate_memory``, ``estimate_speed`` and ``plan``.

    Raises
    ------
    MissingExtraError
        When onnx is not installed.
    CorruptCheckpointError
        The file is no ONNX model, or its graph contradicts itself.
    UnsupportedFormatError
        The graph has control flow, or shapes that stay open.
    """
    trace = trace_onnx(path, image_size=image_size)
    label = name or Path(path).stem
    return record_of_trace(trace, name=label, task=task, origin=Path(path).name)


def trace_onnx(path: str | os.PathLike[str], *, image_size: int | None = None) -> OperatorTrace:
    """Summarise the graph of an ONNX file by operator class, at batch 1.

    Parameters
    ----------
    path
        The ``.onnx`` file.
    image_size
        Side of the image [pixels], where the file leaves it open.

    Returns
    -------
    OperatorTrace
        As of a traced module. Casts of autocast are not in it: a file has the precision that it was exported in.
    """
    graph = _infer(_load(Path(path)), image_size)
    entry = next((shape for shape in graph.inputs.values() if len(shape) == 4), None)
    account = _Account(graph)
    for node in fuse_attention(graph.nodes):
        account.add(node)
    account.close()
    return OperatorTrace(
        architecture=Path(path).stem,
        image_size=image_size or (round(math.sqrt(entry[2] * entry[3])) if entry else 0),
        parameters=sum(math.prod(shape) for shape in graph.weights.values()),
        macs=sum(row["flops"] for row in account.summary.values()) / 2.0,
        operators=account.operators,
        peak_elements=account.peak,
        classes={kind: dict(row) for kind, row in sorted(account.summary.items())},
        tool=graph.tool,
    )


@dataclass
class _Graph:
    """Nodes in order, and the shapes of everything that has one."""

    nodes: list[Node]
    shapes: dict[str, tuple[int, ...]]
    floats: set[str]
    weights: dict[str, tuple[int, ...]]
    inputs: dict[str, tuple[int, ...]]
    outputs: set[str]
    tool: str
    constants: set[str] = field(default_factory=set)


def _load(path: Path) -> Any:
    try:
        import onnx

        # Its stubs are a package of their own.
        decode_error = import_module("google.protobuf.message").DecodeError
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UnsupportedFormatError(
            f"{path.name} has {size:,} bytes, more than one protobuf message can hold.",
            hint="Export it with its weights in external data.",
        )
    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
    except (decode_error, ValueError) as error:
        raise CorruptCheckpointError(f"{path.name} is no ONNX model: {error}.") from None
    if not model.graph.node:
        raise CorruptCheckpointError(f"{path.name} is no ONNX model, or its graph is empty.")
    if len(model.graph.node) > MAX_NODES:
        raise CorruptCheckpointError(f"{path.name} has {len(model.graph.node):,} nodes.")
    return model


def _infer(model: Any, image_size: int | None) -> _Graph:
    import onnx

    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    inputs: dict[str, tuple[int, ...]] = {}
    for value in model.graph.input:
        if value.name not in weights:
            inputs[value.name] = _close(value, image_size)
    del model.graph.value_info[:]  # shapes of the size that it was exported at
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    own = {tensor.name for tensor in model.graph.initializer if tensor.data_type in _FLOATS}
    # Values of large weights decide no shape, and inference would copy them.
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > 4096:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    inferred = infer_closed_shapes(model)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    floats = set(own)
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
        if tensor.elem_type in _FLOATS:
            floats.add(value.name)
    return _Graph(
        nodes=[_node(node, onnx) for node in model.graph.node],
        shapes=shapes,
        floats=floats,
        weights={name: shape for name, shape in weights.items() if name in own},
        inputs=inputs,
        outputs={value.name for value in model.graph.output},
        tool=f"onnx {onnx.__version__}",
        constants={tensor.name for tensor in model.graph.initializer},
    )


def _node(node: Any, onnx: Any) -> Node:
    attributes = {}
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise UnsupportedFormatError(
                f"the graph has control flow ({node.op_type}).",
                hint="Export without loops and branches, or simplify the file first.",
            )
        if attribute.type != onnx.AttributeProto.TENSOR:
            attributes[attribute.name] = onnx.helper.get_attribute_value(attribute)
    return Node(node.op_type, tuple(node.input), tuple(node.output), attributes)


def _close(value: Any, image_size: int | None) -> tuple[int, ...]:
    """Fix an input's open dimensions: one sample, and the image's side. Returns its shape."""
    dims = value.type.tensor_type.shape.dim
    for place, dim in enumerate(dims):
        known = dim.HasField("dim_value") and dim.dim_value > 0
        if place == 0:
            dim.dim_value = 1
        elif len(dims) == 4 and place >= 2 and image_size is not None:
            dim.dim_value = image_size
        elif not known:
            raise UnsupportedFormatError(
                f"dimension {place} of the input {value.name!r} is open.",
                hint="Pass image_size, or export with fixed shapes.",
            )
    return tuple(dim.dim_value for dim in dims)


class _Account:
    """Adds nodes to a summary per operator class and follows what is alive."""

    def __init__(self, graph: _Graph) -> None:
        self.summary: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(WORK_COLUMNS, 0.0))
        self.operators = self.peak = 0
        self._graph = graph
        self._live: dict[str, int] = {}
        self._alias: dict[str, str] = {}
        self._kind: dict[str, str] = {}
        self._class: dict[str, str] = {}
        self._readers: dict[str, list[str]] = defaultdict(list)
        self._left: dict[str, int] = defaultdict(int)
        for node in graph.nodes:
            for name in node.inputs:
                self._left[name] += 1
        for name in graph.outputs:
            self._left[name] += 1
        for name, shape in graph.inputs.items():
            self._open(name, math.prod(shape))

    def add(self, node: Node) -> None:
        """Count one node; constants, shape arithmetic and views cost nothing."""
        graph = self._graph
        inputs = [name for name in node.inputs if name]
        if node.kind == "Constant" or (inputs and all(name in graph.constants for name in inputs)):
            graph.constants.update(node.outputs)
        elif node.kind in FREE:
            for output in node.outputs:
                self._alias[output] = self._root(inputs[0])
        elif any(output in graph.floats for output in node.outputs if output):
            self._count(node, inputs)
        for name in (*inputs, *node.extra):
            self._release(name)

    def _count(self, node: Node, inputs: Sequence[str]) -> None:
        graph = self._graph
        shapes = [self._shape(name, node) for name in inputs]
        outputs = [self._shape(name, node) for name in node.outputs if name]
        weights = [name in graph.constants for name in inputs]
        kind, flops, padded, biased = work_of_node(node, shapes, outputs, weights)
        moved = held = 0.0
        merged = 0.0
        for name, shape, constant in zip(inputs, shapes, weights, strict=True):
            if constant:
                held += math.prod(shape)
                continue
            size = math.prod(shape)
            moved += size
            root = self._root(name)
            self._readers[root].append(kind)
            if kind in _FUSABLE and self._kind.get(root) in _FUSABLE:
                merged += size
        written = sum(math.prod(shape) for shape in outputs)
        self._row(kind, flops, padded, moved + written, held, merged=merged)
        produced = class_name(kind, flops, moved + written)
        if biased:
            # Counted like the tracer does: a convolution's bias is a pass of its own in eager PyTorch.
            self._row("conv_bias", 0.0, 0.0, 2.0 * written, float(outputs[0][1]), merged=0.0)
        for name, shape in zip(node.outputs, outputs, strict=False):
            self._kind[name] = "conv_bias" if biased else kind
            self._class[name] = "conv_bias" if biased else produced
            self._open(name, math.prod(shape))

    def _row(
        self, kind: str, flops: float, padded: float, moved: float, held: float, *, merged: float
    ) -> None:
        row = self.summary[class_name(kind, flops, moved)]
        row["kernels"] += 1
        row["flops"] += flops
        row["padded_flops"] += padded
        row["act_elements"] += moved
        row["weight_elements"] += held
        row["fused_act_elements"] += moved - merged
        row["fused_kernels"] += 0.0 if merged else 1.0
        self.operators += 1

    def _shape(self, name: str, node: Node) -> tuple[int, ...]:
        shape = self._graph.shapes.get(name)
        if shape is None:
            raise UnsupportedFormatError(
                f"the shape of {name!r} at a {node.kind} node stays open.",
                hint="Pass image_size, or simplify the file (onnxsim) so that shapes are fixed.",
            )
        return shape

    def _root(self, name: str) -> str:
        while name in self._alias:
            name = self._alias[name]
        return name

    def _open(self, name: str, elements: int) -> None:
        self._live[name] = elements
        self.peak = max(self.peak, sum(self._live.values()))

    def _release(self, name: str) -> None:
        self._left[name] -= 1
        root = self._root(name)
        if all(self._left[alias] <= 0 for alias in self._names_of(root)):
            self._live.pop(root, None)

    def _names_of(self, root: str) -> Iterator[str]:
        yield root
        yield from (alias for alias in self._alias if self._root(alias) == root)

    def close(self) -> None:
        """Drop the writes that fusion makes unneeded: all readers sit in the kernel that writes the value."""
        for name, kinds in self._readers.items():
            if self._kind.get(name) in _FUSABLE and kinds and all(kind in _FUSABLE for kind in kinds):
                row = self.summary[self._class[name]]
                row["fused_act_elements"] = max(
                    row["fused_act_elements"] - math.prod(self._graph.shapes[name]), 0.0
                )
