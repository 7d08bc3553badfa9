"""Operator traces of torch modules on the meta device: no weights, no accelerator.

A dispatch mode sees every ATen operator of one forward pass and adds it to a summary per operator class
(:data:`willitrun.kernels.operator_work.OPERATOR_CLASSES`). Scaled-dot-product attention is caught before torch
decomposes it, so it stays one fused operator. Autocast is followed by tagging each storage with the precision
that it would have, which yields the casts and the 32-bit traffic of mixed precision from the same pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from willitrun.errors import MissingExtraError
from willitrun.frozen import frozen
from willitrun.interop.tracing_ledger import ALLOCATORS, KINDS, SINGLE_OPS, SOURCES, Ledger
from willitrun.kernels.operator_work import OperatorWork

if TYPE_CHECKING:
    import torch

__all__ = ["OperatorTrace", "trace_module"]


@frozen
class OperatorTrace:
    """Summary of one forward pass at batch 1.

    Attributes
    ----------
    summary
        ``{class: {column: value}}``, columns as in :data:`~willitrun.kernels.operator_work.WORK_COLUMNS`.
    n_ops
        Kernels launched in eager execution without autocast.
    parameters
        Elements of parameters.
    buffers
        Elements of buffers, such as running statistics and position tables.
    input_elements
        Elements of the inputs, which a loader copies to the device.
    peak_elements
        Largest number of activation elements alive at once.
    peak_autocast_bytes
        Largest number of activation bytes alive at once under half-precision autocast.
    """

    summary: Mapping[str, Mapping[str, float]]
    n_ops: int
    parameters: int
    buffers: int
    input_elements: int
    peak_elements: int
    peak_autocast_bytes: int

    @property
    def macs(self) -> float:
        """Multiply-accumulates of one pass (half the FLOPs)."""
        return sum(row["flops"] for row in self.summary.values()) / 2.0

    def work(self) -> OperatorWork:
        """Return the summary as the one-row work block of the kernels."""
        return OperatorWork.from_summary(self.summary)


def _padded(value: int, tile: int) -> int:
    return math.ceil(value / tile) * tile


def _matmul_flops(name: str, tensors: Sequence[torch.Tensor]) -> tuple[float, float]:
    left, right = tensors[-2], tensors[-1]
    batch = left.shape[0] if left.ndim == 3 else 1
    m = left.shape[-2] if left.ndim > 1 else 1
    k = left.shape[-1]
    n = right.shape[-1] if right.ndim > 1 else 1
    return 2.0 * batch * m * n * k, 2.0 * batch * m * _padded(n, 32) * _padded(k, 8)


def _convolution(args: Sequence[Any], output: torch.Tensor) -> tuple[str, float, float]:
    weight, transposed, groups = args[1], bool(args[6]), int(args[8])
    out_channels, in_per_group = weight.shape[0], weight.shape[1]
    taps = math.prod(weight.shape[2:])
    if transposed:
        out_channels, in_per_group = weight.shape[1] * groups, weight.shape[0] // groups
    positions = output.shape[0] * math.prod(output.shape[2:])
    if transposed:
        positions = args[0].shape[0] * math.prod(args[0].shape[2:])
    flops = 2.0 * positions * out_channels * in_per_group * taps
    if groups > 1 and in_per_group == 1:
        width = math.isqrt(taps)
        return f"conv_dw.{3 if width < 4 else 5 if width < 6 else 7 if width < 8 else 9}", flops, flops
    per_group = out_channels // groups
    padded = 2.0 * positions * groups * _padded(per_group, 32) * _padded(in_per_group, 8) * taps
    return "conv_grp" if groups > 1 else "conv_1x1" if taps == 1 else "conv_kxk", flops, padded


_CONTIGUOUS = frozenset(
    {"native_layer_norm", "_fused_rms_norm", "native_group_norm", "_softmax", "_log_softmax", "_safe_softmax"}
)
"""Operators whose kernels first copy an input that is not contiguous."""


def _is_channels_last(tensor: torch.Tensor) -> bool:
    import torch

    planar = tensor.is_contiguous()
    return tensor.ndim == 4 and not planar and tensor.is_contiguous(memory_format=torch.channels_last)


def _layout(tensor: torch.Tensor) -> tuple[int, ...]:
    """Strides of the axes that have any."""
    return tuple(s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1)


def _add_relayouts(ledger: Ledger, name: str, inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
    """Add the copies of an operator's inputs that its kernel makes, and operands that it reads against their layout."""
    if not inputs:
        return
    first = inputs[0]
    copied = name in _CONTIGUOUS and not first.is_contiguous()
    copied |= name == "convolution" and not first.is_contiguous() and not _is_channels_last(first)
    if copied:
        ledger.relayout(first, 2, kernels=1)
    elif name in ("bmm", "baddbmm"):
        for tensor in inputs[-2:]:
            if 1 not in tensor.stride()[-2:]:
                ledger.relayout(tensor, 2, kernels=1)
    elif name not in KINDS and name.rstrip("_") not in KINDS and name != "convolution":
        for tensor in inputs:
            if tensor.shape == output.shape and _layout(tensor) != _layout(output):
                ledger.relayout(tensor, 1, kernels=0)


