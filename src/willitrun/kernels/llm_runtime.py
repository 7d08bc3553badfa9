"""How a block's runtime spends memory and time, how it spreads over devices, and the types of its cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import derived, frozen
from willitrun.kernels.elementwise import as_float, where
from willitrun.kernels.kv_cells import CellsPolicy
from willitrun.kernels.kv_layouts import CellKind, cell_kinds
from willitrun.kernels.splits import LAYER_SPLIT, TENSOR_SPLIT

__all__ = ["CacheKinds", "Parallelism", "RuntimePolicy"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@frozen
class RuntimePolicy:
    """How the block's runtime spends memory and time; one value for all rows.

    ``cache`` is ``cells`` (llama.cpp), ``pages`` (vLLM), ``dynamic`` (transformers) or ``none``.
    ``element_bytes`` of ``block_elements`` elements are the paged or dynamic cache; ``kind_k`` and ``kind_v`` are cell
    types.
    ``output_last`` and ``shares`` are those of `Room`. ``serves`` is true of vLLM and what allocates like it. ``codes`` are level codes of runtime, backend, era and attention, shape (1,).
    """

    cache: str
    kind_k: str
    kind_v: str
    element_bytes: int
    block_elements: int
    n_ubatch: int
    microbatch_tokens: int
    block_tokens: int
    unified: bool
    swa_full: bool
    cells: CellsPolicy
    offload: int
    max_sequences: float
    interference: bool
    static_cache: bool
    slots: int
    output_last: bool
    shares: tuple[float, ...] | None
    serves: bool
    codes: dict[str, IntArray]


@frozen(eq=False)
class Parallelism:
    """Ranks, stages, data groups and expert shards as int64 columns, and the split of memory."""

    tensor: IntArray
    pipeline: IntArray
    data: IntArray
    expert_shards: IntArray
    gpu_layers: IntArray
    cpu_moe_layers: IntArray

    @derived
    def strategy(self) -> IntArray:
        """Which split of memory each row has: `LAYER_SPLIT` or `TENSOR_SPLIT`."""
        return where(self.tensor > 1, TENSOR_SPLIT, LAYER_SPLIT)

    @derived
    def ranks(self) -> dict[str, FloatArray]:
        """The counts as the speed kernel reads them."""
        return {
            name: as_float(getattr(self, name)) for name in ("tensor", "pipeline", "data", "expert_shards")
        }


@frozen(eq=False)
class CacheKinds:
    """Types of keys and values: one for the block, or a column each where rows differ in them and in nothing else.

    ``element_bytes`` of ``block_elements`` elements are paged and dynamic caches, ``state_bytes`` an element of
    the state beside them, which no type of the cache quantizes.
    """

    k: CellKind
    v: CellKind
    element_bytes: IntArray
    block_elements: IntArray
    state_bytes: IntArray

    @classmethod
    def of(cls, policies: Sequence[RuntimePolicy]) -> CacheKinds:
        """The kinds of one policy, or of one per row."""
        sizes = [(policy.element_bytes, policy.block_elements) for policy in policies]
        columns = np.array(sizes[:1] if len(set(sizes)) == 1 else sizes, dtype=np.int64)
        return cls(
            cell_kinds([policy.kind_k for policy in policies]),
            cell_kinds([policy.kind_v for policy in policies]),
            columns[:, 0],
            columns[:, 1],
            where(columns[:, 0] == 4 * columns[:, 1], 4, 2),
        )
