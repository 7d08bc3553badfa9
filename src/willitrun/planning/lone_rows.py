"""Rows of a sweep that have no columns of their own (training, pipelines, gaps in the facts): judged as requests."""

from __future__ import annotations

from collections.abc import Sequence

from willitrun.estimators.evaluation import evaluate
from willitrun.estimators.requests import Request
from willitrun.kernels.placement import TIERS
from willitrun.kernels.reason_codes import FIT_REASONS
from willitrun.planning.anchors import EVIDENCE
from willitrun.planning.sheets import ALL_BOUNDS, RATES, Sheet

__all__ = ["store_alone"]

_BYTES = ("weights_bytes", "kv_cache_bytes", "activation_bytes", "overhead_bytes", "host_bytes")


def store_alone(requests: Sequence[Request], places: Sequence[tuple[int, int]], sheet: Sheet) -> None:
    """Evaluate requests of one task and write each into its place (line, load) of the sheet."""
    out = sheet.out
    for row, found in zip(places, evaluate(requests), strict=True):
        out["tier"][row] = TIERS.index(found.tier)
        code = found.request.blockers[0].code if found.request.blockers else ""
        if found.tier == "unknown":
            code = found.reasons[0].code
        out["blocked_by"][row] = sheet.blocked_code(code)
        memory, speed = found.memory_estimate(), found.speed_estimate()
        if memory is not None:
            for name in _BYTES:
                out[name][row] = round(getattr(memory, name).best)
            for suffix, bound in (("", "best"), ("_low", "low"), ("_high", "high")):
                out[f"total_bytes{suffix}"][row] = round(getattr(memory.total_bytes, bound))
            out["available_bytes"][row] = sum(device.available_bytes or 0 for device in memory.per_device)
        # Where something else stands in the way, the memory's own word is among its numbers.
        fits = (str(reason.numbers.get("fit", reason.code)) for reason in found.reasons)
        fit = next((code for code in fits if code in FIT_REASONS), None)
        if fit is not None:
            out["fit_reason"][row] = FIT_REASONS.index(fit)
        if speed is None or found.tier == "will-not-run":
            continue
        out["evidence"][row] = EVIDENCE.index(speed.evidence)
        out["bound"][row] = ALL_BOUNDS.index(speed.bound or "")
        for name in RATES:
            value = getattr(speed, name)
            if value is not None:
                out[name][row] = value.best
                out[f"{name}_low"][row], out[f"{name}_high"][row] = value.low, value.high
