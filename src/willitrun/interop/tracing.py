"""Operator traces of torch modules on the meta device: no weights, no accelerator.

A dispatch mode sees every ATen operator of one forward pass and adds it to a summary per operator class
(:data:`willitrun.kernels.operator_work.OPERATOR_CLASSES`). Scaled-dot-product attention is caught before torch
decomposes it, so it stays one fused operator. Autocast is followed by tagging each storage with the precision
that it would have, which yields the casts and the 32-bit traffic of mixed precision from the same pass.
"""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from willitrun.errors import MissingExtraError
from willitrun.kernels.operator_work import WORK_COLUMNS, OperatorWork, class_name

if TYPE_CHECKING:
    import torch

__all__ = ["OperatorTrace", "trace_module"]


@dataclass(frozen=True, slots=True)
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


# Autocast policy of torch (https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior).
_HALF_KINDS = frozenset(
    {"conv_kxk", "conv_1x1", "conv_grp", "gemm", "bmm", "sdpa", "sdpa_mask"}
    | {f"conv_dw.{width}" for width in (3, 5, 7, 9)}
)
_SINGLE_OPS = frozenset(
    {
        "native_layer_norm", "native_group_norm", "_softmax", "_log_softmax", "sum", "prod", "cumsum", "cumprod",
        "norm", "exp", "log", "pow", "rsqrt", "reciprocal", "softplus", "cosh", "sinh", "tan", "acos", "asin",
        "cdist", "dist", "renorm", "expm1", "log1p", "log2", "log10",
    }
)  # fmt: skip
# An ATen name says which kind of operator it is; whatever is not listed streams through as "elementwise".
_KINDS: dict[str, str] = {
    **dict.fromkeys(("mm", "addmm", "addmv", "mv", "_int_mm"), "gemm"),
    **dict.fromkeys(("bmm", "baddbmm"), "bmm"),
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "_native_batch_norm_legit",
         "_batch_norm_no_update"), "bn"),
    "native_layer_norm": "ln",
    "_fused_rms_norm": "ln",
    "native_group_norm": "gn",
    **dict.fromkeys(("im2col", "col2im"), "unfold"),
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax"), "softmax"),
    **dict.fromkeys(
        ("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "avg_pool1d", "_adaptive_avg_pool3d",
         "adaptive_max_pool2d", "max_pool3d_with_indices"), "pool"),
    **dict.fromkeys(
        ("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "prod", "norm",
         "linalg_vector_norm", "cumsum", "argmax", "argmin", "topk", "sort"), "reduction"),
    **dict.fromkeys(
        ("clone", "copy_", "_to_copy", "cat", "stack", "roll", "index", "gather", "index_select", "constant_pad_nd",
         "reflection_pad2d", "replication_pad2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d",
         "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa",   "repeat", "flip", "scatter",
         "index_put_", "slice_scatter", "embedding", "pixel_shuffle", "pixel_unshuffle", "native_channel_shuffle",
         "channel_shuffle", "grid_sampler_2d", "_unsafe_index", "index_add", "masked_fill"), "copy"),
}  # fmt: skip
_FUSABLE = frozenset({"bn", "conv_bias", "ln", "softmax", "reduction", "elementwise", "copy", "cast"})
_ALLOCATORS = frozenset(
    {"empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "_unsafe_view"}
)
_SOURCES = frozenset(
    {"arange", "zeros", "ones", "full", "scalar_tensor", "linspace", "eye", "zeros_like", "ones_like", "full_like",
     "new_zeros", "new_ones", "new_full"}
)  # fmt: skip


class _Value:
    """What is known about one live storage."""

    __slots__ = (
        "constant",
        "consumers",
        "elements",
        "fusable_consumers",
        "kind",
        "producer",
        "single",
        "weight",
    )

    def __init__(
        self, elements: int, *, weight: bool = False, constant: bool = False, single: bool = True
    ) -> None:
        self.elements = elements
        self.weight = weight
        self.constant = constant
        self.single = single  # 32-bit under autocast
        self.kind = ""  # operator kind that wrote it
        self.producer = ""  # operator class that wrote it
        self.consumers = 0
        self.fusable_consumers = 0

    @property
    def autocast_bytes(self) -> int:
        return self.elements * (4 if self.single else 2)


class _Ledger:
    """Adds operators to the summary and follows the storages they touch."""

    def __init__(self) -> None:
        self.summary: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(WORK_COLUMNS, 0.0))
        self.values: dict[int, _Value] = {}
        self._watchers: dict[int, Any] = {}
        self._order: list[_Value] = []
        self.n_ops = 0
        self.live = self.live_bytes = self.peak = self.peak_bytes = 0

    def value(self, tensor: torch.Tensor) -> _Value:
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self.values.get(key)
        if known is None:
            known = _Value(storage.nbytes() // tensor.element_size(), single=tensor.is_floating_point())
            self.values[key] = known
            self._watchers[key] = weakref.ref(storage, partial(self._free, key))
        return known

    def hold_weight(self, tensor: torch.Tensor) -> None:
        value = self.value(tensor)
        value.weight = value.constant = True

    def open(self, value: _Value) -> None:
        """Count a new activation as alive."""
        self.live += value.elements
        self.live_bytes += value.autocast_bytes
        self.peak = max(self.peak, self.live)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self._order.append(value)

    def _free(self, key: int, _: object) -> None:
        value = self.values.pop(key, None)
        self._watchers.pop(key, None)
        if value is not None and value.kind:
            self.live -= value.elements
            self.live_bytes -= value.autocast_bytes

    def add(
        self,
        kind: str,
        inputs: Sequence[torch.Tensor],
        outputs: Sequence[torch.Tensor],
        *,
        flops: float = 0.0,
        padded_flops: float = 0.0,
        single: bool | None = None,
    ) -> None:
        """Add one operator. ``single`` forces the precision of the outputs under autocast."""
        sources = [(self.value(t), min(t.numel(), self.value(t).elements)) for t in inputs]
        constant = all(v.constant for v, _ in sources)
        half = kind in _HALF_KINDS
        forced = single is True
        if single is None:
            single = not half and any(
                v.single and t.ndim > 0 and t.is_floating_point()
                for (v, _), t in zip(sources, inputs, strict=True)
                if not (kind == "bn" and v.weight)
            )
        if half or forced:  # other operators promote their inputs inside the kernel
            self._cast([(v, n) for v, n in sources if v.single == half], to_half=half)
        moved = moved32 = weights = 0.0
        for value, count in sources:
            if value.constant:
                weights += count
            else:
                moved += count
                moved32 += count if (value.single and not half) else 0.0
                value.consumers += 1
                value.fusable_consumers += kind in _FUSABLE
        written = sum(t.numel() for t in outputs)
        if constant:
            weights += written
        else:
            moved += written
            moved32 += written if single else 0.0
        name = class_name(kind, flops, moved)
        row = self.summary[name]
        row["kernels"] += 1
        row["flops"] += flops
        row["padded_flops"] += padded_flops or flops
        row["act_elements"] += moved
        row["weight_elements"] += weights
        row["act32_elements"] += moved32
        row["fused_act_elements"] += moved
        fused_away = kind in _FUSABLE and any(v.kind in _FUSABLE and not v.constant for v, _ in sources)
        row["fused_kernels"] += 0.0 if fused_away else 1.0
        if fused_away:
            saved = sum(n for v, n in sources if v.kind in _FUSABLE and not v.constant)
            row["fused_act_elements"] -= saved
        self.n_ops += 1
        for tensor in outputs:
            self._write(tensor, kind, name, constant=constant, single=single and tensor.is_floating_point())

    def _write(self, tensor: torch.Tensor, kind: str, name: str, *, constant: bool, single: bool) -> None:
        value = self.value(tensor)
        if value.weight:
            return
        if value.kind:  # written in place: a new version of the same storage, with readers of its own
            self.live_bytes -= value.autocast_bytes
            value = self.values[tensor.untyped_storage()._cdata] = _Value(value.elements)
            value.single = single
            self.live_bytes += value.autocast_bytes
            self._order.append(value)
        else:
            value.single = single
            self.open(value)
        value.kind, value.producer, value.constant = kind, name, constant

    def _cast(self, sources: list[tuple[_Value, int]], *, to_half: bool) -> None:
        """Add the casts that autocast inserts before an operator."""
        row = self.summary["cast"] if sources else {}
        for value, count in sources:
            row["kernels"] += 1
            if value.constant:
                # Weight casts are cached for one pass; they stay when pointwise operators are fused.
                row["weight_elements"] += 2.0 * count
                row["fused_kernels"] += 1
            else:
                row["act_elements"] += 2.0 * count
                row["act32_elements"] += count
                if to_half and value.kind not in _FUSABLE:
                    row["fused_act_elements"] += 2.0 * count

    def close(self) -> None:
        """Drop the writes that fusion makes unneeded: all readers sit in the kernel that produces the value."""
        for value in self._order:
            if (
                value.kind in _FUSABLE
                and not value.constant
                and 0 < value.consumers == value.fusable_consumers
            ):
                self.summary[value.producer]["fused_act_elements"] -= value.elements
        for row in self.summary.values():
            row["fused_act_elements"] = max(row["fused_act_elements"], 0.0)


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


def _modes(ledger: _Ledger) -> tuple[Any, Any]:
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
            output = query.new_empty((*query.shape[:-1], value.shape[-1]))
            pairs = math.prod(query.shape[:-1]) * key.shape[-2]
            ledger.add(
                "sdpa_mask" if masked else "sdpa",
                inputs,
                [output],
                flops=2.0 * pairs * (query.shape[-1] + value.shape[-1]),
                padded_flops=2.0 * pairs * (_padded(query.shape[-1], 32) + _padded(value.shape[-1], 32)),
                single=False,
            )
            return output

    class Recorder(TorchDispatchMode):  # type: ignore[misc, unused-ignore]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            output = func(*args, **kwargs)
            name = func._schema.name.removeprefix("aten::")
            returns = func._schema.returns
            is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
            outputs = tensors_in(output)
            if is_view or name in _ALLOCATORS or not outputs or name in ("detach", "lift_fresh", "resize_"):
                return output
            inputs = tensors_in((args, kwargs))
            if name in _SOURCES:
                for tensor in outputs:
                    ledger.value(tensor).constant = True
                return output
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
            plain = name.rstrip("_") if name not in _KINDS else name
            kind = _KINDS.get(plain, "elementwise")
            if kind in ("gemm", "bmm"):
                flops, padded = _matmul_flops(plain, inputs)
                ledger.add(kind, inputs, outputs[:1], flops=flops, padded_flops=padded)
                return output
            first = outputs[:1] if kind in ("bn", "ln", "gn") else outputs
            ledger.add(kind, inputs, first, single=True if plain in _SINGLE_OPS else None)
            return output

    return Fused(), Recorder()


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
    ledger = _Ledger()
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
