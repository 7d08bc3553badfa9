"""Account of the operators that a trace sees: classes, traffic, casts, fusion and what is alive."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from willitrun.kernels.operator_work import SCORES, WORK_COLUMNS, class_name

if TYPE_CHECKING:
    import torch

__all__ = ["ALLOCATORS", "KINDS", "SINGLE_OPS", "SOURCES", "Ledger"]

# Autocast policy of torch (https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior).
_HALFKINDS = frozenset(
    {"conv_kxk", "conv_1x1", "conv_grp", "gemm", "bmm", "sdpa", "sdpa_mask"}
    | {f"conv_dw.{width}" for width in (3, 5, 7, 9)}
)
SINGLE_OPS = frozenset(
    {
        "native_layer_norm", "native_group_norm", "_softmax", "_log_softmax", "sum", "prod", "cumsum", "cumprod",
        "norm", "exp", "log", "pow", "rsqrt", "reciprocal", "softplus", "cosh", "sinh", "tan", "acos", "asin",
        "cdist", "dist", "renorm", "expm1", "log1p", "log2", "log10",
    }
)  # fmt: skip
# An ATen name says which kind of operator it is; whatever is not listed streams through as "elementwise".
KINDS: dict[str, str] = {
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
ALLOCATORS = frozenset(
    {"empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "_unsafe_view"}
)
SOURCES = frozenset(
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


class Ledger:
    """Adds operators to the summary and follows the storages they touch.

    Attributes
    ----------
    summary
        ``{class: {column: value}}`` so far.
    n_ops
        Operators added, casts aside.
    peak, peak_bytes
        Largest number of activation elements alive at once, and of bytes under autocast.
    """

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
        half = kind in _HALFKINDS
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

    def relayout(self, tensor: torch.Tensor, passes: int, *, kernels: int) -> None:
        """Add passes over a tensor that a kernel makes, or hides in itself, because it lies otherwise in memory."""
        value = self.value(tensor)
        row = self.summary["relayout"]
        row["kernels"] += kernels
        self.n_ops += kernels
        moved = passes * tensor.numel()
        if value.constant:
            row["weight_elements"] += moved
        else:
            row["act_elements"] += moved
            row["act32_elements"] += moved if value.single else 0

    def scores(self, elements: int) -> None:
        """Note the scores of one fused attention."""
        row = self.summary[SCORES]
        row["kernels"] += 1
        row["act_elements"] += elements

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
