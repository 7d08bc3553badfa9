"""Tokens of a square picture, against the processors' own rules written out for one picture."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from willitrun.kernels.activations import image_encoder_peak
from willitrun.kernels.image_tokens import anyres_tokens, resized_side, row_broken_tokens, square_tiles

SIDES = st.integers(16, 9000)


@given(SIDES, st.sampled_from([28, 32]), st.sampled_from([(4, 16384), (64, 16384), (8, 6144)]))
def test_a_resize_keeps_the_pixels_within_bounds(side: int, cell: int, bounds: tuple[int, int]) -> None:
    least, most = (count * cell * cell for count in bounds)
    resized = round(side / cell) * cell
    if resized**2 > most:
        resized = max(cell, math.floor(math.sqrt(most) / cell + 1e-9) * cell)
    elif resized**2 < least:
        resized = math.ceil(math.sqrt(least) / cell - 1e-9) * cell
    assert resized_side(side, cell, least=bounds[0], most=bounds[1]).item() == resized // cell


@given(SIDES)
def test_tiles_are_the_last_square_grid_that_is_not_twice_too_large(side: int) -> None:
    grid = 1
    for count in (2, 3):
        if side * side > 0.5 * 448 * 448 * count * count:
            grid = count
    assert square_tiles(side, 448, most=12).item() == grid * grid + (grid > 1)


@given(SIDES)
def test_more_pixels_are_never_fewer_tokens(side: int) -> None:
    for rule in (
        lambda pixels: resized_side(pixels, 28, least=4, most=16384),
        lambda pixels: row_broken_tokens(pixels, 28, longest=1540),
        lambda pixels: square_tiles(pixels, 448, most=12),
        lambda pixels: anyres_tokens(pixels, 336, 14),
    ):
        assert rule(side).item() <= rule(side + 64).item()


def test_image_encoders_hold_what_pytorch_was_counted_to_hold() -> None:
    # accuracy/memory/torch_truth.py: SigLIP exact, Qwen2.5-VL 52.0 MiB.
    siglip = image_encoder_peak(1024, images=2, hidden=768, held_width=6144, heads=12).item()
    assert siglip == 36 * 2**20
    plain = image_encoder_peak(1024, images=1, hidden=768, held_width=6144, heads=12, fused_attention=False)
    assert plain.item() - siglip // 2 == 12 * 1024 * 1024 * 6
