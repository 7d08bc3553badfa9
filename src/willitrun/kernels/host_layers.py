"""How many of the first layers lie in host memory: as told, or as few as are enough."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.elementwise import exists, maximum, minimum, where
from willitrun.kernels.splits import ceil_div

__all__ = ["enough_layers", "layers_on_host", "output_on_host"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def layers_on_host(n_layers: IntArray, gpu_layers: IntArray, *, output_last: bool = False) -> IntArray:
    """Layers that stay on the host for a given ``-ngl`` of llama.cpp.

    ``-ngl`` counts the output matrix, which is the first to move since pull request 18148 and was the last before:
    ``-ngl 32`` of a model of 32 layers leaves one layer, then the output. First layers stay.
    Source: https://github.com/ggml-org/llama.cpp/pull/18148 and `i_gpu_start` in `src/llama-model.cpp`.

    Examples
    --------
    >>> int(layers_on_host(np.int64(32), np.int64(32))), int(layers_on_host(np.int64(32), np.int64(32), output_last=True))
    (1, 0)
    """
    counted = n_layers if output_last else n_layers + 1
    result: IntArray = minimum(maximum(counted - gpu_layers, 0), n_layers)
    return result


def output_on_host(n_layers: IntArray, gpu_layers: IntArray, *, output_last: bool = False) -> BoolArray:
    """Whether the output matrix stays on the host for a given ``-ngl``; see `layers_on_host`.

    Examples
    --------
    >>> bool(output_on_host(np.int64(32), np.int64(1))), bool(output_on_host(np.int64(32), np.int64(32), output_last=True))
    (False, True)
    """
    result: BoolArray = gpu_layers <= (n_layers if output_last else 0)
    return result


def enough_layers(
    left: IntArray,
    can: BoolArray,
    n_layers: IntArray,
    each: IntArray,
    held: Callable[[IntArray], tuple[IntArray, ...]],
) -> tuple[IntArray, tuple[IntArray, ...]]:
    """The fewest first layers that hold ``left`` bytes: as many as equal ones of ``each``, and a step at a time from there.

    ``held`` says what some first layers hold, in parts; those of the layers that are found are returned beside them.

    Examples
    --------
    >>> sizes = np.array([0, 1, 2, 3, 13])
    >>> layers, parts = enough_layers(np.int64(4), np.bool_(True), np.int64(4), np.int64(4), lambda count: (sizes[count],))
    >>> int(layers), int(parts[0])
    (4, 13)
    """
    can = can & (left > 0)
    layers = where(can, minimum(ceil_div(left, each), n_layers), 0)
    parts = held(layers)
    if not exists(can):
        return layers, parts
    while exists(short := can & (_sum(parts) < left) & (layers < n_layers)):
        layers = layers + short
        parts = held(layers)
    fewer = layers
    while exists(long := can & (_sum(held(maximum(fewer - 1, 0))) >= left)):
        fewer = fewer - long
    return (layers, parts) if fewer is layers else (fewer, held(fewer))


def _sum(parts: tuple[IntArray, ...]) -> IntArray:
    total = parts[0]
    for part in parts[1:]:
        # What no row has is the number 0, which is not added to whole columns.
        if type(part) is np.ndarray or part:
            total = total + part
    return total
