"""What a picture costs a vision-language model: tokens in the prompt, patches in the image encoder."""

from __future__ import annotations

from functools import cache

from willitrun.frozen import frozen
from willitrun.kernels.image_tokens import (
    anyres_tokens,
    pooled_side,
    resized_side,
    row_broken_tokens,
    square_tiles,
)
from willitrun.records.models import Model, VisionTower
from willitrun.records.recipes import Workload

__all__ = ["ASSUMED_SIDE", "ImageInput", "image_input", "takes_any_size"]

ASSUMED_SIDE = 1024
"""Side of a picture that nobody gives the size of [pixels]. It is stated as an assumption."""

# Bounds of tokens per picture. Qwen2-VL, Qwen2.5-VL: https://github.com/QwenLM/Qwen2.5-VL (4 to 16,384);
# Qwen3-VL and later: preprocessor_config.json of https://huggingface.co/Qwen/Qwen3-VL-8B-Instruct (65,536 to
# 16,777,216 pixels at 32 x 32 a token); GLM-4V: the image processor of transformers v5.24.0 (112^2 pixels to
# 28^2 x 2 x 6144 over two frames).
_QWEN2 = {"least": 4, "most": 16384}
_QWEN3 = {"least": 64, "most": 16384}
_GLM = {"least": 8, "most": 6144}
_RESIZED: dict[str, dict[str, int]] = {
    **dict.fromkeys(("qwen2_vl", "qwen2_vl_vision", "qwen2_5_vl", "qwen2_5_vl_vision"), _QWEN2),
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe", "qwen3_vl_vision"), _QWEN3),
    **dict.fromkeys(("qwen3_5", "qwen3_5_moe", "qwen3_5_vision", "qwen3_5_moe_vision"), _QWEN3),
    "glm4v_vision": _GLM,
}
# Soft tokens and the side of the pool of Gemma 4's image processor; tiles of InternVL's.
_GEMMA4_TOKENS, _GEMMA4_POOL = 280, 3
_INTERNVL_TILES, _INTERNVL_MARKS = 12, 2


@frozen
class ImageInput:
    """One picture: ``tokens`` in the prompt; ``tiles`` of ``patches`` each through the image encoder."""

    tokens: int
    tiles: int
    patches: int


def takes_any_size(tower: VisionTower) -> bool:
    """Whether the picture's own size decides how many tokens it takes."""
    kind = tower.model_type or ""
    cut = kind == "internvl_vision" or (kind == "clip_vision_model" and tower.tokens_per_image is None)
    return kind in _RESIZED or kind == "pixtral" or cut


def image_input(model: Model, load: Workload) -> ImageInput | None:
    """Tokens and patches of one square picture; None where no source says what the model makes of it.

    Examples
    --------
    >>> import willitrun
    >>> image_input(willitrun.describe_model("qwen2.5-vl-7b"), willitrun.Workload(image_size=1024))
    ImageInput(tokens=1369, tiles=1, patches=5476)
    """
    tower = model.transformer.vision if model.transformer is not None else None
    if tower is None:
        return None
    return _image_input(tower, load.image_size or ASSUMED_SIDE)


@cache
def _image_input(tower: VisionTower, side: int) -> ImageInput | None:
    kind, patch, merge = tower.model_type or "", tower.patch_size, tower.spatial_merge_size or 1
    if kind in _RESIZED and patch is not None:
        # GLM-4V and Qwen-VL merge 2 x 2 patches.
        count = resized_side(side, patch * merge, **_RESIZED[kind]).item()
        return ImageInput(count * count, 1, count * count * merge * merge)
    if kind == "pixtral" and patch is not None and tower.image_size is not None:
        tokens = row_broken_tokens(side, patch * merge, longest=tower.image_size).item()
        across = -(-min(side, tower.image_size) // (patch * merge)) * merge
        return ImageInput(tokens, 1, across * across)
    if kind == "gemma4_vision":
        count = pooled_side(_GEMMA4_TOKENS).item()
        return ImageInput(count * count, 1, (count * _GEMMA4_POOL) ** 2)
    if tower.image_size is None or patch is None:
        return None if tower.tokens_per_image is None else ImageInput(tower.tokens_per_image, 1, 0)
    patches = (tower.image_size // patch) ** 2
    if kind == "internvl_vision" and tower.tokens_per_image is not None:
        tiles = square_tiles(side, tower.image_size, most=_INTERNVL_TILES).item()
        return ImageInput(tiles * tower.tokens_per_image + _INTERNVL_MARKS, tiles, patches)
    if tower.tokens_per_image is not None:
        return ImageInput(tower.tokens_per_image, 1, patches)
    if kind == "clip_vision_model":
        tokens = anyres_tokens(side, tower.image_size, patch).item()
        return ImageInput(tokens, 3 if side <= tower.image_size else 5, patches)
    return None
