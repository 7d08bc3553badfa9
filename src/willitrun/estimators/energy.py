"""Energy of a unit of work, from the power limits of the boards that do it."""

from __future__ import annotations

from willitrun.estimators.evaluation import Evaluated
from willitrun.intervals import Interval
from willitrun.kernels.costs import energy_per_unit_j, quotient_spread
from willitrun.records.machines import Machine
from willitrun.records.results import SpeedEstimate

__all__ = ["board_limit", "energy_of"]


def board_limit(machine: Machine) -> float | None:
    """Sum of the power limits of a machine's boards [W]: what is set, else the maker's; None where one is unknown."""
    limits = [device.power_limit_w or device.accelerator.tdp for device in machine.accelerators]
    known = [limit for limit in limits if limit is not None]
    return sum(known) if known and len(known) == len(limits) else None


def energy_of(found: Evaluated, speed: SpeedEstimate) -> Interval | None:
    """Energy of a unit of an evaluated request's work [J], where it is known.

    ``limit x share / rate``: boards draw a share of their limit while they work (calibration ``power``). It is
    unknown for processors, for boards without a published limit, and where boards wait for each other.
    """
    rate, machine = _units_per_s(speed), found.request.machine
    if rate is None or machine is None or rate.low <= 0.0 or not _all_work(found, machine):
        return None
    limit = board_limit(machine)
    if limit is None:
        return None
    shares = found.request.catalog.calibrations["power"].coefficients
    share = shares["share_low"], shares["share"], shares["share_high"]
    best = float(energy_per_unit_j(limit * share[1], rate.best))
    low, high = quotient_spread(share, (rate.low, rate.best, rate.high))
    return Interval(best * low, best, best * high, rate.level)


def _all_work(found: Evaluated, machine: Machine) -> bool:
    """Whether every board works all the time: one board, tensor ranks, or replicas."""
    count = len(machine.accelerators)
    if found.request.runtime.backend == "cpu" or found.tier in ("offload", "will-not-run"):
        return False
    placement = found.placement
    return count == 1 or (count > 1 and (placement.tp or 1) * (placement.dp or 1) == count)


def _units_per_s(speed: SpeedEstimate) -> Interval | None:
    """Output tokens, images, texts or seconds of audio per second."""
    for rate in (
        speed.throughput_tokens_per_s,
        speed.images_per_s,
        speed.samples_per_s,
        speed.real_time_factor,
    ):
        if rate is not None:
            return rate
    return None
