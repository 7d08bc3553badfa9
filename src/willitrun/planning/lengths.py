"""Lengths of requests as distributions: mean, variance, quantiles and the longest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.errors import InvalidWorkloadError
from willitrun.frozen import frozen

__all__ = ["Lengths", "read_lengths"]


@frozen(eq=False)
class Lengths:
    """Token counts, rising, with the share of requests that has each."""

    tokens: NDArray[np.float64]
    shares: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean length [tokens]."""
        return float(self.tokens @ self.shares)

    @property
    def variance(self) -> float:
        """Variance [tokens^2]."""
        return float(np.square(self.tokens - self.mean) @ self.shares)

    @property
    def longest(self) -> int:
        """Longest length [tokens]."""
        return int(self.tokens[-1])

    def quantile(self, share: float) -> float:
        """Shortest length that so large a share does not exceed [tokens]."""
        place = int(np.searchsorted(np.cumsum(self.shares), share - 1e-12))
        return float(self.tokens[min(place, len(self.tokens) - 1)])


def read_lengths(given: Any, name: str) -> Lengths:
    """A length, samples of it, or a mapping from lengths to weights.

    Raises
    ------
    InvalidWorkloadError
        No lengths, one below 1, or weights that are no shares.

    Examples
    --------
    >>> read_lengths({500: 3, 4000: 1}, "prompt_tokens").mean
    1375.0
    >>> read_lengths([100, 200, 300, 400], "output_tokens").quantile(0.95)
    400.0
    """
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, Iterable) and not isinstance(given, str):
        pairs = [(one, 1.0) for one in given]
    else:
        pairs = [(given, 1.0)]
    try:
        tokens = np.array([float(one) for one, _ in pairs])
        weights = np.array([float(weight) for _, weight in pairs])
    except (TypeError, ValueError) as error:
        raise InvalidWorkloadError(
            f"{name} is a number of tokens, samples, or a mapping of tokens to weights, got {given!r}."
        ) from error
    if not len(tokens) or not np.isfinite(tokens).all() or tokens.min() < 1 or tokens.max() > 2**40:
        raise InvalidWorkloadError(
            f"{name} are numbers of tokens from 1 on.", hint="Write 512 or {512: 3, 4096: 1}."
        )
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
        raise InvalidWorkloadError(f"weights of {name} are numbers >= 0 that are not all 0.")
    order = np.argsort(tokens, kind="stable")
    return Lengths(tokens[order], weights[order] / weights.sum())
