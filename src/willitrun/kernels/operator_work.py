"""What a graph of operators has to do: counts, FLOPs and elements moved, by operator class.

The summary is free of dtype and batch size. Activation elements scale with the batch, weight elements do not;
bytes follow when a precision is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen

__all__ = [
    "MATMUL_KINDS",
    "OPERATOR_CLASSES",
    "SCORES",
    "WORK_COLUMNS",
    "OperatorWork",
    "class_name",
]

Array = NDArray[np.float64]

MATMUL_KINDS = ("conv_kxk", "conv_1x1", "conv_grp", "gemm", "bmm", "sdpa", "sdpa_mask")
"""Kinds that run on matrix units, each split by arithmetic intensity so that a sum over a class stays a roofline."""

INTENSITY_EDGES = (128.0, 384.0)
"""FLOPs per activation element at which a matmul kind passes from ``lo`` to ``mid`` to ``hi``.

Half-precision ridge points of accelerators lie between 150 and 600 FLOPs per element, so each class stays
mostly on one side of the ridge."""

_DEPTHWISE = ("conv_dw.3", "conv_dw.5", "conv_dw.7", "conv_dw.9")  # by width of the kernel, 9 and more

_STREAMING_KINDS = (
    "conv_bias", "bn", "ln", "gn", "softmax", "pool", "unfold", "reduction", "elementwise", "copy", "relayout",
    "cast",
)  # fmt: skip

OPERATOR_CLASSES = (
    *(f"{kind}.{level}" for kind in MATMUL_KINDS for level in ("lo", "mid", "hi")),
    *_DEPTHWISE,
    *_STREAMING_KINDS,
)
"""Operator classes, in the order of the columns of every work array.

``relayout`` is what eager kernels move because images lie plane by plane: copies that a normalisation makes of
permuted inputs, and operands that lie otherwise than the result."""

SCORES = "scores"
"""Class of a trace that costs nothing where attention is one kernel: kernels and score elements of each attention."""

WORK_COLUMNS = (
    "kernels",
    "flops",
    "padded_flops",
    "act_elements",
    "weight_elements",
    "act32_elements",
    "fused_kernels",
    "fused_act_elements",
)
"""Per-class quantities, in the order of the trace tables."""


def class_name(kind: str, flops: float, act_elements: float) -> str:
    """Name the operator class of one operator.

    Parameters
    ----------
    kind
        Operator kind, such as ``"conv_kxk"`` or ``"ln"``.
    flops
        Floating-point operations [FLOP]; a multiply-add counts two.
    act_elements
        Activation elements read and written.

    Examples
    --------
    >>> class_name("gemm", 1e9, 1e6)
    'gemm.hi'
    >>> class_name("ln", 0.0, 1e6)
    'ln'
    """
    if kind not in MATMUL_KINDS:
        return kind
    intensity = flops / max(act_elements, 1.0)
    low, high = INTENSITY_EDGES
    return f"{kind}.{'lo' if intensity < low else 'mid' if intensity < high else 'hi'}"


def _spread_scores(kernels: float, scores: float) -> dict[str, dict[str, float]]:
    """What attention in separate kernels does beyond one kernel: two products instead of one, a scaling, a softmax in
    32 bits and, under autocast, the casts before and after it."""
    twice = 2.0 * scores
    return {
        "bmm.lo": {"kernels": kernels, "fused_kernels": kernels, "act_elements": twice, "fused_act_elements": twice},
        "elementwise": {"kernels": kernels, "act_elements": twice},
        "softmax": {
            "kernels": kernels, "fused_kernels": kernels, "act_elements": twice, "fused_act_elements": twice,
            "act32_elements": twice,
        },
        "cast": {"kernels": 2.0 * kernels, "act_elements": 2.0 * twice, "act32_elements": twice},
    }  # fmt: skip


@frozen(eq=False)
class OperatorWork:
    """Work of one forward pass, per image, rows x classes.

    Every array is float64 of shape (rows, ``len(OPERATOR_CLASSES)``), or (1, classes) to broadcast one model
    over many rows.

    Attributes
    ----------
    kernels
        Operators that launch a kernel in eager execution.
    flops
        Arithmetic per image [FLOP].
    padded_flops
        Arithmetic after channels are padded to the tile of the matrix units [FLOP].
    act_elements
        Activation elements read plus written, per image.
    weight_elements
        Weight elements read, per pass (independent of the batch).
    act32_elements
        Part of ``act_elements`` that stays in 32 bits under autocast.
    fused_kernels, fused_act_elements
        The same after ideal fusion of pointwise operators and reductions.
    """

    kernels: Array
    flops: Array
    padded_flops: Array
    act_elements: Array
    weight_elements: Array
    act32_elements: Array
    fused_kernels: Array
    fused_act_elements: Array

    @classmethod
    def from_summary(
        cls, summary: Mapping[str, Mapping[str, float]], *, fused_attention: bool = True
    ) -> OperatorWork:
        """Build one row of work from ``{class: {column: value}}``.

        Parameters
        ----------
        summary
            A trace's classes.
        fused_attention
            False for software older than PyTorch 2, which writes the scores of attention to memory.

        Examples
        --------
        >>> work = OperatorWork.from_summary({"ln": {"kernels": 2, "act_elements": 100.0}})
        >>> float(work.kernels.sum()), work.kernels.shape[0]
        (2.0, 1)
        """
        unknown = set(summary) - {*OPERATOR_CLASSES, SCORES}
        if unknown:
            raise ValueError(f"unknown operator classes: {', '.join(sorted(unknown))}")
        columns = {
            column: np.array([[float(summary.get(name, {}).get(column, 0.0)) for name in OPERATOR_CLASSES]])
            for column in WORK_COLUMNS
        }
        scores = summary.get(SCORES)
        if scores is not None and not fused_attention:
            for name, row in _spread_scores(scores["kernels"], scores["act_elements"]).items():
                for column, value in row.items():
                    columns[column][0, OPERATOR_CLASSES.index(name)] += value
        return cls(**columns)

    def of_one_row(self) -> OperatorWork:
        """The only row, of shape (classes,)."""
        return OperatorWork(*(getattr(self, name)[0] for name in WORK_COLUMNS))

    @classmethod
    def stack(cls, works: list[OperatorWork]) -> OperatorWork:
        """Stack single rows into one block of rows."""
        return cls(**{c: np.concatenate([getattr(w, c) for w in works]) for c in WORK_COLUMNS})
