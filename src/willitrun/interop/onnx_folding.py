"""Shape arithmetic of ONNX graphs, evaluated: exporters compute shapes in nodes that inference does not follow.

Only small tensors of a list of operators are evaluated, with onnx's reference implementation, so that a hostile
file cannot make it allocate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from willitrun.errors import CorruptCheckpointError, UnsupportedFormatError

__all__ = ["infer_closed_shapes"]

MAX_ELEMENTS = 4096
_ROUNDS = 12
_EVALUATED = frozenset(
    {"Gather", "Concat", "Slice", "Unsqueeze", "Squeeze", "Cast", "Mul", "Add", "Sub", "Div", "Equal", "Where", "Floor",
     "Ceil", "Min", "Max", "Mod", "Neg", "ReduceProd", "Identity", "Reshape", "ConstantOfShape", "Range", "Not", "And",
     "Less", "Greater", "Sqrt", "Transpose", "ReduceSum", "ScatterND"}
)  # fmt: skip


def infer_closed_shapes(model: Any) -> Any:
    """Return the model with every shape that inference and evaluated shape arithmetic can find.

    Raises
    ------
    CorruptCheckpointError
        The graph contradicts itself.
    """
    from onnx import numpy_helper, shape_inference

    known = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if math.prod(tensor.dims) <= MAX_ELEMENTS and tensor.data_location == 0
    }
    inferred = model
    for _ in range(_ROUNDS):
        try:
            inferred = shape_inference.infer_shapes(model, data_prop=True, strict_mode=False)
        except shape_inference.InferenceError as error:
            raise CorruptCheckpointError(f"the graph contradicts itself: {str(error)[:200]}.") from None
        if not _fold(model, _shapes(inferred), known):
            break
    return inferred


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    found = {}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            found[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    return found


def _fold(model: Any, shapes: Mapping[str, tuple[int, ...]], known: dict[str, Any]) -> bool:
    """Turn nodes whose value is known into initializers; whether there was one."""
    from onnx import numpy_helper

    kept = []
    for node in model.graph.node:
        value = _value(node, shapes, known, model.opset_import)
        if value is None:
            kept.append(node)
            continue
        known[node.output[0]] = value
        model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    if len(kept) == len(model.graph.node):
        return False
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return True


def _value(node: Any, shapes: Mapping[str, tuple[int, ...]], known: Mapping[str, Any], opsets: Any) -> Any:
    from onnx import numpy_helper

    if node.op_type == "Shape" and node.input[0] in shapes and not node.attribute:
        return np.array(shapes[node.input[0]], dtype=np.int64)
    if node.op_type == "Constant":
        tensors = [a.t for a in node.attribute if a.name == "value"]
        small = tensors and math.prod(tensors[0].dims) <= MAX_ELEMENTS and tensors[0].data_location == 0
        return numpy_helper.to_array(tensors[0]) if small else None
    inputs = [name for name in node.input if name]
    if node.op_type not in _EVALUATED or not all(name in known for name in inputs) or len(node.output) != 1:
        return None
    return _evaluate(node, {name: known[name] for name in inputs}, opsets)


def _evaluate(node: Any, values: Mapping[str, Any], opsets: Any) -> Any:
    from onnx import helper, reference

    first: Any = next(iter(values.values()), np.zeros(0))
    if node.op_type == "ConstantOfShape" and math.prod(np.maximum(first, 0).tolist()) > MAX_ELEMENTS:
        return None
    if node.op_type == "Range":
        start, stop, step = (float(values[name]) for name in node.input)
        if not step or (stop - start) / step > MAX_ELEMENTS:
            return None
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in values.items()
    ]
    output = helper.make_tensor_value_info(node.output[0], 0, None)
    graph = helper.make_graph([node], "shape arithmetic", inputs, [output])
    try:
        single = helper.make_model(graph, opset_imports=list(opsets))
        result: Any = reference.ReferenceEvaluator(single).run(None, dict(values))
        array = np.asarray(result[0])
    except (ValueError, TypeError, IndexError, RuntimeError, ZeroDivisionError) as error:
        raise UnsupportedFormatError(
            f"shape arithmetic of a {node.op_type} node cannot be evaluated: {str(error)[:120]}.",
            hint="Simplify the file (onnxsim) so that shapes are fixed.",
        ) from None
    return array if array.size <= MAX_ELEMENTS else None
