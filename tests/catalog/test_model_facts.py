"""The models catalog: schema, names, and the arithmetic that ties shapes to published sizes."""

from __future__ import annotations

import csv
import json
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from willitrun.catalog.indexing import spellings
from willitrun.catalog.layout import KINDS
from willitrun.catalog.names import normalise_name
from willitrun.errors import MissingDataError, UnsupportedArchitectureError
from willitrun.estimators.inventory import active_parameters, parameters
from willitrun.records.checkpoints import Checkpoint
from willitrun.records.models import Model, TransformerConfig
from willitrun.records.sources import Dataset, Source

ROOT = Path(__file__).resolve().parents[2]
CATALOGS = ROOT / "catalogs"
SHARED = ROOT.parent / "shared" / "data"
FOLDERS = ("models", "vision", "diffusion")


def _tables(name: str) -> list[dict[str, Any]]:
    return [
        record
        for folder in FOLDERS
        for path in sorted((CATALOGS / folder).glob("*.toml"))
        for record in tomllib.loads(path.read_text("utf-8")).get(name, ())
    ]


RAW_MODELS = _tables("model")
RAW_CHECKPOINTS = _tables("checkpoint")
MODELS = {raw["id"]: Model.model_validate(raw) for raw in RAW_MODELS}
CHECKPOINTS = {raw["id"]: Checkpoint.model_validate(raw) for raw in RAW_CHECKPOINTS}
WITH_TRANSFORMER = sorted(name for name, model in MODELS.items() if model.transformer is not None)


