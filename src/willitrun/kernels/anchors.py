"""What measurements near by say about a prediction, and whether a measurement can be true at all.

A log ratio r = ln(measured / predicted) is taken as a sum of independent normal effects, one per level that two
tuples can share (device, runtime, family, configuration), and noise:

    Cov(r_i, r_j) = sum over levels l of tau_l^2 [i and j agree on l]  +  sigma^2 [i = j]
    mean     = k^T K^-1 r                    k the covariances of the target with the measurements, K among them
    variance = sum tau_l^2 - k^T K^-1 k

Where a prediction is a time of several terms, every level has an effect of its own on each of them, and a tuple takes
those of its terms by their shares s of its time: what was measured where the host decides says nothing of the device.
The covariances then count s_i . s_j, which is 1 for a time of one term.

That is normal-normal shrinkage with nested groups (Rasmussen and Williams, Gaussian Processes for Machine
Learning, 2006, eq. 2.25-2.26, https://gaussianprocess.org/gpml/). A target that shares no level gets mean 0 and
the prior variance: nothing moves.

The physics gate runs the speed kernels with every efficiency at 1 and every overhead at 0, first with memory
alone, then with arithmetic alone: a true measurement is not faster than either, but for slack.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork
from willitrun.kernels.llm_speed import LlmSpeed, predict

__all__ = [
    "LLM_METRICS",
    "SLACK",
    "Posterior",
    "Reach",
    "condition",
    "llm_limits",
    "llm_rate",
    "narrowing",
    "reach",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

#: A measurement may exceed a nameplate peak by this factor: boost above the sheet's clock, rounded figures.
SLACK = 1.1

#: Metric of a measurement -> column of `LlmSpeed`, and whether that column is a time.
LLM_METRICS: dict[str, tuple[str, bool]] = {
    "decode_tokens_per_s": ("decode_tokens_per_s", False),
    "throughput_tokens_per_s": ("throughput_tokens_per_s", False),
    "prefill_tokens_per_s": ("prefill_tokens_per_s", False),
    "time_per_output_token_s": ("time_per_output_token_s", True),
    "time_to_first_token_s": ("loaded_time_to_first_token_s", True),
}

_READS = ("weights", "experts", "kv")
_COMPUTES = ("linear", "attention", "prefill_linear", "prefill_attention")


@frozen
class Posterior:
    """Mean and variance of a target's log ratio, and its variance without measurements, shape (m,)."""

    mean: FloatArray
    variance: FloatArray
    prior: FloatArray


@frozen(eq=False)
class Reach:
    """What anchors say of targets whose terms are not known yet.

    Attributes
    ----------
    moved
        Mean log ratio of each term, shape (m, terms).
    explained
        Variance that the anchors explain, by pairs of terms, shape (m, terms, terms).
    prior
        Variance of the effects on one term.
    """

    moved: FloatArray
    explained: FloatArray
    prior: float

    def at(self, shares: FloatArray) -> Posterior:
        """The posterior of targets by the shares of their terms, shape (..., terms), against (m, ...).

        >>> one = Reach(np.array([[0.2, 0.0]]), np.array([[[0.01, 0.0], [0.0, 0.0]]]), 0.04)
        >>> one.at(np.array([[0.5, 0.5]])).mean.tolist()
        [0.1]
        """
        mean = np.einsum("...t,...t->...", self.moved, shares)
        half = np.einsum("...t,...tu->...u", shares, self.explained)
        explained = np.einsum("...u,...u->...", half, shares)
        prior = self.prior * np.einsum("...t,...t->...", shares, shares)
        return Posterior(mean, np.maximum(prior - explained, 0.0), prior)


def _covariance(left: IntArray, right: IntArray, variances: FloatArray) -> FloatArray:
    same = (left[:, None, :] == right[None, :, :]) & (left[:, None, :] >= 0)
    result: FloatArray = same @ variances
    return result


