"""Write the operator traces of torchvision's models to ``catalogs/traces``: those that the catalog lists without one.

Usage: ``python -m accuracy.vision.trace_torchvision [--out catalogs/traces]``

Needs torch and torchvision (any build: its compiled operators are not called). Of detectors the networks are traced:
backbone and heads, with as many regions as torchvision keeps at most. What depends on the picture (selecting boxes,
suppressing overlapping ones, reading regions) is not.
"""

from __future__ import annotations

import argparse
import inspect
import warnings
from pathlib import Path
from typing import Any

from accuracy.vision.trace_tables import TRACES, class_rows, counts, write_table
from accuracy.vision.trace_timm import CLASS_COLUMNS, MODEL_COLUMNS, stand_in_for_torchvision
from willitrun import load_catalog

PREFIX = "torchvision/"


def listed_models() -> dict[str, int]:
    """Torchvision's name of every catalog model that has one and no timm architecture, with its image size [pixels]."""
    found = {}
    for model in load_catalog().models.values():
        names = [alias.removeprefix(PREFIX) for alias in model.aliases if alias.startswith(PREFIX)]
        vision = model.vision
        if names and vision is not None and vision.architecture in (None, trace_name(names[0])):
            found[names[0]] = vision.image_size
    return found


def trace_name(name: str) -> str:
    """Name of the trace of a torchvision model; timm has some of the same names for other networks.

    >>> trace_name("inception_v3")
    'tv_inception_v3'
    """
    return f"tv_{name}"


def build(name: str, size: int) -> Any:
    """Build a model without weights on the meta device, detectors as their networks without the selection of boxes."""
    import torch
    from torchvision.models import get_model, get_model_builder

    known = inspect.signature(get_model_builder(name)).parameters
    extra: dict[str, Any] = {"weights": None}
    if "weights_backbone" in known:
        extra["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        extra |= {"aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        extra["image_size"] = size
    try:
        with torch.device("meta"):
            model = get_model(name, **extra).eval()
    except NotImplementedError:  # its constructor computes with values, which meta tensors lack
        model = get_model(name, **extra).eval().to("meta")
    return dense_part(model) if hasattr(model, "backbone") and not hasattr(model, "classifier") else model


def dense_part(model: Any) -> Any:
    """The networks of a detector: what runs whatever is in the picture, and as many regions as are kept at most."""
    import torch

    class Networks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detector = model

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            maps = self.detector.backbone(images)
            maps = list(maps.values()) if isinstance(maps, dict) else [maps]
            if not hasattr(self.detector, "rpn"):
                return list(self.detector.head(maps).values())
            kept = self.detector.rpn.head(maps)[0]
            heads = self.detector.roi_heads
            regions = self.detector.rpn.post_nms_top_n()
            channels = maps[0].shape[1]

            def read_regions(count: int, pool: Any) -> torch.Tensor:
                return images.new_empty(count, channels, *pool.output_size)

            boxes = heads.box_head(read_regions(regions, heads.box_roi_pool))
            kept += list(heads.box_predictor(boxes))
            for part in ("mask", "keypoint"):
                if getattr(heads, f"has_{part}")():
                    found = read_regions(heads.detections_per_img, getattr(heads, f"{part}_roi_pool"))
                    kept.append(getattr(heads, f"{part}_predictor")(getattr(heads, f"{part}_head")(found)))
            return kept

    return Networks().eval()


def trace(name: str, size: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Trace one model; returns the model row and the class rows."""
    import torch
    import torchvision

    from willitrun.interop.tracing import trace_module

    result = trace_module(build(name, size), torch.empty(1, 3, size, size, device="meta"))
    key = {"arch": trace_name(name), "image_size": size}
    tool = f"torchvision {torchvision.__version__.partition('+')[0]}"
    head = {**key, "family": "torchvision", "native": 1, **counts(result), "tool": tool}
    return head, class_rows(result, key)


def main() -> None:
    """Trace, print what differs from the catalog's published counts, and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TRACES)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    stand_in_for_torchvision()
    heads, tables = [], []
    for name, size in sorted(listed_models().items()):
        try:
            head, rows = trace(name, size)
        except Exception as error:  # noqa: BLE001 - whatever fails to trace is listed, not shipped
            print(f"{name}: {type(error).__name__}: {error}"[:160])
            continue
        published = load_catalog().resolve("model", PREFIX + name)
        macs = (published.vision.macs or 0.0) / 1e9
        print(
            f"{name:36} {size:4} parameters {head['parameters']} of {published.parameters}, "
            f"{head['macs'] / 1e9:.2f} of {macs:.2f} GMAC, {head['n_ops']} operators"
        )
        heads.append(head)
        tables += rows
    write_table(options.out / "torchvision-models.csv", MODEL_COLUMNS, heads)
    write_table(options.out / "torchvision-networks.csv", CLASS_COLUMNS, tables)


if __name__ == "__main__":
    main()
