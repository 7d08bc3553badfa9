"""What the version of PyTorch makes of a network's work."""

from __future__ import annotations

from willitrun import Runtime, Workload, estimate_speed, load_catalog
from willitrun.estimators.graph_devices import generation_of


def _device_seconds(model: str, version: str) -> float:
    load = Workload(batch_size=256, precision="amp-fp16", execution="eager", layout="nhwc")
    speed = estimate_speed(model, "rtx-3090", load, runtime=Runtime(name="pytorch", version=version))
    return sum(term.value for term in speed.terms if term.name in ("compute", "memory-bandwidth"))


def test_attention_of_pytorch_1_moves_its_scores() -> None:
    old, new = (_device_seconds("vit-base-patch16-224", version) for version in ("1.13.1", "2.4"))
    # timm measured 1,210 images per second under 1.13 and 1,575 under 2.1 on this card.
    assert 1.15 < old / new < 1.5


def test_networks_without_attention_work_alike() -> None:
    old, new = (_device_seconds("resnet-50", version) for version in ("1.13.1", "2.4"))
    assert abs(old / new - 1.0) < 0.02


def test_networks_know_one_kind_of_blackwell() -> None:
    cards = load_catalog().accelerators
    names = ("nvidia-geforce-rtx-5090", "nvidia-b200-sxm-180gb")
    assert {generation_of(cards.resolve(name)) for name in names} == {"blackwell"}
