"""Group-split conformal intervals on the signed log ratio, by phase and support tier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: From the nearest support to the widest; a tier with too few configurations inherits the next one.
TIERS = ("near", "unseen-model", "unseen-device", "unseen-class")
FEWEST_CONFIGURATIONS = 20
#: Classes of spread, from the programs that are foretold best to those that are foretold worst.
CLASSES = ("narrowest", "narrow", "middle", "wider", "wide")
#: Configurations of a class below which it would not tell anything of its own, and the weight of the pooled spread.
FEWEST_IN_CLASS, POOLED = 60, 10.0
LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class TierInterval:
    """Multipliers of a predicted rate that hold the measured one in ``LEVEL`` of configurations."""

    low: float
    high: float
    n: int
    coverage: float


def weighted_quantile(values: np.ndarray, weights: np.ndarray, probability: float) -> float:
    """Return the smallest value at which the cumulated weight share reaches ``probability``."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order]) / np.sum(weights)
    index = min(int(np.searchsorted(share, probability)), len(values) - 1)
    return float(values[order][index])


def fit_interval(
    log_ratio: np.ndarray, configuration: np.ndarray, *, level: float = LEVEL
) -> tuple[float, float]:
    """Return (low, high) quantiles of log(actual / predicted), every configuration counted once.

    Counting each row 1/n of its configuration is the mean over all ways to draw one row per configuration. The
    finite-sample step of split conformal widens the level to that of n + 1 exchangeable draws.
    """
    _, member, per = np.unique(configuration, return_inverse=True, return_counts=True)
    weights = 1.0 / per[member]
    n = len(per)
    tail = (1.0 - level) / 2.0
    outer = min(1.0, (1.0 - tail) * (n + 1.0) / n)
    return weighted_quantile(log_ratio, weights, 1.0 - outer), weighted_quantile(log_ratio, weights, outer)


def measure_coverage(
    log_ratio: np.ndarray, configuration: np.ndarray, *, level: float = LEVEL, repeats: int = 40
) -> float:
    """Return the mean coverage on one half of the configurations of intervals made on the other half."""
    names, member, per = np.unique(configuration, return_inverse=True, return_counts=True)
    random = np.random.default_rng(20261124)
    covered = []
    for _ in range(repeats):
        order = random.permutation(len(names))
        calibrating = np.isin(member, order[: len(names) // 2])
        low, high = fit_interval(log_ratio[calibrating], configuration[calibrating], level=level)
        held = ~calibrating
        inside = (log_ratio[held] >= low) & (log_ratio[held] <= high)
        weights = 1.0 / per[member[held]]
        covered.append(float(np.sum(weights * inside) / np.sum(weights)))
    return float(np.mean(covered))


def build_intervals(samples: dict[str, tuple[np.ndarray, np.ndarray]], phase: str) -> dict[str, TierInterval]:
    """Return ``"<phase>/<tier>"`` -> interval for one phase, or class of a phase, from tier -> (log ratios, configurations).

    A tier is never narrower than the one nearer to data: less support cannot make a prediction surer.
    """
    result: dict[str, TierInterval] = {}
    for position, tier in enumerate(TIERS):
        for candidate in TIERS[position:]:
            ratios, configurations = samples[candidate]
            if len(np.unique(configurations)) >= FEWEST_CONFIGURATIONS:
                break
        n = len(np.unique(samples[tier][1]))
        if len(np.unique(configurations)) < FEWEST_CONFIGURATIONS:
            # No wider tier has the data either: what the nearer one says is the least that holds.
            nearer = result[f"{phase}/{TIERS[position - 1]}"]
            result[f"{phase}/{tier}"] = TierInterval(nearer.low, nearer.high, n, nearer.coverage)
            continue
        low, high = fit_interval(ratios, configurations)
        coverage = measure_coverage(ratios, configurations)
        interval = TierInterval(float(np.exp(low)), float(np.exp(high)), n, coverage)
        if position:
            nearer = result[f"{phase}/{TIERS[position - 1]}"]
            interval = TierInterval(
                min(interval.low, nearer.low), max(interval.high, nearer.high), n, coverage
            )
        result[f"{phase}/{tier}"] = interval
    return result


def class_programs(log_ratio: np.ndarray, configuration: np.ndarray, program: np.ndarray) -> dict[str, str]:
    """Return program -> class of spread, from out-of-sample residuals.

    A program's spread is the 80 % quantile of its absolute residuals, shrunk towards that of all programs; programs
    in order of spread are cut into at most five classes of about as many configurations.
    """
    _, member, per = np.unique(configuration, return_inverse=True, return_counts=True)
    weight = 1.0 / per[member]
    overall = weighted_quantile(np.abs(log_ratio), weight, 0.8)
    spread, count = {}, {}
    for name in np.unique(program):
        rows = program == name
        count[str(name)] = n = float(weight[rows].sum())
        own = weighted_quantile(np.abs(log_ratio[rows]), weight[rows], 0.8)
        spread[str(name)] = float(np.exp((n * np.log(own + 1e-6) + POOLED * np.log(overall)) / (n + POOLED)))
    total = sum(count.values())
    parts = int(min(len(CLASSES), max(1, total // FEWEST_IN_CLASS)))
    names = CLASSES[-parts:]
    found, passed = {}, 0.0
    for name in sorted(spread, key=spread.__getitem__):
        # By the middle of its own configurations: a large program does not drag its neighbours along.
        place = int(min(parts - 1, (passed + 0.5 * count[name]) / total * parts))
        found[name] = names[place]
        passed += count[name]
    return found
