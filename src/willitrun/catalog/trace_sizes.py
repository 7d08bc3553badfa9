"""Operator traces at sizes that were not traced, from the sizes that were."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from willitrun.records.traces import OperatorTrace

__all__ = ["fit_trace", "resize_trace"]

# Work that grows with the image; the rest of a trace belongs to the weights.
_PER_PIXEL = ("flops", "padded_flops", "act_elements", "act32_elements", "fused_act_elements")
_WHOLE = ("peak_elements", "peak_autocast_bytes")
_PROPORTIONAL = (0.0, 1.0, 0.0)

Shares = tuple[float, float, float]
"""Parts of a value that stay, that grow with the number of positions, and that grow with its square; they sum to 1."""
Growth = tuple[float, Mapping[str, Mapping[str, Shares]], Mapping[str, Shares]]
"""Ratio asked for, shares by operator kind and column, shares of a trace as a whole."""


def _kind(name: str) -> str:
    return name.partition(".")[0]


def _sums(trace: OperatorTrace) -> dict[str, dict[str, float]]:
    """Work by operator kind: a class says how intense an operator is, which changes with the size."""
    found: dict[str, dict[str, float]] = {}
    for name, columns in trace.classes.items():
        kind = found.setdefault(_kind(name), dict.fromkeys(_PER_PIXEL, 0.0))
        for column in _PER_PIXEL:
            kind[column] += columns.get(column, 0.0)
    return found


def _shares(here: float, there: float, ratio: float) -> Shares:
    """How a value grows between two shapes.

    What grows slower than the positions has a part of its own size (text beside an image); what grows faster has a part
    that pairs positions (attention).
    """
    if here <= 0 or there <= 0:
        return _PROPORTIONAL
    grown = there / here
    if (grown < ratio) == (ratio > 1):
        moving = min(max((grown - 1) / (ratio - 1), 0.0), 1.0)
        return 1.0 - moving, moving, 0.0
    pairing = min(max((grown - ratio) / (ratio**2 - ratio), 0.0), 1.0)
    return 0.0, 1.0 - pairing, pairing


def _times(shares: Shares, ratio: float) -> float:
    return shares[0] + shares[1] * ratio + shares[2] * ratio**2


def _growth(pair: tuple[OperatorTrace, OperatorTrace] | None, axis: Axis, asked: float) -> Growth:
    """How work grows along one axis: learnt from two traces, else in proportion."""
    if pair is None:
        return asked, {}, {}
    one, two = pair
    ratio = axis(two) / axis(one)
    here, there = _sums(one), _sums(two)
    kinds = {
        kind: {column: _shares(here[kind][column], row[column], ratio) for column in _PER_PIXEL}
        for kind, row in there.items()
        if kind in here
    }
    return asked, kinds, {name: _shares(getattr(one, name), getattr(two, name), ratio) for name in _WHOLE}


def _factor(growths: Iterable[Growth], kind: str, column: str) -> float:
    return math.prod(_times(kinds.get(kind, {}).get(column, _PROPORTIONAL), r) for r, kinds, _ in growths)


def _scaled(base: OperatorTrace, growths: Sequence[Growth], image_size: int, frames: int) -> OperatorTrace:
    classes = {
        name: {
            column: value * _factor(growths, _kind(name), column) if column in _PER_PIXEL else value
            for column, value in columns.items()
        }
        for name, columns in base.classes.items()
    }
    whole = {
        name: round(
            getattr(base, name) * math.prod(_times(own.get(name, _PROPORTIONAL), r) for r, _, own in growths)
        )
        for name in _WHOLE
    }
    before, after = (sum(row["flops"] for row in table.values()) for table in (base.classes, classes))
    return base.model_copy(
        update={
            "image_size": image_size,
            "frames": frames,
            "macs": base.macs * after / before if before else base.macs,
            **whole,
            "classes": classes,
            "scaled_from": base.image_size,
        }
    )


def resize_trace(trace: OperatorTrace, image_size: int) -> OperatorTrace:
    """A trace at another image size [pixels], scaled by area; the same trace where the size is its own.

    Exact for convolutions, an approximation for attention, whose cost grows faster. ``scaled_from`` says so.
    """
    if not trace.image_size or image_size == trace.image_size:
        return trace
    area = (image_size / trace.image_size) ** 2
    return _scaled(trace, [(area, {}, {})], image_size, trace.frames)


def fit_trace(traces: Sequence[OperatorTrace], image_size: int, frames: int = 1) -> OperatorTrace:
    """The trace at a size [pixels] and a number of frames, from those of one architecture.

    A shape that was traced is found as it is. Another is scaled from the nearest; along each axis every kind of
    operator grows as it does between two traced shapes: convolutions with the positions, attention in part with their
    square, what belongs to a text not at all. Without such a pair it grows with the area and the latent's frames.
    """
    base = min(traces, key=lambda one: (_distance(one, image_size, frames), -one.image_size))
    if not base.image_size or (base.image_size, base.frames) == (image_size, frames):
        return base
    asked = base.model_copy(update={"image_size": image_size, "frames": frames})
    growths = []
    for axis, other in ((_area, _latent), (_latent, _area)):
        if axis(asked) != axis(base):
            pair = _pair(traces, base, axis, other)
            growths.append(_growth(pair, axis, axis(asked) / axis(base)))
    return _scaled(base, growths, image_size, frames)


Axis = Callable[[OperatorTrace], float]


def _area(trace: OperatorTrace) -> float:
    return float(trace.image_size**2)


def _latent(trace: OperatorTrace) -> float:
    """Frames of the latent, but for a factor: its first stands for one frame, the others for a group."""
    return float(trace.frames + trace.frames_per_latent - 1)


def _distance(trace: OperatorTrace, image_size: int, frames: int) -> float:
    if not trace.image_size or not image_size:
        return 0.0
    return abs(math.log(trace.image_size / image_size)) + abs(math.log(trace.frames / frames))


def _pair(
    traces: Sequence[OperatorTrace], base: OperatorTrace, axis: Axis, other: Axis
) -> tuple[OperatorTrace, OperatorTrace] | None:
    """Two shapes that differ on one axis alone, the first as near to the base as there is."""
    pairs = [
        (one, two) for one in traces for two in traces if other(one) == other(two) and axis(one) != axis(two)
    ]
    return min(
        pairs,
        key=lambda pair: (
            _distance(pair[0], base.image_size, base.frames),
            abs(math.log(axis(pair[1]) / axis(pair[0]))),
        ),
        default=None,
    )
