"""The columns of a sweep's results, and how a block of rows is written into them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.llm_block import LlmBlock
from willitrun.kernels.llm_runtime import RuntimePolicy
from willitrun.kernels.llm_speed import BOUNDS
from willitrun.kernels.placement import TIERS, WILL_NOT_RUN
from willitrun.kernels.reason_codes import DOMINANCE_REASONS, FIT_REASONS
from willitrun.kernels.scores import texts_per_s
from willitrun.kernels.splits import sum_devices
from willitrun.planning.anchors import EVIDENCE, AnchorColumns

__all__ = [
    "ALL_BOUNDS",
    "BYTES",
    "GRAPH_RATES",
    "LANGUAGE_RATES",
    "RATES",
    "Sheet",
    "Tile",
    "factors_of_load",
    "tasks_of",
]

FloatArray = NDArray[np.float64]

ALL_BOUNDS = ("", *BOUNDS, "input", "disk")
BYTES = ("weights_bytes", "kv_cache_bytes", "state_bytes", "activation_bytes", "overhead_bytes", "total_bytes",
         "total_bytes_low", "total_bytes_high", "host_bytes", "available_bytes")  # fmt: skip
RATES = ("decode_tokens_per_s", "throughput_tokens_per_s", "prefill_tokens_per_s", "time_to_first_token_s",
         "images_per_s", "samples_per_s", "real_time_factor")  # fmt: skip
LANGUAGE_RATES = RATES[:4]
GRAPH_RATES = ("images_per_s",)


def tasks_of(policy: RuntimePolicy) -> tuple[str, ...]:
    """Tasks of the calibration whose factors a program's rows need."""
    return ("decode", "prefill", "ttft", "tpot") if policy.interference else ("decode", "prefill", "ttft")


def factors_of_load(factors: dict[str, FloatArray], concurrency: NDArray[np.int64]) -> dict[str, FloatArray]:
    """Low and high factors of output, prefill and the wait for the first token, out of those by task, shape (..., 2).

    With one sequence nobody stands in a queue: the first token waits for a prefill, and is as sure as one.
    """
    several = (concurrency > 1)[..., None]
    decode, prefill, crowded = factors["decode"], factors["prefill"], factors.get("tpot")
    return {
        "prefill": prefill,
        "output": decode if crowded is None else np.where(several, crowded, decode),
        "wait": np.where(several, factors["ttft"], prefill),
    }


@frozen
class Tile:
    """A rectangle of the sheet: some pairs of a model and a machine, and a stretch of the loads."""

    pairs: NDArray[np.int64] | slice
    loads: slice

    @classmethod
    def of(cls, pairs: NDArray[np.int64], loads: slice) -> Tile:
        """The tile of ascending pairs; neighbours are a slice, which writes without an index."""
        first, last = int(pairs[0]), int(pairs[-1])
        return cls(slice(first, last + 1) if last - first + 1 == len(pairs) else pairs, loads)


