"""What servers choose by the card, against the code of the releases that choose it."""

from __future__ import annotations

import numpy as np
import pytest

from willitrun.kernels.server_defaults import (
    pool_of_share,
    sglang_default_limits,
    sglang_static_share,
    share_for_pool,
    vllm_default_limits,
)

GIB = 2**30


@pytest.mark.parametrize(
    ("size", "version", "small", "sequences", "tokens"),
    [
        (24, (0, 33), False, 256, 2048),
        (80, (0, 33), False, 1024, 8192),
        (80, (0, 33), True, 256, 2048),  # the A100
        (180, (0, 33), False, 1024, 16384),
        (180, (0, 27), False, 1024, 8192),
        (80, (0, 8), False, 256, 8192),
        (24, (0, 6), False, 256, 16384),  # no chunked prefill: the whole context at once
    ],
)
def test_steps_of_vllm(size: int, version: tuple[int, int], small: bool, sequences: int, tokens: int) -> None:
    found = vllm_default_limits(size * GIB, version=version, context_tokens=16384, small_steps=small)
    assert [limit.item() for limit in found] == [sequences, tokens]


@pytest.mark.parametrize(
    ("size", "tensor", "sequences", "tokens", "reserve_mib"),
    [
        # 512 + 1.5 x tokens + 128 x ranks + 2 x sequences + 8 x captured lengths of a prefill step
        (16, 1, 8, 2048, 512 + 3072 + 128 + 16 + 8 * 42),
        (24, 1, 48, 4096, 512 + 6144 + 128 + 96 + 8 * 50),
        (24, 4, 160, 4096, 512 + 6144 + 512 + 320 + 8 * 50),
        (48, 1, 32, 4096, 512 + 6144 + 128 + 64 + 8 * 50),
        (80, 1, 256, 8192, 512 + 12288 + 128 + 512 + 8 * 58),
        (180, 1, 512, 16384, 512 + 24576 + 128 + 1024 + 8 * 74),
    ],
)
def test_static_share_of_sglang(
    size: int, tensor: int, sequences: int, tokens: int, reserve_mib: int
) -> None:
    limits = sglang_default_limits(size * GIB, tensor=tensor)
    assert [limit.item() for limit in limits] == [sequences, tokens]
    share = sglang_static_share(size * GIB, tensor=tensor)
    assert share.item() == pytest.approx(1 - reserve_mib / (size * 1024), abs=6e-4)


def test_columns_and_numbers_agree() -> None:
    sizes = np.array([16, 24, 48, 80, 141, 180], dtype=np.int64) * GIB
    together = sglang_static_share(sizes)
    assert together.tolist() == [sglang_static_share(size).item() for size in sizes]
    assert vllm_default_limits(sizes, version=(0, 33), context_tokens=0)[1].tolist() == [
        2048,
        2048,
        2048,
        8192,
        8192,
        16384,
    ]


def test_the_least_share_holds_the_pool() -> None:
    for pool in (0, GIB, 5 * GIB):
        parts = {"beside_bytes": GIB // 2, "within_bytes": 15 * GIB}
        share = share_for_pool(24 * GIB, pool_bytes=pool, **parts).item()
        assert pool_of_share(24 * GIB, share=share, **parts) >= pool
        assert pool == 0 or pool_of_share(24 * GIB, share=share - 0.001, **parts) < pool
    assert share_for_pool(24 * GIB, pool_bytes=20 * GIB, beside_bytes=0, within_bytes=15 * GIB) == 1
    assert pool_of_share(24 * GIB, share=0.5, beside_bytes=0, within_bytes=15 * GIB) == 0
