"""How a box of networks, devices and batches is written into a sweep's sheet."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.estimators.graph_intervals import narrowed
from willitrun.frozen import frozen
from willitrun.kernels.graph_block import GraphBlock
from willitrun.kernels.operators import BOUNDS, waits_for_host
from willitrun.kernels.placement import WILL_NOT_RUN
from willitrun.planning.anchors import EVIDENCE
from willitrun.planning.graph_anchors import GraphAnchors
from willitrun.planning.sheets import ALL_BOUNDS, Sheet

__all__ = ["GraphSpread", "GraphTile", "store_graphs", "store_unknown"]

FloatArray = NDArray[np.float64]
_INPUT = BOUNDS.index("input")
_BOUNDS = np.array([ALL_BOUNDS.index(name) for name in BOUNDS], dtype=np.int8)
_DISK = np.int8(ALL_BOUNDS.index("disk"))
_ESTIMATED = np.int8(EVIDENCE.index("estimated"))


@frozen
class GraphTile:
    """A box of the sheet: some units, lines of each, and loads."""

    shape: tuple[int, int, int]
    index: Any
    turned: bool = False
    """Whether values have loads before lines."""

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        units: NDArray[np.int64],
        lines: NDArray[np.int64],
        loads: NDArray[np.int64],
        *,
        turned: bool = False,
    ) -> GraphTile:
        """The box; what follows at even steps is a slice, which writes without an index."""
        parts = [_span(values) for values in (units, lines, loads)]
        if sum(isinstance(part, slice) for part in parts) < 2:
            return cls(shape, np.ix_(units, lines, loads), turned)
        return cls(shape, tuple(parts), turned)

    def write(self, column: NDArray[Any], values: Any) -> None:
        """Write values that broadcast to the box."""
        found = np.asarray(values)
        column.reshape(self.shape)[self.index] = found.swapaxes(1, 2) if self.turned and found.ndim else found

    def face(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values by unit, line and load in the order of the grid."""
        return values.swapaxes(1, 2) if self.turned else values


def _span(values: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    if len(values) == 1:
        return slice(int(values[0]), int(values[0]) + 1)
    step = int(values[1] - values[0])
    even = step > 0 and bool((np.diff(values) == step).all())
    return slice(int(values[0]), int(values[-1]) + 1, step) if even else values


@frozen(eq=False)
class GraphSpread:
    """Factors of intervals, shape (networks, devices, 2, 2): by whether the host bounds the speed, low and high.

    NaN where nothing of the kind was measured. ``widened`` are those of networks whose work is spread from totals.
    """

    catalog: Catalog
    profile: str
    factors: FloatArray
    widened: FloatArray
    from_totals: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        catalog: Catalog,
        profile: str,
        factors: FloatArray,
        from_totals: NDArray[np.bool_],
    ) -> GraphSpread:
        """Factors as the calibration has them, and as work that is spread from totals widens them."""
        widened = narrowed(catalog, profile, factors, 1.0, from_totals[:, None, None])
        return cls(catalog, profile, factors, widened, from_totals)

    def take(self, down: slice, across: slice) -> GraphSpread:
        """A box of the grid."""
        return GraphSpread(
            self.catalog,
            self.profile,
            self.factors[down, across],
            self.widened[down, across],
            self.from_totals[down],
        )

    def ends(
        self, tile: GraphTile, launch: NDArray[np.bool_], narrowing: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """Low and high factors of rows, as measurements near by narrow them."""
        table = self.widened if narrowing is None else self.factors

        def end(which: int) -> FloatArray:
            other, host = (tile.face(table[:, :, row, which, None]) for row in (0, 1))
            return np.where(launch, host, other)

        low, high = end(0), end(1)
        if narrowing is None:
            return low, high
        totals = self.from_totals[:, None, None]
        found = narrowed(
            self.catalog, self.profile, np.stack((low, high), axis=-1), narrowing[..., None], totals
        )
        return found[..., 0], found[..., 1]


def store_unknown(sheet: Sheet, tile: GraphTile) -> None:
    """Rows of which a fact is missing."""
    tile.write(sheet.out["blocked_by"], sheet.blocked_code("memory-not-modelled"))


def store_graphs(
    sheet: Sheet,
    tile: GraphTile,
    block: GraphBlock,
    *,
    available: NDArray[np.int64],
    overhead: NDArray[np.int64],
    disk: NDArray[np.bool_],
    blocked: NDArray[np.object_],
    spread: GraphSpread,
    anchors: GraphAnchors,
) -> None:
    """Write memory, tier, reasons and speed of a box."""
    out, layout, speed = sheet.out, block.layout, block.speed
    for name, values in (
        ("weights_bytes", block.weights),
        ("activation_bytes", block.activation),
        ("overhead_bytes", overhead),
        ("total_bytes", layout.total[..., 0]),
        ("total_bytes_low", layout.total_low[..., 0]),
        ("total_bytes_high", layout.total_high[..., 0]),
        ("available_bytes", available),
    ):
        tile.write(out[name], values)
    stops = tile.face(_stops(sheet, blocked)[..., None])
    tier = np.where(stops > 0, WILL_NOT_RUN, layout.tier)
    tile.write(out["tier"], tier)
    tile.write(out["fit_reason"], block.fit)
    tile.write(out["blocked_by"], stops)
    launch = waits_for_host(speed)
    shift = anchors.shift(speed, turned=tile.turned)
    low, high = spread.ends(tile, launch, None if shift is None else shift[1])
    # What does not run, and what was never measured, has no speed.
    rate = np.where((tier == WILL_NOT_RUN) | np.isnan(low), np.nan, speed.images_per_s)
    if shift is not None:
        rate = rate * shift[0]
    unknown = np.isnan(rate)
    bound = np.where(disk & (speed.bound == _INPUT), _DISK, _BOUNDS[speed.bound])
    tile.write(out["bound"], np.where(unknown, np.int8(0), bound))
    tile.write(out["evidence"], np.where(unknown, _ESTIMATED, tile.face(anchors.evidence)))
    tile.write(out["images_per_s"], rate)
    tile.write(out["images_per_s_low"], rate * low)
    tile.write(out["images_per_s_high"], rate * high)


def _stops(sheet: Sheet, blocked: NDArray[np.object_]) -> NDArray[np.int16]:
    """Places of codes in the sheet's list."""
    codes = {code: sheet.blocked_code(code) for code in set(blocked.ravel().tolist())}
    if len(codes) == 1:
        return np.full((1,) * blocked.ndim, next(iter(codes.values())), dtype=np.int16)
    return np.array([codes[code] for code in blocked.ravel().tolist()], dtype=np.int16).reshape(blocked.shape)
