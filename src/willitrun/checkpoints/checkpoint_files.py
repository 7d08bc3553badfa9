"""Checkpoint files on disk: which ones belong together, and what their headers add up to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from willitrun.checkpoints.config_models import local_facts, model_from_config
from willitrun.checkpoints.file_sets import (
    SPLIT_NAME,
    indexed_parts,
    main_files,
    parts_of,
    read_config,
    read_file,
    unreadable,
)
from willitrun.checkpoints.gguf import GgufHeader, GgufTensor, read_gguf
from willitrun.checkpoints.gguf_models import read_gguf_config, stored_mix
from willitrun.checkpoints.json_reading import shown
from willitrun.checkpoints.safetensors import SafetensorsHeader, StoredTensor, read_safetensors
from willitrun.checkpoints.tensor_tables import build_table, gguf_role, layer_of, stored_role
from willitrun.errors import CheckpointError, CorruptCheckpointError, UnsupportedFormatError
from willitrun.records.models import Model, Task

__all__ = ["model_from_directory", "model_from_file"]

_INDEX = "model.safetensors.index.json"
_FLOATS = {"F64": "f32", "F32": "f32", "F16": "f16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8"}
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "inv_freq")
_SCALES = (
    "_scale",
    "_scale_inv",
    "scales",
    "zeros",
    "_zero_point",
    "g_idx",
    "weight_shape",
    "absmax",
    "quant_map",
    "__nf4",
    "__fp4",
)


def model_from_file(path: Path) -> Model:
    """Describe one file: GGUF (any part of a split one), safetensors, its index, or ``config.json``.

    Raises
    ------
    CheckpointError
        See its subclasses; also for files that can't be opened.
    """
    name = path.name
    if name.endswith(".index.json"):
        return _from_safetensors(path.parent, indexed_parts(path), path.parent.resolve().name or name)
    if name.endswith(".json"):
        return model_from_config(
            read_config(path), name if name != "config.json" else _folder(path), what=name
        )
    if name.endswith(".safetensors"):
        return _from_safetensors(path.parent, parts_of(path), name)
    if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl")):
        raise UnsupportedFormatError(
            f"{shown(name)} is a pickled checkpoint, which is never opened: it can run code.",
            hint="Describe its config.json, or convert it to safetensors.",
        )
    # Whatever its name: the reader tells what a file that is no GGUF starts with.
    return _from_gguf(path)


def model_from_directory(path: Path) -> Model:
    """Describe a folder as the Hugging Face hub lays it out, or one with a single GGUF model.

    Raises
    ------
    CheckpointError
        See its subclasses.
    """
    try:
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry, _ in zip(entries, range(100_000), strict=False))
    except OSError as error:
        raise unreadable(path.name, error) from None
    if "model_index.json" in names:
        raise UnsupportedFormatError(
            f"{shown(path.name)} holds a diffusion pipeline (model_index.json).",
            hint="Name it by its catalog id: pipelines are not read from files.",
        )
    if "config.json" in names:
        stored = [name for name in names if name.endswith(".safetensors")]
        if _INDEX in names:
            return _from_safetensors(path, indexed_parts(path / _INDEX), _folder(path / _INDEX))
        if stored:
            return _from_safetensors(path, main_files(path, stored), _folder(path / _INDEX))
        config = read_config(path / "config.json")
        return model_from_config(config, _folder(path / _INDEX), embeds="modules.json" in names)
    models = [name for name in names if name.endswith(".gguf") and not name.startswith("mmproj")]
    first_parts = [
        name for name in models if not (split := SPLIT_NAME.match(name)) or int(split["number"]) == 1
    ]
    if len(first_parts) == 1:
        return _from_gguf(path / first_parts[0])
    if first_parts:
        raise CheckpointError(
            f"{shown(path.name)} holds {len(first_parts)} GGUF models: {', '.join(first_parts[:5])}.",
            code="several-checkpoints",
            hint="Pass the file that is meant.",
        )
    raise UnsupportedFormatError(f"{shown(path.name)} holds neither config.json nor a GGUF file.")


def _folder(path: Path) -> str:
    return path.parent.resolve().name or "local model"


def _from_safetensors(folder: Path, parts: Sequence[Path], name: str) -> Model:
    beside = folder / "config.json"
    if not beside.is_file():
        raise UnsupportedFormatError(
            f"{shown(name)} has no config.json beside it, which says what the tensors are.",
            code="missing-config",
            hint="Put the model's config.json into the same folder.",
        )
    model = model_from_config(read_config(beside), name, embeds=(folder / "modules.json").is_file())
    headers: list[SafetensorsHeader] = [read_file(part, read_safetensors) for part in parts]
    tensors = [tensor for header in headers for tensor in header.tensors]
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise CorruptCheckpointError(f"{shown(name)}: two shards hold a tensor of the same name.")
    layers = model.transformer.num_hidden_layers if model.transformer else None
    table = build_table(
        (
            (
                role := stored_role(t.name, layers),
                t.dtype.lower(),
                t.elements,
                t.size_bytes,
                layer_of(t.name, role),
            )
            for t in tensors
        ),
        file_bytes=sum(header.file_bytes for header in headers),
        source="safetensors",
    )
    return _with_stored(model, tensors).model_copy(update={"tensors": table})


def _with_stored(model: Model, tensors: Sequence[StoredTensor]) -> Model:
    """Add what only the weights themselves tell: their number, and the format they are really in."""
    weights = [tensor for tensor in tensors if not tensor.name.endswith((*_BUFFERS, *_SCALES))]
    packed = [tensor for tensor in weights if tensor.dtype not in _FLOATS]
    update: dict[str, object] = {"parameters_note": ""}  # of the config alone
    if packed:
        update["parameters_note"] = f"{len(packed)} tensors are packed: elements are not parameters"
    elif weights:
        update["parameters"] = sum(tensor.elements for tensor in weights)
        has_head = any(tensor.name.endswith("lm_head.weight") for tensor in weights)
        if has_head and model.transformer and model.transformer.tie_word_embeddings:
            update["parameters_note"] = "the tied output matrix is stored a second time"
        sizes: dict[str, int] = {}
        for tensor in weights:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.elements
        stored = _FLOATS[max(sizes, key=sizes.__getitem__)]
        if stored != model.quantization and model.quantization in ("f32", "bf16", "f16"):
            update["quantization"] = stored
            stated = f"quantization: config.json says {model.quantization}, most weights are {stored}"
            update["flags"] = (*(flag for flag in model.flags if "assumed" not in flag), stated)
    tower = [tensor for tensor in weights if stored_role(tensor.name, None) == "vision"]
    counted = bool(tower) and all(tensor.dtype in _FLOATS for tensor in tower)
    if counted and model.transformer and model.transformer.vision:
        vision = model.transformer.vision.model_copy(
            update={"parameters": sum(tensor.elements for tensor in tower)}
        )
        update["transformer"] = model.transformer.model_copy(update={"vision": vision})
    return model.model_copy(update=update)


def _from_gguf(path: Path) -> Model:
    parts = parts_of(path)
    headers: list[GgufHeader] = [read_file(part, read_gguf) for part in parts]
    metadata = headers[0].metadata
    claimed = metadata.get("split.count", len(parts))
    if claimed != len(parts) and not (claimed == 0 and len(parts) == 1):
        raise CorruptCheckpointError(
            f"{shown(path.name)} is one of {shown(claimed)} parts.",
            code="missing-shard",
            hint="Name the parts -00001-of-0000N, as llama.cpp writes them.",
        )
    tensors: list[GgufTensor] = [tensor for header in headers for tensor in header.tensors]
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise CorruptCheckpointError(f"{shown(path.name)}: two parts hold a tensor of the same name.")
    config = read_gguf_config(metadata, tensors, path.name)
    table = build_table(
        (
            (
                role := gguf_role(t.name, config.num_hidden_layers),
                t.type_name,
                t.elements,
                t.size_bytes,
                layer_of(t.name, role),
            )
            for t in tensors
        ),
        file_bytes=sum(header.file_bytes for header in headers),
        source="gguf",
    )
    quantization, doubt = stored_mix(metadata, tensors)
    stored_name = metadata.get("general.name")
    facts = local_facts(parts[0].name)
    if isinstance(stored_name, str) and 0 < len(stored_name) <= 200 and stored_name.isprintable():
        facts["name"] = stored_name
    pooling = metadata.get(f"{metadata.get('general.architecture')}.pooling_type", 0)
    embeds = config.is_encoder_only or pooling or metadata.get("general.architecture") == "gemma-embedding"
    # LLAMA_POOLING_TYPE_RANK of llama.h: the head scores pairs.
    task: Task = "text-ranking" if pooling == 4 else "feature-extraction" if embeds else "text-generation"
    return Model(
        **facts,
        family=config.model_type,
        task=task,
        parameters=sum(tensor.elements for tensor in tensors) or None,
        quantization=quantization,
        transformer=config,
        tensors=table,
        flags=(doubt,) if doubt else (),
    )
