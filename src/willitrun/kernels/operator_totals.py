"""Work of a model that has no trace, from the totals that papers and model cards publish."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.kernels.operator_work import OPERATOR_CLASSES, WORK_COLUMNS, OperatorWork

__all__ = ["resize_work", "spread_totals", "total_from_siblings"]

Array = NDArray[np.float64]


def spread_totals(
    macs: ArrayLike,
    activations: ArrayLike,
    parameters: ArrayLike,
    kernels: ArrayLike,
    *,
    passes: ArrayLike = 4.2,
    convolution: ArrayLike = 1.0,
) -> OperatorWork:
    """Spread published totals over operator classes.

    Parameters
    ----------
    macs
        Multiply-accumulates per image.
    activations
        Output elements of all convolutions and matrix products per image, as model cards count them.
    parameters
        Parameters of the model.
    kernels
        Kernels of one eager pass.
    passes
        Elements moved by the streaming operators per activation element: normalisation and activation function
        read and write, residual additions read twice. Fitted over traces.
    convolution
        Share of the arithmetic in convolutions (1 for a CNN, 0 for a transformer).

    Returns
    -------
    OperatorWork
        One row per model; matrix work in the ``mid`` classes, everything else streams.

    Examples
    --------
    >>> work = spread_totals(4.09e9, 11.1e6, 25.6e6, 175)
    >>> float(work.flops.sum())
    8180000000.0
    """
    macs_, acts, weights, launches, share, streamed = np.broadcast_arrays(
        *(
            np.atleast_1d(np.asarray(v, dtype=float))
            for v in (macs, activations, parameters, kernels, convolution, passes)
        )
    )
    blocks = {column: np.zeros((len(macs_), len(OPERATOR_CLASSES))) for column in WORK_COLUMNS}
    conv, gemm = OPERATOR_CLASSES.index("conv_kxk.mid"), OPERATOR_CLASSES.index("gemm.mid")
    stream = OPERATOR_CLASSES.index("elementwise")
    for column in ("flops", "padded_flops"):
        blocks[column][:, conv] = 2.0 * macs_ * share
        blocks[column][:, gemm] = 2.0 * macs_ * (1.0 - share)
    for column in ("act_elements", "fused_act_elements"):
        blocks[column][:, conv] = 2.0 * acts * share
        blocks[column][:, gemm] = 2.0 * acts * (1.0 - share)
    blocks["act_elements"][:, stream] = streamed * acts
    blocks["fused_act_elements"][:, stream] = streamed * acts / 3.0
    blocks["weight_elements"][:, conv] = weights * share
    blocks["weight_elements"][:, gemm] = weights * (1.0 - share)
    blocks["kernels"][:, stream] = launches * 0.65
    blocks["kernels"][:, conv] = launches * 0.35
    blocks["fused_kernels"][:, stream] = launches * 0.25
    blocks["fused_kernels"][:, conv] = launches * 0.35
    return OperatorWork(**blocks)


def total_from_siblings(
    law: Mapping[str, float], quantity: str, macs: ArrayLike, parameters: ArrayLike, image_size: ArrayLike
) -> Array:
    """A total that nobody published, by the law of traced networks: ``exp(a + b ln MACs + c ln parameters + d ln size)``.

    Parameters
    ----------
    law
        Coefficients ``"<quantity>.one"``, ``".macs"``, ``".parameters"`` and ``".image_size"`` [1].
    quantity
        ``activations``, ``streamed`` [elements], ``operators``, ``peak_elements`` or ``peak_autocast_bytes``.
    macs, parameters, image_size
        Multiply-accumulates per image, parameters, side of the image [pixels].

    Examples
    --------
    >>> law = {"operators.one": 0.0, "operators.macs": 0.0, "operators.parameters": 0.5, "operators.image_size": 0.0}
    >>> round(float(total_from_siblings(law, "operators", 4e9, 40_000.0, 224)), 6)
    200.0
    """
    logs = (
        law[f"{quantity}.one"]
        + law[f"{quantity}.macs"] * np.log(np.asarray(macs, dtype=float))
        + law[f"{quantity}.parameters"] * np.log(np.asarray(parameters, dtype=float))
        + law[f"{quantity}.image_size"] * np.log(np.asarray(image_size, dtype=float))
    )
    return np.asarray(np.exp(logs))


_GLOBAL = np.array(
    [name.partition(".")[0] in ("sdpa", "sdpa_mask", "bmm", "softmax") for name in OPERATOR_CLASSES]
)


def resize_work(work: OperatorWork, area_ratio: ArrayLike, *, global_attention: bool) -> OperatorWork:
    """Scale a trace to another image size.

    Everything that runs over positions grows with the area. Attention over all positions has FLOPs that grow
    with its square; convolutions, windows and channel attention don't.

    Parameters
    ----------
    area_ratio
        New area over traced area (size squared over size squared).
    global_attention
        True when attention spans the whole image.

    Examples
    --------
    >>> base = OperatorWork.from_summary({"sdpa.hi": {"flops": 1.0}, "gemm.hi": {"flops": 1.0}})
    >>> float(resize_work(base, 4.0, global_attention=True).flops.sum())
    20.0
    """
    area = np.atleast_1d(np.asarray(area_ratio, dtype=float))[:, None]
    arithmetic = np.where(_GLOBAL & global_attention, area * area, area)
    score = [OPERATOR_CLASSES.index("softmax")]
    moved = np.broadcast_to(area, arithmetic.shape).copy()
    if global_attention:
        moved[:, score] = area * area
    return OperatorWork(
        kernels=np.broadcast_to(work.kernels, (len(area), len(OPERATOR_CLASSES))).copy(),
        flops=work.flops * arithmetic,
        padded_flops=work.padded_flops * arithmetic,
        act_elements=work.act_elements * moved,
        weight_elements=work.weight_elements * np.ones_like(area),
        act32_elements=work.act32_elements * moved,
        fused_kernels=np.broadcast_to(work.fused_kernels, (len(area), len(OPERATOR_CLASSES))).copy(),
        fused_act_elements=work.fused_act_elements * moved,
    )
