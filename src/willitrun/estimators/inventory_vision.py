"""Parameters of the image encoders of vision-language models, from their own config fields."""

from __future__ import annotations

from willitrun.frozen import frozen
from willitrun.records.models import VisionTower

__all__ = ["tower_copies", "tower_width", "vision_parameters"]


@frozen
class _Tower:
    """How an image encoder differs from a plain ViT.

    ``matrices`` of the feed-forward block; ``frames`` in one patch; ``mergers`` that fold
    ``spatial_merge_size`` squared patches into a token (one at the end, others after inner layers);
    ``positions``: rows of the position table, 0 for rotary, -1 for one per patch of the training image;
    ``projector``: ``linear`` or ``two`` matrices to the text width where there is no merger.
    """

    matrices: int = 2
    biases: bool = True
    frames: int = 1
    mergers: int = 0
    positions: int = 0
    projector: str = ""


_QWEN = _Tower(frames=2, mergers=1)
_TOWERS: dict[str, _Tower] = {
    **dict.fromkeys(
        ("qwen3_vl", "qwen3_vl_moe", "qwen3_vl_vision"), _Tower(frames=2, mergers=4, positions=2304)
    ),
    **dict.fromkeys(
        ("qwen3_5", "qwen3_5_moe", "qwen3_5_vision"), _Tower(frames=2, mergers=1, positions=2304)
    ),
    "qwen2_vl": _QWEN,
    **dict.fromkeys(("qwen2_5_vl", "qwen2_5_vl_vision"), _Tower(matrices=3, frames=2, mergers=1)),
    "siglip_vision_model": _Tower(positions=-1, projector="linear"),
    "gemma4_vision": _Tower(matrices=3, biases=False, positions=20480, projector="linear"),
    "pixtral": _Tower(matrices=3, biases=False, projector="two"),
}


def vision_parameters(tower: VisionTower, text_width: int) -> int | None:
    """Weights of an image encoder with its projector [elements]; None where its kind is not known.

    Published if the record gives ``parameters``, else counted matrix by matrix (met to 0.3 % on Qwen2-VL,
    Qwen2.5-VL, Qwen3-VL, Gemma 3 and 4, Mistral Small 3.1).

    Examples
    --------
    >>> qwen3_vl_8b = VisionTower(model_type="qwen3_vl", hidden_size=1152, num_hidden_layers=27,
    ...     intermediate_size=4304, patch_size=16, spatial_merge_size=2)
    >>> vision_parameters(qwen3_vl_8b, 4096)
    576388336
    """
    if tower.parameters:
        return tower.parameters
    kind = _TOWERS.get(tower.model_type or "")
    width, depth, inner = tower.hidden_size, tower.num_hidden_layers, tower.intermediate_size
    patch = tower.patch_size
    if kind is None or width is None or depth is None or inner is None or patch is None:
        return None
    block = 4 * width * width + kind.matrices * width * inner + 2 * width
    if kind.biases:
        block += 4 * width + (kind.matrices - 1) * inner + width + 2 * width
    total = depth * block + kind.frames * 3 * patch * patch * width + (width if kind.biases else 0)
    rows = kind.positions
    if rows < 0:
        rows = ((tower.image_size or 0) // patch) ** 2
    total += rows * width
    folded = width * (tower.spatial_merge_size or 2) ** 2
    for number in range(kind.mergers):
        # The last merger normalises patches, the inner ones normalise what they have folded.
        total += folded * folded + folded + folded * text_width + text_width
        total += 2 * (width if number == 0 else folded)
    if kind.projector:
        total += width * text_width
    if kind.projector == "two":
        total += text_width * text_width + (folded * width if tower.spatial_merge_size else 0)
    return total


# Elements that live at once for one patch, in feed-forward widths: CLIP's `quick_gelu` keeps a third copy.
_HELD = {"clip_vision_model": 3, "qwen2_5_vl": 3, "qwen2_5_vl_vision": 3, "pixtral": 3, "gemma4_vision": 3}
# ... and in hidden widths while attention runs. Rotary positions of Qwen, GLM and Pixtral are turned in float32,
# and Qwen3-VL keeps what it hands to inner layers. Counted in PyTorch (accuracy/memory/torch_truth.py).
_ROTARY = {
    **dict.fromkeys(("qwen2_vl", "qwen2_vl_vision", "qwen2_5_vl", "qwen2_5_vl_vision", "glm4v_vision"), 17),
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe", "qwen3_vl_vision"), 21),
    **dict.fromkeys(("qwen3_5", "qwen3_5_moe", "qwen3_5_vision", "qwen3_5_moe_vision"), 21),
    **dict.fromkeys(("pixtral", "gemma4_vision"), 16),
}
# GLM-4V's `intermediate_size` is its merger's; the blocks are as wide as the usual.
_OTHERS_WIDTH = ("glm4v_vision",)


def tower_width(tower: VisionTower) -> int:
    """Elements that the feed-forward block of an image encoder holds for one patch at once; 0 where not known.

    Two widths without a gate, three with one. Where the config gives no width, the usual four times the hidden
    size (a gate with two thirds of that holds as much).
    """
    kind = tower.model_type or ""
    if tower.intermediate_size is None or kind in _OTHERS_WIDTH:
        return 8 * (tower.hidden_size or 0)
    return _HELD.get(kind, 2) * tower.intermediate_size


def tower_copies(tower: VisionTower) -> int:
    """Hidden widths that an image encoder's attention holds for one patch at once under PyTorch."""
    return _ROTARY.get(tower.model_type or "", 6)
