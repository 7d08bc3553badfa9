"""Time of a training step of a transformer on one rank: arithmetic of its passes, and the traffic of weights and states.

References
----------
Reducing Activation Recomputation in Large Transformer Models, https://arxiv.org/abs/2205.05198 (FLOPs of a step);
QLoRA, https://arxiv.org/abs/2305.14314 (frozen weights are made whole for every pass).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["StepWork", "exposed_exchange_s", "step_seconds", "step_work"]

FloatArray = NDArray[np.float64]

WHOLE_BYTES = 2
"""Of a weight made whole for a matrix product."""


@dataclass(frozen=True, slots=True)
class StepWork:
    """Work of one step: floating-point operations, and bytes moved between memory and chip."""

    linear_flop: FloatArray
    attention_flop: FloatArray
    weight_bytes: FloatArray
    state_bytes: FloatArray


def step_work(
    active_parameters: ArrayLike,
    *,
    tokens: ArrayLike,
    context: ArrayLike,
    layers: ArrayLike,
    query_width: ArrayLike,
    trains_weights: ArrayLike,
    recomputes: ArrayLike,
    recomputes_attention: ArrayLike = False,
    stored_bytes: ArrayLike,
    dequantized_parameters: ArrayLike = 0,
    updated_bytes: ArrayLike = 0,
) -> StepWork:
    """Work of a step over ``tokens`` tokens in sequences of ``context``.

    A forward pass takes ``2 x active x tokens`` operations in matrices and ``2 x layers x query width x context x
    tokens`` in causal attention. Backward, matrices take another pass for the gradients of their inputs and one for
    their own where they are trained; attention takes two. Full checkpointing adds a forward pass,
    selective checkpointing one of attention.

    Parameters
    ----------
    active_parameters
        Parameters that one token passes.
    tokens, context
        Tokens of the batch, and of one sequence.
    layers, query_width
        Blocks, and heads x width of a head.
    trains_weights
        Whether the matrices themselves are trained (full fine-tuning) or adapters beside them.
    recomputes
        Whether all activations are computed again for the backward pass.
    recomputes_attention
        Whether those of attention between its inputs and its output are.
    stored_bytes
        Weights as they are stored, read once per pass [bytes].
    dequantized_parameters
        Parameters written and read whole in each pass because they are stored quantized.
    updated_bytes
        Gradients, master weights and optimizer states, read and written once [bytes].

    Examples
    --------
    >>> work = step_work(7e9, tokens=4096, context=4096, layers=32, query_width=4096, trains_weights=True,
    ...     recomputes=False, stored_bytes=14e9)
    >>> float(work.linear_flop) == 6 * 7e9 * 4096
    True
    """
    count = np.asarray(tokens, dtype=np.float64)
    again = np.asarray(recomputes, dtype=np.float64)
    attention_again = np.maximum(again, np.asarray(recomputes_attention, dtype=np.float64))
    passes = 2.0 + np.asarray(trains_weights, dtype=np.float64) + again
    reads = 2.0 + again
    whole = 2.0 * WHOLE_BYTES * np.asarray(dequantized_parameters, dtype=np.float64)
    return StepWork(
        linear_flop=passes * 2.0 * np.asarray(active_parameters, dtype=np.float64) * count,
        attention_flop=(3.0 + attention_again)
        * 2.0
        * np.asarray(layers)
        * np.asarray(query_width)
        * np.asarray(context)
        * count,
        weight_bytes=reads * (np.asarray(stored_bytes, dtype=np.float64) + whole),
        state_bytes=2.0 * np.asarray(updated_bytes, dtype=np.float64),
    )


def step_seconds(
    work: StepWork, *, flop_per_s: ArrayLike, bytes_per_s: ArrayLike, efficiency: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Seconds of a step by part: matrices, attention, weights, states; their sum is the step.

    ``FLOP / (efficiency x peak)`` and ``bytes / bandwidth``.

    Examples
    --------
    >>> work = step_work(1e9, tokens=1000, context=1000, layers=0, query_width=0, trains_weights=True,
    ...     recomputes=False, stored_bytes=2e9)
    >>> [round(float(part), 4) for part in step_seconds(work, flop_per_s=1e14, bytes_per_s=1e12, efficiency=0.5)]
    [0.12, 0.0, 0.004, 0.0]
    """
    rate = np.asarray(efficiency, dtype=np.float64) * np.asarray(flop_per_s, dtype=np.float64)
    bandwidth = np.asarray(bytes_per_s, dtype=np.float64)
    return (
        work.linear_flop / rate,
        work.attention_flop / rate,
        work.weight_bytes / bandwidth,
        work.state_bytes / bandwidth,
    )


def exposed_exchange_s(
    gradient_bytes: ArrayLike, ranks: ArrayLike, *, link_bytes_per_s: ArrayLike, hidden_s: ArrayLike
) -> FloatArray:
    """Seconds of the exchange of gradients that the backward pass does not hide [s].

    A ring moves ``2 (ranks - 1) / ranks`` of the gradients over every link; it runs beside the backward pass.

    Examples
    --------
    >>> float(exposed_exchange_s(16e9, 2, link_bytes_per_s=16e9, hidden_s=0.25))
    0.75
    """
    count = np.asarray(ranks, dtype=np.float64)
    seconds = 2.0 * (count - 1.0) / count * np.asarray(gradient_bytes) / np.asarray(link_bytes_per_s)
    found: FloatArray = np.maximum(seconds - np.asarray(hidden_s, dtype=np.float64), 0.0)
    return found
