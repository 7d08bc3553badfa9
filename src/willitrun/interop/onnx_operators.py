"""What one ONNX operator does: its kind, its arithmetic, and which of them make up an attention.

Operators and their attributes: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from willitrun.frozen import frozen

__all__ = ["FREE", "KINDS", "Node", "fuse_attention", "work_of_node"]

Shape = tuple[int, ...]

KINDS: dict[str, str] = {
    **dict.fromkeys(("BatchNormalization", "SpatialBN"), "bn"),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), "ln"),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), "gn"),
    **dict.fromkeys(("Softmax", "LogSoftmax"), "softmax"),
    **dict.fromkeys(
        ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool"), "pool"),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1", "ReduceProd",
         "ReduceSumSquare", "ReduceLogSumExp", "ArgMax", "ArgMin", "TopK", "CumSum"), "reduction"),
    **dict.fromkeys(
        ("Concat", "Transpose", "Slice", "Split", "Gather", "GatherElements", "GatherND", "Pad", "Resize", "Upsample",
         "Tile", "Expand", "DepthToSpace", "SpaceToDepth", "ScatterND", "ScatterElements", "GridSample"), "copy"),
    "Col2Im": "unfold",
}  # fmt: skip
"""ONNX operator -> kind of the tracer; whatever is not listed and is no matrix product streams as "elementwise"."""

FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Shape", "Size"})
"""Views, and what inference drops."""

_SCALING = frozenset({"Mul", "Div", "Add", "Sub", "Cast", "Where"})


@frozen
class Node:
    """One operator: its type, names of what it reads and writes, attributes.

    ``extra`` are names that operators merged into this one have read.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    extra: tuple[str, ...] = ()


def work_of_node(
    node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape], constant: Sequence[bool]
) -> tuple[str, float, float, bool]:
    """Kind, FLOPs, FLOPs after padding to tiles, and whether a bias takes a pass of its own.

    ``2 positions C_out C_in/groups taps`` for a convolution, ``2 m n k`` for a matrix product,
    ``2 L_q L_k (d_qk + d_v)`` per head for an attention.
    """
    if node.kind in ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv"):
        return _convolution(node, inputs, outputs)
    if node.kind in ("Gemm", "MatMul", "MatMulInteger"):
        return _product(node, inputs, outputs, constant)
    if node.kind == "Attention":
        return _attention(inputs, outputs)
    if node.kind == "Einsum":
        left, right = inputs[0], inputs[-1]
        shared = math.sqrt(math.prod(left) * math.prod(right) / max(math.prod(outputs[0]), 1))
        flops = 2.0 * math.prod(outputs[0]) * max(shared, 1.0)
        return "bmm", flops, flops, False
    return KINDS.get(node.kind, "elementwise"), 0.0, 0.0, False


def _padded(value: int, tile: int) -> int:
    return math.ceil(value / tile) * tile


def _convolution(
    node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> tuple[str, float, float, bool]:
    weight = inputs[3] if node.kind == "QLinearConv" else inputs[1]
    groups = int(node.attributes.get("group", 1))
    taps = math.prod(weight[2:])
    if node.kind == "ConvTranspose":
        out_channels, per_group = weight[1] * groups, weight[0] // groups
        positions = inputs[0][0] * math.prod(inputs[0][2:])
    else:
        out_channels, per_group = weight[0], weight[1]
        positions = outputs[0][0] * math.prod(outputs[0][2:])
    flops = 2.0 * positions * out_channels * per_group * taps
    biased = len(inputs) > (8 if node.kind == "QLinearConv" else 2)
    if groups > 1 and per_group == 1:
        width = math.isqrt(taps)
        return f"conv_dw.{3 if width < 4 else 5 if width < 6 else 7 if width < 8 else 9}", flops, flops, False
    padded = 2.0 * positions * groups * _padded(out_channels // groups, 32) * _padded(per_group, 8) * taps
    return "conv_grp" if groups > 1 else "conv_1x1" if taps == 1 else "conv_kxk", flops, padded, biased


def _product(
    node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape], constant: Sequence[bool]
) -> tuple[str, float, float, bool]:
    left, right = inputs[0], inputs[1]
    k = left[-2] if node.attributes.get("transA") else left[-1]
    n = outputs[0][-1]
    rows = math.prod(outputs[0]) / max(n, 1)
    kind = "gemm" if any(constant[:2]) or len(right) <= 2 else "bmm"
    return kind, 2.0 * rows * n * k, 2.0 * rows * _padded(n, 32) * _padded(k, 8), False


def _attention(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> tuple[str, float, float, bool]:
    """Of query, key (its last two dimensions in either order), value and maybe a mask."""
    query, value, out = inputs[0], inputs[2], outputs[0]
    keys = value[-2]
    pairs = math.prod(query[:-1]) * keys
    depth, width = query[-1], out[-1]
    flops = 2.0 * pairs * (depth + width)
    padded = 2.0 * pairs * (_padded(depth, 32) + _padded(width, 32))
    return "sdpa_mask" if len(inputs) > 3 else "sdpa", flops, padded, False


def fuse_attention(nodes: Sequence[Node]) -> list[Node]:
    """Replace product, scaling, softmax and product by one attention, as every runtime does.

    Only where each value in between has one reader; the nodes keep their order.
    """
    writer = {name: i for i, node in enumerate(nodes) for name in node.outputs}
    readers: defaultdict[str, list[int]] = defaultdict(list)
    for i, node in enumerate(nodes):
        for name in node.inputs:
            readers[name].append(i)
    merged: dict[int, Node] = {}
    gone: set[int] = set()
    for i, node in enumerate(nodes):
        if node.kind != "Softmax":
            continue
        found = _around(i, nodes, writer, readers)
        if found is not None:
            last, attention, members = found
            merged[last] = attention
            gone |= members
    return [merged.get(i, node) for i, node in enumerate(nodes) if i not in gone]


def _around(
    softmax: int, nodes: Sequence[Node], writer: Mapping[str, int], readers: Mapping[str, list[int]]
) -> tuple[int, Node, set[int]] | None:
    members, extra, masks = {softmax}, list(nodes[softmax].inputs), []
    place = writer.get(nodes[softmax].inputs[0])
    while place is not None and nodes[place].kind in _SCALING:
        node = nodes[place]
        if len(readers[node.outputs[0]]) != 1:
            return None
        scores = next(
            (n for n in node.inputs if n in writer and nodes[writer[n]].kind in _SCALING | {"MatMul"}), None
        )
        if scores is None:
            return None
        if node.kind in ("Add", "Where"):
            masks += [name for name in node.inputs if name != scores]
        members.add(place)
        extra += node.inputs
        place = writer[scores]
    if place is None or nodes[place].kind != "MatMul" or len(readers[nodes[place].outputs[0]]) != 1:
        return None
    first = nodes[place]
    members.add(place)
    output = nodes[softmax].outputs[0]
    while len(readers[output]) == 1 and nodes[readers[output][0]].kind in ("Cast", "Dropout"):
        step = readers[output][0]
        members.add(step)
        extra.append(output)
        output = nodes[step].outputs[0]
    if len(readers[output]) != 1:
        return None
    last = readers[output][0]
    product = nodes[last]
    if product.kind != "MatMul" or product.inputs[0] != output:
        return None
    extra.append(output)
    inputs = (*first.inputs, product.inputs[1], *masks[:1])
    # What the members read is released when the attention has run; its own inputs are among them once.
    rest = tuple(name for name in extra if name not in masks[:1])
    return last, replace(product, kind="Attention", inputs=inputs, extra=rest), members
