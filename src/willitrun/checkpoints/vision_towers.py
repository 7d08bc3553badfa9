"""The image encoder of a vision-language config."""

from __future__ import annotations

from collections.abc import Mapping

from willitrun.checkpoints.config_fields import ConfigFields
from willitrun.checkpoints.json_reading import shown
from willitrun.errors import CorruptCheckpointError
from willitrun.records.models import VisionTower

__all__ = ["read_tower"]


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
    ratio = fields.ratio("mlp_ratio")
    width = fields.positive("intermediate_size")
    if width is None and ratio is not None and hidden is not None and ratio <= 64:
        width = int(ratio * hidden)
    return VisionTower(
        model_type=fields.word("model_type"),
        hidden_size=hidden,
        num_hidden_layers=fields.positive("num_hidden_layers")
        or fields.positive("depth")
        or fields.positive("layers"),
        num_attention_heads=fields.positive("num_attention_heads")
        or fields.positive("num_heads")
        or fields.positive("heads"),
        intermediate_size=width,
        patch_size=fields.side("patch_size") or fields.side("spatial_patch_size"),
        image_size=fields.side("image_size"),
        spatial_merge_size=fields.positive("spatial_merge_size"),
        tokens_per_image=fields.positive("mm_tokens_per_image"),
    )