class Sheet:
    """Results of a sweep as matrices of (pairs, loads): row-major, so that a flat view of one is a column."""

    def __init__(
        self, pairs: int, loads: int, blocked: tuple[str, ...], *, rates: tuple[str, ...] = RATES
    ) -> None:
        """``rates`` are those that some row has."""
        shape = (pairs, loads)
        self.blocked = list(blocked)
        """Codes of what stands in the way; those of rows judged alone are added as they come."""
        out: dict[str, NDArray[Any]] = {name: np.zeros(shape, dtype=np.int64) for name in BYTES}
        for name in RATES:
            for suffix in ("", "_low", "_high"):
                if name not in rates:
                    # No row is written: one NaN stands for all.
                    out[name + suffix] = np.broadcast_to(np.nan, shape)
                elif rates is LANGUAGE_RATES:
                    # Every row is.
                    out[name + suffix] = np.empty(shape)
                else:
                    out[name + suffix] = np.full(shape, np.nan)
        out["tier"] = np.full(shape, TIERS.index("unknown"), dtype=np.int8)
        out["bound"] = np.zeros(shape, dtype=np.int8)
        out["evidence"] = np.zeros(shape, dtype=np.int8)
        out["blocked_by"] = np.zeros(shape, dtype=np.int16)
        out["fit_reason"] = np.zeros(shape, dtype=np.int8)
        out["dominance_reason"] = np.zeros(shape, dtype=np.int8)
        self.out = out

    def blocked_code(self, code: str) -> int:
        """Place of a code of what stands in the way, which is added where it is new."""
        if code not in self.blocked:
            self.blocked.append(code)
        return self.blocked.index(code)

    def store_gap(self, line: int, code: str) -> None:
        """A line of which a fact is missing: unknown, whatever the load."""
        self.out["blocked_by"][line] = self.blocked_code(code)
        for name in RATES:
            for suffix in ("", "_low", "_high"):
                values = self.out[name + suffix]
                if values.strides != (0, 0):
                    values[line] = np.nan

    def columns(self) -> dict[str, NDArray[Any]]:
        """The flat columns."""
        n = self.out["tier"].size
        return {
            name: np.broadcast_to(np.nan, n) if values.strides == (0, 0) else values.reshape(-1)
            for name, values in self.out.items()
        }

    def categories(self) -> dict[str, tuple[str, ...]]:
        """Labels of the columns that hold codes."""
        return {
            "tier": TIERS,
            "bound": ALL_BOUNDS,
            "evidence": EVIDENCE,
            "blocked_by": tuple(self.blocked),
            "fit_reason": FIT_REASONS,
            "dominance_reason": DOMINANCE_REASONS,
        }

    def store_fit(
        self,
        tile: Tile,
        block: LlmBlock,
        room: NDArray[np.int64],
        stops: NDArray[np.int16],
        evidence: NDArray[np.int8],
    ) -> NDArray[np.bool_]:
        """Write memory, tier and reasons of a tile; return which of its rows will not run."""
        layout, place, out = block.layout, (tile.pairs, tile.loads), self.out
        for name, values in (
            ("weights_bytes", layout.weights),
            ("kv_cache_bytes", layout.kv_cache),
            ("state_bytes", layout.state),
            ("activation_bytes", layout.activation),
            ("overhead_bytes", layout.overhead),
            ("total_bytes", layout.total),
            ("total_bytes_low", layout.total_low),
            ("total_bytes_high", layout.total_high),
            ("available_bytes", room),
        ):
            out[name][place] = sum_devices(values)
        out["host_bytes"][place] = layout.host
        stopped = stops > 0
        tier = np.where(stopped, np.int8(WILL_NOT_RUN), layout.tier) if stopped.any() else layout.tier
        refused: NDArray[np.bool_] = tier == WILL_NOT_RUN
        out["tier"][place] = tier
        out["fit_reason"][place] = block.fit
        out["dominance_reason"][place] = block.dominance
        out["blocked_by"][place] = stops
        out["bound"][place] = np.where(refused, 0, block.speed.bound + 1)
        out["evidence"][place] = evidence
        return refused

    def store_speed(
        self,
        tile: Tile,
        block: LlmBlock,
        refused: NDArray[np.bool_],
        factors: dict[str, FloatArray],
        near: AnchorColumns,
        *,
        encoder: bool,
    ) -> None:
        """Write the rates of a tile with their intervals.

        ``factors`` are low and high by what they hold for, shape (..., 2), as `factors_of_load` gives them.
        """
        speed = block.speed
        # What does not run has no speed: a factor of NaN says so in one product.
        alive = np.where(refused, np.nan, 1.0)
        of_output, of_prefill, of_wait = factors["output"], factors["prefill"], factors["wait"]
        prefill = speed.prefill_tokens_per_s
        if near.anchored:
            of_output = of_output**near.output_narrowing
            of_prefill, of_wait = of_prefill**near.prefill_narrowing, of_wait**near.prefill_narrowing
            prefill = prefill * near.prefill_factor
        self._store(tile, "prefill_tokens_per_s", prefill, of_prefill, alive)
        if encoder:
            place = (tile.pairs, tile.loads)
            self.out["bound"][place] = np.where(refused, 0, speed.prefill_bound + 1)
            self._store(
                tile, "samples_per_s", texts_per_s(prefill, block.load.prompt_tokens), of_prefill, alive
            )
            return
        rates = {
            "decode_tokens_per_s": speed.decode_tokens_per_s,
            "throughput_tokens_per_s": speed.throughput_tokens_per_s,
        }
        wait = speed.loaded_time_to_first_token_s
        if near.anchored:
            rates = {name: values * near.output_factor for name, values in rates.items()}
            wait = wait / near.prefill_factor
        for name, values in rates.items():
            self._store(tile, name, values, of_output, alive)
        # The factors are those of a rate: a time is longest where the rate is lowest.
        self._store(tile, "time_to_first_token_s", wait, 1.0 / of_wait[..., ::-1], alive)

    def _store(
        self, tile: Tile, name: str, values: FloatArray, factors: FloatArray, alive: FloatArray
    ) -> None:
        place = (tile.pairs, tile.loads)
        best, low, high = (self.out[name + suffix][place] for suffix in ("", "_low", "_high"))
        np.multiply(values, alive, out=best)
        np.multiply(best, factors[..., 0], out=low)
        np.multiply(best, factors[..., 1], out=high)
        if not isinstance(tile.pairs, slice):
            # An index gave copies.
            for suffix, written in (("", best), ("_low", low), ("_high", high)):
                self.out[name + suffix][place] = written
