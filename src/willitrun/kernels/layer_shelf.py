"""What the layers of models hold, as running sums by number, so that columns can name a model.

Layers differ: quantiser mixes give some of them more bits, the first of a mixture may be dense, only some attend or
see the whole context. A placement that puts the first layers on the host, or a run of them on a device, asks for sums.
"""

from __future__ import annotations

from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import derived, frozen
from willitrun.kernels.elementwise import exists, maximum, minimum
from willitrun.kernels.splits import ceil_div, share

__all__ = ["LAYERS", "Layer", "LayerParts", "LayerShelf"]

IntArray = NDArray[np.int64]
Part = Literal["dense", "experts", "full", "windowed", "state"]
PARTS: tuple[Part, ...] = ("dense", "experts", "full", "windowed", "state")

Layer = tuple[int, int, int, int, int]
"""Of one layer: bytes of weights that are no routed experts, bytes of those, elements that it leaves in the cache per
token where it sees the whole context, and where it sees a window, elements of its recurrent state."""


class LayerShelf:
    """Running sums of all models in one row of numbers, which never falls: sums and searches are one call.

    Examples
    --------
    >>> shelf = LayerShelf()
    >>> number = shelf.add(((5, 0, 2, 0, 0), (3, 10, 0, 2, 0)))
    >>> shelf.add(((5, 0, 2, 0, 0), (3, 10, 0, 2, 0))) == number
    True
    >>> int(shelf.first("dense", number, np.int64(1))), int(shelf.first("experts", number, np.int64(2)))
    (5, 10)
    >>> int(shelf.least("experts", np.int64(number), np.int64(1)))
    2
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[Layer, ...], int] = {}
        self._tables: dict[tuple[Part, int], IntArray] = {}
        self._ends: dict[int, int] = {}
        self._sums = {part: np.zeros(1, dtype=np.int64) for part in PARTS}
        self._filled = 1
        self._lock = Lock()

    def add(self, layers: tuple[Layer, ...]) -> int:
        """Number of a model with these layers, the same for equal ones; 0 is none's."""
        with self._lock:
            if layers not in self._numbers:
                start, end = self._filled, self._filled + len(layers) + 1
                values = np.zeros((len(layers) + 1, len(PARTS)), dtype=np.int64)
                values[1:] = layers
                for part, column in zip(PARTS, values.T, strict=True):
                    sums = self._sums[part]
                    if end > len(sums):
                        sums = np.resize(sums, 2 * end)
                    # Beyond what is filled everything is the last sum, so that the row never falls.
                    sums[start:end] = sums[start - 1] + np.cumsum(column)
                    sums[end:] = sums[end - 1]
                    self._sums[part] = sums
                self._numbers[layers], self._ends[start], self._filled = start, end, end
            return self._numbers[layers]

    def first(self, part: Part, numbers: IntArray, count: IntArray) -> IntArray:
        """What the first ``count`` layers hold."""
        if type(count) is np.ndarray and np.size(numbers) == 1:
            return self._table(part, int(np.asarray(numbers).flat[0])).take(count, mode="clip")
        sums = self._sums[part]
        # Places lie on the shelf by construction: without a check they are found in half the time.
        found: IntArray = sums.take(numbers + count, mode="clip") - sums.take(numbers, mode="clip")
        return found

    def _table(self, part: Part, number: int) -> IntArray:
        """Running sums of one model: a sweep goes through the loads of one model at a time."""
        if (part, number) not in self._tables:
            sums = self._sums[part][number : self._ends.get(number, number + 1)]
            self._tables[part, number] = sums - sums[0]
        return self._tables[part, number]

    def least(self, part: Part, numbers: IntArray, amount: IntArray) -> IntArray:
        """The fewest first layers that hold an amount; more than the model has where they don't."""
        sums = self._sums[part]
        found: IntArray = maximum(np.searchsorted(sums, sums[numbers] + amount) - numbers, 0)
        return found


LAYERS = LayerShelf()


@frozen(eq=False)
class LayerParts:
    """What the first layers of the models of some rows hold: as their numbers on `LAYERS` say, or evenly without.

    Counts may have one axis more than the rows: the device, which is the last.
    """

    repeating: IntArray
    experts: IntArray
    n_layers: IntArray
    n_moe_layers: IntArray
    numbers: IntArray | None = None

    def routed(self, count: IntArray) -> IntArray:
        """Experts of the first layers [bytes]; where layers are not known, of the first that have experts."""
        if self.numbers is None:
            return share(self.experts, count, self.n_moe_layers)
        return LAYERS.first("experts", self.numbers, count)

    def holding(self, amount: IntArray) -> IntArray:
        """The fewest first layers whose experts are so many bytes."""
        if self.numbers is None:
            each = ceil_div(self.experts, self.n_moe_layers)
            return minimum(ceil_div(amount, each), self.n_moe_layers)
        return minimum(LAYERS.least("experts", self.numbers, amount), self.n_layers)

    def weights(self, count: IntArray, moved: IntArray) -> IntArray:
        """The first ``count`` layers without the experts of the first ``moved`` [bytes]."""
        if self.numbers is None:
            rest = self.repeating - self.routed(moved)
            return share(_like(rest, count), count, _like(self.n_layers, count))
        numbers = _like(self.numbers, count)
        if not exists(self.experts):
            return LAYERS.first("dense", numbers, count)
        kept = LAYERS.first("experts", numbers, count)
        kept = kept - LAYERS.first("experts", numbers, minimum(count, _like(moved, count)))
        return LAYERS.first("dense", numbers, count) + kept

    def cache(self, kv: IntArray, windowed: IntArray | None, count: IntArray) -> IntArray:
        """Cache of the first layers [bytes]; ``windowed`` of ``kv`` is of layers that see a window."""
        if windowed is None:
            return self._share(None, kv, count)
        if not exists(windowed):
            return self._share("full", kv, count)
        return self._share("full", kv - windowed, count) + self._share("windowed", windowed, count)

    def state(self, whole: IntArray, count: IntArray) -> IntArray:
        """Recurrent state of the first layers [bytes]."""
        return self._share("state", whole, count)

    def _share(self, part: Part | None, whole: IntArray, count: IntArray) -> IntArray:
        whole = _like(whole, count)
        if part is None or self.numbers is None:
            return share(whole, count, _like(self.n_layers, count))
        numbers = _like(self.numbers, count)
        of_all = _like(self._of_all(part, self.numbers), count)
        return share(whole, LAYERS.first(part, numbers, count), of_all)

    def _of_all(self, part: Part, numbers: IntArray) -> IntArray:
        """What all layers hold, asked once."""
        if part not in self._known:
            self._known[part] = LAYERS.first(part, numbers, self.n_layers)
        return self._known[part]

    @derived
    def _known(self) -> dict[Part, IntArray]:
        return {}


def _like(values: IntArray, count: IntArray) -> IntArray:
    """Values of rows with a last axis for devices where counts have one."""
    if type(values) is not np.ndarray or type(count) is not np.ndarray:
        return values
    return values[..., None] if 0 < values.ndim < count.ndim else values