def _modes(ledger: Ledger) -> tuple[Any, Any]:
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def tensors_in(tree: object) -> list[torch.Tensor]:
        return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    class Fused(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
        def __torch_function__(
            self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            # One kernel on accelerators, several on this device.
            if func in (torch.rms_norm, torch.nn.functional.rms_norm):
                given, weight = args[0], kwargs.get("weight", args[2] if len(args) > 2 else None)
                output = given.new_empty(given.shape)
                _add_relayouts(ledger, "_fused_rms_norm", [given], output)
                ledger.add("ln", [given] if weight is None else [given, weight], [output])
                return output
            fused = func is torch.nn.functional.scaled_dot_product_attention
            if not fused or (args[0] if args else kwargs["query"]).ndim != 4:
                return func(*args, **kwargs)  # other ranks have no fused kernel: torch decomposes them
            names = ("query", "key", "value", "attn_mask")
            bound = {
                **dict(zip(names, args, strict=False)),
                **{k: v for k, v in kwargs.items() if k in names},
            }
            query, key, value = bound["query"], bound["key"], bound["value"]
            inputs = [query, key, value]
            masked = bound.get("attn_mask") is not None
            if masked:
                inputs.append(bound["attn_mask"])
            # Fused kernels write the heads of a token side by side, so that joining them is a view.
            sequences, heads, tokens, _ = query.shape
            output = query.new_empty((sequences, tokens, heads, value.shape[-1])).transpose(1, 2)
            pairs = math.prod(query.shape[:-1]) * key.shape[-2]
            ledger.add(
                "sdpa_mask" if masked else "sdpa",
                inputs,
                [output],
                flops=2.0 * pairs * (query.shape[-1] + value.shape[-1]),
                padded_flops=2.0 * pairs * (_padded(query.shape[-1], 32) + _padded(value.shape[-1], 32)),
                single=False,
            )
            ledger.scores(pairs)
            return output

    class Recorder(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            output = func(*args, **kwargs)
            name = func._schema.name.removeprefix("aten::")
            returns = func._schema.returns
            is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
            outputs = tensors_in(output)
            if is_view or name in ALLOCATORS or not outputs or name in ("detach", "lift_fresh", "resize_"):
                return output
            inputs = tensors_in((args, kwargs))
            if name in SOURCES:
                for tensor in outputs:
                    ledger.value(tensor).constant = True
                return output
            if name == "convolution" and _is_channels_last(args[0]):
                # cuDNN answers in the layout that it is asked in; the meta device forgets it.
                output = output.contiguous(memory_format=torch.channels_last)
                outputs = [output]
            _add_relayouts(ledger, name, inputs, outputs[0])
            if name == "convolution":
                kind, flops, padded = _convolution(args, outputs[0])
                if args[2] is not None and not kind.startswith("conv_dw"):
                    # cuDNN's convolution takes no bias: torch adds it in a second pass over the output.
                    inputs = inputs[:-1]
                    ledger.add(kind, inputs, outputs[:1], flops=flops, padded_flops=padded)
                    ledger.add("conv_bias", [outputs[0], args[2]], outputs[:1], single=False)
                    return output
                ledger.add(kind, inputs, outputs[:1], flops=flops, padded_flops=padded)
                return output
            plain = name.rstrip("_") if name not in KINDS else name
            kind = KINDS.get(plain, "elementwise")
            if kind in ("gemm", "bmm"):
                flops, padded = _matmul_flops(plain, inputs)
                ledger.add(kind, inputs, outputs[:1], flops=flops, padded_flops=padded)
                return output
            first = outputs[:1] if kind in ("bn", "ln", "gn") else outputs
            ledger.add(kind, inputs, first, single=True if plain in SINGLE_OPS else None)
            return output

    return Fused(), Recorder()  # type: ignore[no-untyped-call, unused-ignore]


def trace_module(module: torch.nn.Module, *inputs: Any, **named_inputs: Any) -> OperatorTrace:
    """Trace one forward pass of a module into operator classes.

    Parameters
    ----------
    module
        Any module; it is moved to the meta device in evaluation mode, so give a module that was built under
        ``torch.device("meta")`` or one that may lose its weights. Re-parameterise it first if it is deployed so.
    inputs, named_inputs
        Tensors of a batch of one image, on any device.

    Returns
    -------
    OperatorTrace
        Work per operator class, peak of live activations, parameters.

    Raises
    ------
    MissingExtraError
        When torch is not installed.

    Notes
    -----
    FLOPs of a convolution: ``2 positions C_out C_in/groups taps``; of a matrix product ``2 m n k``; of attention
    ``2 L_q L_k (d_qk + d_v)`` per head. The dispatch mechanism is described at
    https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-native-api.
    """
    try:
        import torch
        from torch.utils._pytree import tree_leaves, tree_map
    except ImportError as error:
        raise MissingExtraError("torch", "torch") from error

    def to_meta(leaf: object) -> object:
        return leaf.to("meta") if isinstance(leaf, torch.Tensor) else leaf

    module = module.to("meta").eval()
    args, kwargs = tree_map(to_meta, inputs), tree_map(to_meta, named_inputs)
    ledger = Ledger()
    weights = {id(t): t for t in (*module.parameters(), *module.buffers())}
    for tensor in weights.values():
        ledger.hold_weight(tensor)
    entered = 0
    for leaf in tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor):
            value = ledger.value(leaf)
            value.kind = "input"
            ledger.open(value)
            entered += leaf.numel()
    fused, recorder = _modes(ledger)
    with torch.no_grad(), torch.device("meta"), recorder, fused:
        output = module(*args, **kwargs)
    ledger.close()
    del output
    return OperatorTrace(
        summary={name: dict(row) for name, row in sorted(ledger.summary.items())},
        n_ops=ledger.n_ops,
        parameters=sum(t.numel() for t in module.parameters()),
        buffers=sum(t.numel() for t in module.buffers()),
        input_elements=entered,
        peak_elements=ledger.peak,
        peak_autocast_bytes=ledger.peak_bytes,
    )