def condition(
    log_ratios: FloatArray, anchors: IntArray, targets: IntArray, variances: FloatArray, noise: float
) -> Posterior:
    """Return what the targets' log ratios are, given those of the anchors.

    Parameters
    ----------
    log_ratios
        ln(measured / predicted) per anchor, shape (n,).
    anchors, targets
        Codes per level, shape (n, levels) and (m, levels); equal codes share that level's effect, -1 shares
        nothing.
    variances
        Variance of each level's effect, shape (levels,).
    noise
        Variance of a single measurement, > 0.

    Examples
    --------
    >>> anchor, target = np.array([[1, 7]]), np.array([[1, 8], [2, 9]])
    >>> found = condition(np.array([0.3]), anchor, target, np.array([0.04, 0.04]), 0.01)
    >>> [round(value, 3) for value in found.mean.tolist()]
    [0.133, 0.0]
    """
    single = np.ones((len(log_ratios), 1))
    return reach(log_ratios, anchors, targets, variances, noise, single).at(np.ones((len(targets), 1)))


def reach(
    log_ratios: FloatArray,
    anchors: IntArray,
    targets: IntArray,
    variances: FloatArray,
    noise: float,
    shares: FloatArray,
) -> Reach:
    """Return what anchors, whose terms have ``shares`` of their times (n, terms), say of targets of any shares.

    Other parameters as of :func:`condition`.
    """
    count, terms = shares.shape
    prior = float(variances.sum())
    if count == 0:
        return Reach(np.zeros((len(targets), terms)), np.zeros((len(targets), terms, terms)), prior)
    among = _covariance(anchors, anchors, variances) * (shares @ shares.T) + noise * np.eye(count)
    across = _covariance(targets, anchors, variances)[:, :, None] * shares
    by_term = across.transpose(1, 0, 2).reshape(count, -1)
    solved = np.linalg.solve(among, np.column_stack((log_ratios, by_term)))
    moved = np.einsum("mnt,n->mt", across, solved[:, 0])
    explained = np.einsum("mnt,nmu->mtu", across, solved[:, 1:].reshape(count, len(targets), terms))
    return Reach(moved, explained, prior)


def narrowing(posterior: Posterior, noise: float) -> FloatArray:
    """Return the factor on the logarithmic width of an interval: 1 without measurements, towards noise alone.

    ``sqrt((variance + sigma^2) / (prior + sigma^2))``.

    >>> float(narrowing(Posterior(np.zeros(1), np.array([0.0]), np.array([0.03])), 0.01)[0])
    0.5
    """
    result: FloatArray = np.sqrt((posterior.variance + noise) / (posterior.prior + noise))
    return result


def llm_rate(speed: LlmSpeed, metric: str) -> FloatArray:
    """Return the column of a metric as a rate: a time becomes its inverse."""
    name, inverse = LLM_METRICS[metric]
    values: FloatArray = getattr(speed, name)
    return 1.0 / values if inverse else values


def llm_limits(
    work: LlmWork, rates: LlmRates, load: LlmLoad, legal_flop_per_s: FloatArray
) -> tuple[LlmSpeed, LlmSpeed]:
    """Return the speed that memory alone and that arithmetic alone would allow.

    Parameters
    ----------
    work, rates, load
        As predicted.
    legal_flop_per_s
        Highest peak that any kernel of the runtime may use for the format [FLOP/s].

    Returns
    -------
    tuple of LlmSpeed
        By bandwidth, by arithmetic. ``measured / limit`` is the share of the nameplate that a measurement
        implies. Sequences in flight may choose the same experts, so with several only dense weights count.
    """
    alone = replace(load, interference=np.zeros(1))
    single = np.where(load.concurrency * (1.0 + load.draft_tokens) > 1.0, 0.0, 1.0)
    peaks = replace(
        rates,
        compute_flop_per_s=legal_flop_per_s,
        attention_flop_per_s=np.fmax(rates.attention_flop_per_s, legal_flop_per_s),
    )
    by_memory = predict(work, rates, alone, _ideal(_READS, experts=single))
    by_compute = predict(work, peaks, alone, _ideal(_COMPUTES))
    return by_memory, by_compute


def _ideal(ones: tuple[str, ...], **given: FloatArray) -> LlmCoefficients:
    """Coefficients of a perfect machine, on which only some resources take time."""
    # A phase that uses none of them takes the shortest time that can be inverted, not zero.
    columns: dict[str, FloatArray] = {field.name: np.zeros(1) for field in fields(LlmCoefficients)}
    columns |= {"step": np.full(1, 1e-12), "prefill_layer": np.full(1, 1e-15)}
    columns |= {name: np.ones(1) for name in ones} | given
    return LlmCoefficients(**columns)
