"""The image encoder of a vision-language config."""

from __future__ import annotations

from collections.abc import Mapping

from willitrun.checkpoints.config_fields import ConfigFields
from willitrun.checkpoints.json_reading import shown
from willitrun.errors import CorruptCheckpointError
from willitrun.records.models import VisionTower

__all__ = ["count_parameters", "read_tower"]

# Matrices of the feed-forward block: two, or three where it is gated. Modelling code of
# https://github.com/huggingface/transformers (v5.23.0).
_FEED_FORWARD_MATRICES = {
    **dict.fromkeys(("siglip_vision_model", "clip_vision_model", "idefics3_vision", "smolvlm_vision"), 2),
    **dict.fromkeys(("qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "intern_vit_6b"), 2),
    **dict.fromkeys(("internvl_vision", "llama4_vision_model"), 2),
    **dict.fromkeys(("qwen2_5_vl", "pixtral"), 3),
}
# Qwen folds two video frames into one patch.
_FRAMES_PER_PATCH = dict.fromkeys(
    ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), 2
)


def read_tower(config: object, what: str) -> VisionTower:
    """Read a ``vision_config``; what it does not state stays unknown.

    Raises
    ------
    CorruptCheckpointError
        A value of the wrong kind.
    """
    if not isinstance(config, Mapping):
        raise CorruptCheckpointError(f"{what} is {shown(config)}; an object is expected.")
    fields = ConfigFields(config, what=what)
    # Qwen2-VL: hidden_size is the language model's width, embed_dim the tower's own.
    hidden = fields.positive("embed_dim") or fields.positive("hidden_size") or fields.positive("width")
    # Kimi-K2.5 prefixes the tower's own fields.
    hidden = hidden or fields.positive("vt_hidden_size")
    ratio = fields.ratio("mlp_ratio")
    width = fields.positive("intermediate_size") or fields.positive("vt_intermediate_size")
    if width is None and ratio is not None and hidden is not None and ratio <= 64:
        width = int(ratio * hidden)
    tower = VisionTower(
        model_type=fields.word("model_type"),
        hidden_size=hidden,
        num_hidden_layers=fields.positive("num_hidden_layers")
        or fields.positive("depth")
        or fields.positive("layers")
        or fields.positive("vt_num_hidden_layers"),
        num_attention_heads=fields.positive("num_attention_heads")
        or fields.positive("num_heads")
        or fields.positive("heads")
        or fields.positive("vt_num_attention_heads"),
        intermediate_size=width,
        patch_size=fields.side("patch_size") or fields.side("spatial_patch_size"),
        image_size=fields.side("image_size"),
        spatial_merge_size=fields.positive("spatial_merge_size"),
        tokens_per_image=fields.positive("mm_tokens_per_image"),
    )
    return tower.model_copy(update={"parameters": count_parameters(tower)})


def count_parameters(tower: VisionTower) -> int | None:
    """Weights of a vision transformer [elements]; None for towers whose block is not known.

    ``layers x (4 h^2 + m h i + biases and norms) + patches + positions`` with width h, feed-forward width i and
    m matrices in the feed-forward block. The projector into the language model is not counted: it is 0.1 to 10 %
    of the tower.

    Examples
    --------
    >>> tower = VisionTower(model_type="siglip_vision_model", hidden_size=1152, num_hidden_layers=27,
    ...     intermediate_size=4304, patch_size=14, image_size=896)
    >>> count_parameters(tower)
    416866032
    """
    matrices = _FEED_FORWARD_MATRICES.get(tower.model_type or "")
    sizes = (tower.hidden_size, tower.num_hidden_layers, tower.intermediate_size, tower.patch_size)
    if matrices is None or not all(sizes):
        return None
    hidden, layers, width, patch = (int(size or 0) for size in sizes)
    # Projections with biases, two norms of two vectors; the feed-forward block with biases.
    block = 4 * hidden * hidden + matrices * hidden * width + 9 * hidden + (matrices - 1) * width
    frames = _FRAMES_PER_PATCH.get(tower.model_type or "", 1)
    positions = (tower.image_size // patch) ** 2 * hidden if tower.image_size else 0
    return layers * block + frames * 3 * patch * patch * hidden + hidden + positions + 2 * hidden