def _found() -> dict[str, set[str]]:
    """Every spelling and the models it leads to."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for raw in RAW_MODELS:
        for spelling in spellings(raw, KINDS["model"]):
            found[spelling].add(raw["id"])
    for raw in RAW_CHECKPOINTS:
        for spelling in spellings(raw, KINDS["checkpoint"]):
            found[spelling].add(raw["model"])
    return found


FOUND = _found()


def _resolves(name: str) -> bool:
    return normalise_name(name) in FOUND or normalise_name(name.rpartition("/")[2]) in FOUND


def _text(config: TransformerConfig) -> TransformerConfig:
    return config.model_copy(update={"vision": None})


def test_ids_are_unique() -> None:
    for raw in (RAW_MODELS, RAW_CHECKPOINTS):
        doubled = [name for name, count in Counter(record["id"] for record in raw).items() if count > 1]
        assert not doubled


def test_there_are_enough_of_each_kind() -> None:
    tasks = Counter(model.task for model in MODELS.values())
    assert len(MODELS) >= 400
    assert tasks["text-generation"] >= 200
    assert tasks["image-text-to-text"] >= 50
    assert tasks["image-classification"] >= 400
    for task in (
        "feature-extraction",
        "text-ranking",
        "automatic-speech-recognition",
        "text-to-speech",
        "object-detection",
        "image-segmentation",
        "zero-shot-image-classification",
        "text-to-image",
        "text-to-video",
    ):
        assert tasks[task] >= 4, task


def test_every_name_leads_to_one_model() -> None:
    ids = {normalise_name(name) for name in MODELS}
    assert not {name: found for name, found in FOUND.items() if len(found) > 1 and name not in ids}


def test_checkpoints_point_to_models() -> None:
    assert {checkpoint.model for checkpoint in CHECKPOINTS.values()} <= set(MODELS)


def test_sources_are_listed() -> None:
    known = {
        Source.model_validate(raw).id
        for path in CATALOGS.glob("sources*.toml")
        for raw in tomllib.loads(path.read_text("utf-8"))["source"]
    }
    datasets = tomllib.loads((CATALOGS / "datasets.toml").read_text("utf-8"))["dataset"]
    records = [*MODELS.values(), *CHECKPOINTS.values(), *(Dataset.model_validate(raw) for raw in datasets)]
    cited = {
        citation.source for record in records for citations in record.cite.values() for citation in citations
    }
    assert cited <= known


@pytest.mark.parametrize("name", WITH_TRANSFORMER)
def test_shapes_give_the_published_size(name: str) -> None:
    """Within 0.1 %, or the record says why not."""
    model = MODELS[name]
    assert model.transformer is not None
    try:
        computed = parameters(_text(model.transformer))
    except (MissingDataError, UnsupportedArchitectureError):
        assert model.parameters_note
        return
    vision = model.transformer.vision
    computed += (vision.parameters or 0) if vision is not None else 0
    assert model.parameters is not None
    if abs(computed - model.parameters) > model.parameters * 1e-3:
        assert model.parameters_note
        assert computed < model.parameters * 1.05, "a shape larger than its checkpoint is wrong"


@pytest.mark.parametrize(
    "name", [name for name in WITH_TRANSFORMER if MODELS[name].active_parameters is not None]
)
def test_active_parameters_agree_with_the_name(name: str) -> None:
    """Within 2 % of what the publisher states, or the record says why not."""
    model = MODELS[name]
    assert model.transformer is not None
    assert model.active_parameters is not None
    try:
        computed = active_parameters(_text(model.transformer))
    except (MissingDataError, UnsupportedArchitectureError):
        assert model.parameters_note
        return
    if abs(computed - model.active_parameters) > model.active_parameters * 0.02:
        assert "One token passes through" in model.parameters_note


@pytest.mark.parametrize(
    ("name", "tokens", "gib"),
    [("llama-3.1-8b", 1024, 0.125), ("llama-3.3-70b", 1024, 0.3125), ("qwen3-30b-a3b", 1024, 0.09375)],
)
def test_cache_of_known_shapes(name: str, tokens: int, gib: float) -> None:
    """Keys and values in f16: 2 x layers x KV heads x head width x 2 B (vectors of issue 2)."""
    config = MODELS[name].transformer
    assert config is not None
    assert config.num_attention_heads is not None
    assert config.num_key_value_heads is not None
    width = config.head_dim or config.hidden_size // config.num_attention_heads
    total = 2 * config.num_hidden_layers * config.num_key_value_heads * width * 2 * tokens
    assert total == gib * 2**30


def test_layer_patterns_repeat_to_whole_models() -> None:
    kinds = Counter(MODELS["gemma-3-27b"].transformer.layer_type(layer) for layer in range(62))  # type: ignore[union-attr]
    assert kinds == {"sliding_attention": 52, "full_attention": 10}
    oss = MODELS["gpt-oss-20b"].transformer
    assert oss is not None
    assert [oss.layer_type(layer) for layer in range(2)] == ["sliding_attention", "full_attention"]


def test_vision_facts_are_sane() -> None:
    for name, model in MODELS.items():
        if model.vision is None:
            continue
        assert model.parameters is not None, name
        assert 16 <= model.vision.image_size <= 2048, name
        if model.vision.macs is not None and model.task == "image-classification":
            # Every weight works at least about once per image; none works more than once per pixel.
            assert model.vision.macs > 0.2 * model.parameters, name
            assert model.vision.macs < model.parameters * model.vision.image_size**2, name


def test_checks_of_well_known_classifiers() -> None:
    resnet, vit = MODELS["resnet-50"], MODELS["vit-b-16"]
    assert resnet.vision is not None
    assert vit.vision is not None
    assert (resnet.parameters, round((resnet.vision.macs or 0) / 1e6)) == (25_557_032, 4089)
    assert (vit.parameters, round((vit.vision.macs or 0) / 1e6)) == (86_567_656, 17_564)
    assert resnet.vision.top1 == 0.7613


def test_architectures_have_traces() -> None:
    with (CATALOGS / "traces" / "timm-models.csv").open(encoding="utf-8") as file:
        traced = {row["arch"] for row in csv.DictReader(file)}
    named = {
        model.vision.architecture
        for model in MODELS.values()
        if model.vision is not None and model.vision.architecture
    }
    assert len(named & traced) >= 0.9 * len(named)


def test_components_of_pipelines_sum_up() -> None:
    for name, model in MODELS.items():
        if model.diffusion is not None:
            assert model.parameters == sum(part.parameters for part in model.diffusion.components), name
            assert any(part.role == "denoiser" for part in model.diffusion.components), name


def test_imagenet() -> None:
    datasets = {
        raw["id"]: Dataset.model_validate(raw)
        for raw in tomllib.loads((CATALOGS / "datasets.toml").read_text("utf-8"))["dataset"]
    }
    small, full = datasets["imagenet-1k"], datasets["imagenet-21k"]
    assert small.splits == {"train": 1_281_167, "validation": 50_000, "test": 100_000}
    assert small.classes == 1000
    assert small.disk is not None
    assert 150e9 < small.disk < 160e9
    assert sum(full.splits.values()) == 14_197_122
    assert full.disk == 1_310_000_000_000


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.1-8B-Instruct",
        "Llama 3.1 8B",
        "llama3.1:8b",
        "Meta-Llama-3.1-8B",
        "Qwen/Qwen3-30B-A3B",
        "gemma3:27b",
        "mistral:7b",
        "gpt-oss:20b",
        "deepseek-r1:671b",
        "resnet50",
        "resnet50.a1_in1k",
        "timm/vit_base_patch16_224",
        "vit_b_16",
        "convnext_tiny",
        "yolo11n.pt",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "FLUX.1-dev",
        "openai/whisper-large-v3",
        "BAAI/bge-m3",
    ],
)
def test_names_as_people_write_them(name: str) -> None:
    assert _resolves(name)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared facts are not beside this checkout")
def test_collected_models_resolve() -> None:
    """All but video networks, optical flow and pipelines whose sizes are not published."""
    missing = set()
    for line in (SHARED / "models.jsonl").read_text("utf-8").splitlines():
        name = json.loads(line)["id"]
        if not _resolves(name):
            missing.add(name.rpartition("/")[2])
    video = {"swin3d_t", "swin3d_s", "swin3d_b", "mvit_v1_b", "mvit_v2_s", "s3d", "r3d_18", "mc3_18"}
    unsized = {"FLUX.2-klein-base-4B", "FLUX.2-klein-base-9B", "HiDream-I1-Full", "HunyuanVideo-1.5"}
    assert missing <= video | unsized | {"r2plus1d_18", "raft_large", "raft_small"}
