"""Image classifiers of ``config.json``: timm's own configs, and Hugging Face ones known by their shape.

Shapes as in ``configuration_<model_type>.py`` of https://github.com/huggingface/transformers (v5.23.0) and
the constructors in ``timm/models`` of https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from willitrun.checkpoints.config_fields import ConfigFields
from willitrun.errors import CorruptCheckpointError, UnsupportedArchitectureError
from willitrun.records.models import VisionConfig

__all__ = ["is_vision", "read_vision_config"]

_WIDTHS = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}
_RESNETS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (2, 2, 2, 2)): "resnet26",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
_CONVNEXTS: dict[tuple[tuple[int, ...], tuple[int, ...]], str] = {
    ((96, 192, 384, 768), (3, 3, 9, 3)): "tiny",
    ((96, 192, 384, 768), (3, 3, 27, 3)): "small",
    ((128, 256, 512, 1024), (3, 3, 27, 3)): "base",
    ((192, 384, 768, 1536), (3, 3, 27, 3)): "large",
    ((256, 512, 1024, 2048), (3, 3, 27, 3)): "xlarge",
}
_CONVNEXTV2: dict[tuple[tuple[int, ...], tuple[int, ...]], str] = {
    ((40, 80, 160, 320), (2, 2, 6, 2)): "atto",
    ((48, 96, 192, 384), (2, 2, 6, 2)): "femto",
    ((64, 128, 256, 512), (2, 2, 6, 2)): "pico",
    ((80, 160, 320, 640), (2, 2, 8, 2)): "nano",
    ((96, 192, 384, 768), (3, 3, 9, 3)): "tiny",
    ((128, 256, 512, 1024), (3, 3, 27, 3)): "base",
    ((192, 384, 768, 1536), (3, 3, 27, 3)): "large",
    ((352, 704, 1408, 2816), (3, 3, 27, 3)): "huge",
}
_SWINS: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "tiny",
    (96, (2, 2, 18, 2)): "small",
    (128, (2, 2, 18, 2)): "base",
    (192, (2, 2, 18, 2)): "large",
}
# (width_coefficient, depth_coefficient) of EfficientNet B0 to B7.
_EFFICIENTNETS = {
    (1.0, 1.0): "b0",
    (1.0, 1.1): "b1",
    (1.1, 1.2): "b2",
    (1.2, 1.4): "b3",
    (1.4, 1.8): "b4",
    (1.6, 2.2): "b5",
    (1.8, 2.6): "b6",
    (2.0, 3.1): "b7",
}
_FAMILIES = frozenset({"vit", "deit", "resnet", "convnext", "convnextv2", "swin", "efficientnet", "dinov2"})
_NAME = re.compile(r"^[a-z0-9][a-z0-9_]{1,99}$")
# What the class takes where config.json is silent.
_DEFAULTS: dict[str, dict[str, object]] = {
    "vit": {"hidden_size": 768, "num_hidden_layers": 12, "patch_size": 16, "image_size": 224},
    "deit": {"hidden_size": 768, "num_hidden_layers": 12, "patch_size": 16, "image_size": 224},
    "dinov2": {"hidden_size": 768, "num_hidden_layers": 12, "patch_size": 14, "image_size": 224},
    "resnet": {"layer_type": "bottleneck", "depths": [3, 4, 6, 3], "image_size": 224},
    "convnext": {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3], "image_size": 224},
    "convnextv2": {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3], "image_size": 224},
    "swin": {"embed_dim": 96, "depths": [2, 2, 6, 2], "window_size": 7, "patch_size": 4, "image_size": 224},
    "efficientnet": {"width_coefficient": 2.0, "depth_coefficient": 3.1, "image_size": 600},
}


def is_vision(config: Mapping[str, object]) -> bool:
    """Whether a config describes an image model that is not a language model too."""
    if isinstance(config.get("architecture"), str) and "hidden_size" not in config:
        return True
    model_type = config.get("model_type")
    return isinstance(model_type, str) and (model_type in _FAMILIES or model_type == "timm_wrapper")


def read_vision_config(config: Mapping[str, object], what: str) -> VisionConfig:
    """Read the config of an image classifier.

    Raises
    ------
    UnsupportedArchitectureError
        A shape that no known network has.
    CorruptCheckpointError
        A value of the wrong kind.
    """
    if isinstance(config.get("architecture"), str):
        return _timm(config, what)
    family = str(config.get("model_type"))
    fields = ConfigFields(config, _DEFAULTS.get(family), what)
    side = fields.side("image_size") or 224
    architecture = _architecture(family, fields, side)
    if architecture is None:
        raise UnsupportedArchitectureError(
            f"{what}: no known {family} has this shape.",
            hint="Name the timm architecture in the key 'architecture'.",
        )
    labels = fields.block("id2label")
    classes = len(labels) if labels else fields.positive("num_labels")
    return VisionConfig(architecture=architecture, image_size=side, num_classes=classes)


def _timm(config: Mapping[str, object], what: str) -> VisionConfig:
    fields = ConfigFields(config, what=what)
    name = fields.word("architecture") or ""
    if not _NAME.match(name):
        raise CorruptCheckpointError(f"{what}: {name!r} is no architecture name.")
    pretrained = fields.block("pretrained_cfg") or {}
    inner = ConfigFields(pretrained, what=f"{what}: pretrained_cfg")
    size = inner.items("input_size")
    if size is None:
        side = fields.side("image_size")
    else:
        side = ConfigFields({"input_size": list(size)}, what=inner.what).side("input_size")
    if side is None:
        raise CorruptCheckpointError(f"{what} does not give pretrained_cfg.input_size.", code="missing-key")
    classes = fields.positive("num_classes") or inner.positive("num_classes")
    return VisionConfig(architecture=name, image_size=side, num_classes=classes)


def _architecture(family: str, fields: ConfigFields, side: int) -> str | None:
    if family in ("vit", "deit", "dinov2"):
        size = _WIDTHS.get(fields.required("hidden_size"))
        depth = {"tiny": 12, "small": 12, "base": 12, "large": 24, "huge": 32}.get(size or "")
        if size is None or depth != fields.required("num_hidden_layers"):
            return None
        patch = fields.side("patch_size")
        if family == "dinov2":
            return f"vit_{size}_patch{patch}_dinov2"
        return f"{family}_{size}_patch{patch}_{side}"
    if family == "resnet":
        return _RESNETS.get((str(fields.word("layer_type")), _numbers(fields, "depths")))
    if family in ("convnext", "convnextv2"):
        table = _CONVNEXTS if family == "convnext" else _CONVNEXTV2
        size = table.get((_numbers(fields, "hidden_sizes"), _numbers(fields, "depths")))
        return f"{family}_{size}" if size else None
    if family == "swin":
        size = _SWINS.get((fields.required("embed_dim"), _numbers(fields, "depths")))
        window, patch = fields.required("window_size"), fields.side("patch_size")
        return f"swin_{size}_patch{patch}_window{window}_{side}" if size else None
    if family == "efficientnet":
        scale = (fields.ratio("width_coefficient") or 0.0, fields.ratio("depth_coefficient") or 0.0)
        size = _EFFICIENTNETS.get(scale)
        return f"efficientnet_{size}" if size else None
    return None


def _numbers(fields: ConfigFields, name: str) -> tuple[int, ...]:
    items = fields.items(name) or ()
    if not all(type(item) is int for item in items):
        raise CorruptCheckpointError(f"{fields.what}: {name} holds something that is no whole number.")
    return tuple(item for item in items if type(item) is int)
