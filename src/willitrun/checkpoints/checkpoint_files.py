"""Checkpoint files on disk: which ones belong together, and what their headers add up to."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from willitrun.checkpoints.config_models import local_facts, model_from_config
from willitrun.checkpoints.gguf import GgufHeader, GgufTensor, read_gguf
from willitrun.checkpoints.gguf_models import read_gguf_config, stored_mix
from willitrun.checkpoints.json_reading import parse_object, shown
from willitrun.checkpoints.safetensors import SafetensorsHeader, StoredTensor, read_safetensors
from willitrun.checkpoints.tensor_tables import build_table, gguf_role, stored_role
from willitrun.errors import CheckpointError, CorruptCheckpointError, UnsupportedFormatError
from willitrun.records.models import Model, Task

__all__ = ["model_from_directory", "model_from_file"]

MAX_CONFIG_BYTES = 4 << 20
MAX_CONFIG_CONTAINERS = 100_000
MAX_CONFIG_VALUES = 100_000
"""ImageNet-21k has 21,843 labels, written once each way."""
MAX_INDEX_BYTES = 32 << 20
MAX_INDEX_VALUES = 400_000
MAX_SHARDS = 1024
_SPLIT = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf|\.safetensors)$")
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
Header = TypeVar("Header")


def model_from_file(path: Path) -> Model:
    """Describe one file: GGUF (any part of a split one), safetensors, its index, or ``config.json``.

    Raises
    ------
    CheckpointError
        See its subclasses; also for files that can't be opened.
    """
    name = path.name
    if name.endswith(".index.json"):
        return _from_safetensors(path.parent, _indexed(path), path.parent.resolve().name or name)
    if name.endswith(".json"):
        return model_from_config(_config(path), name if name != "config.json" else _folder(path), what=name)
    if name.endswith(".safetensors"):
        return _from_safetensors(path.parent, _parts(path), name)
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
        raise _unreadable(path.name, error) from None
    if "model_index.json" in names:
        raise UnsupportedFormatError(
            f"{shown(path.name)} holds a diffusion pipeline (model_index.json).",
            hint="Name it by its catalog id: pipelines are not read from files.",
        )
    if "config.json" in names:
        stored = [name for name in names if name.endswith(".safetensors")]
        if _INDEX in names:
            return _from_safetensors(path, _indexed(path / _INDEX), _folder(path / _INDEX))
        if stored:
            return _from_safetensors(path, _main_files(path, stored), _folder(path / _INDEX))
        config = _config(path / "config.json")
        return model_from_config(config, _folder(path / _INDEX), embeds="modules.json" in names)
    models = [name for name in names if name.endswith(".gguf") and not name.startswith("mmproj")]
    first_parts = [name for name in models if not (split := _SPLIT.match(name)) or int(split["number"]) == 1]
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


def _unreadable(name: str, error: OSError) -> CheckpointError:
    reason = (error.strerror or type(error).__name__).lower()
    return CheckpointError(f"{shown(name)} can't be read: {reason}.", code="unreadable-file")


def _read(path: Path, read: Callable[[BinaryIO, int, str], Header]) -> Header:
    """Hand an open regular file and its size to a reader."""
    try:
        # A pipe or device would block or never end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UnsupportedFormatError(f"{shown(path.name)} is no regular file.")
        with open(path, "rb") as stream:
            return read(stream, os.fstat(stream.fileno()).st_size, path.name)
    except OSError as error:
        raise _unreadable(path.name, error) from None


def _json(
    path: Path, most_bytes: int, most_containers: int, most_values: int, *, constants: bool = False
) -> dict[str, object]:
    def read(stream: BinaryIO, size: int, what: str) -> bytes:
        if size > most_bytes:
            raise CorruptCheckpointError(f"{what} has {size} bytes; at most {most_bytes} are accepted.")
        return stream.read(size)

    return parse_object(
        _read(path, read),
        path.name,
        most_containers=most_containers,
        most_values=most_values,
        constants=constants,
    )


def _config(path: Path) -> dict[str, object]:
    """A config, with the quantization that NVIDIA's ModelOpt keeps in a file of its own beside it."""
    limits = (MAX_CONFIG_BYTES, MAX_CONFIG_CONTAINERS, MAX_CONFIG_VALUES)
    config = _json(path, *limits, constants=True)
    beside = path.with_name("hf_quant_config.json")
    if "quantization_config" not in config and beside.is_file():
        block = _json(beside, *limits, constants=True).get("quantization")
        if isinstance(block, dict):
            config["quantization_config"] = {"quant_method": "modelopt", **block}
    return config


def _parts(path: Path) -> list[Path]:
    """The file itself, or all parts of the split checkpoint it belongs to."""
    split = _SPLIT.match(path.name)
    if split is None:
        return [path]
    count = int(split["count"])
    if not 0 < int(split["number"]) <= count <= MAX_SHARDS:
        raise CorruptCheckpointError(f"{shown(path.name)} can't be part {split['number']} of {count}.")
    parts = [
        path.with_name(f"{split['stem']}-{number:05d}-of-{count:05d}{split['suffix']}")
        for number in range(1, count + 1)
    ]
    _require(parts)
    return parts


def _require(parts: Sequence[Path]) -> None:
    absent = [part.name for part in parts if not part.is_file()]
    if absent:
        raise CorruptCheckpointError(
            f"{len(absent)} of {len(parts)} parts are missing: {', '.join(map(shown, absent[:3]))}"
            f"{' ...' if len(absent) > 3 else ''}.",
            code="missing-shard",
            hint="Download the rest beside the others.",
        )


def _indexed(path: Path) -> list[Path]:
    """The shards that an index names: plain file names beside it, nothing else."""
    index = _json(path, MAX_INDEX_BYTES, 64, MAX_INDEX_VALUES)
    where = index.get("weight_map")
    if not isinstance(where, dict) or not where:
        raise CorruptCheckpointError(f"{path.name} has no weight_map.")
    names: dict[str, None] = {}
    for name in where.values():
        if not isinstance(name, str) or not _is_plain(name):
            raise CorruptCheckpointError(f"{path.name} names {shown(name)}: no plain safetensors file name.")
        names[name] = None
    if len(names) > MAX_SHARDS:
        raise CorruptCheckpointError(f"{path.name} names {len(names)} files.")
    parts = [path.with_name(name) for name in names]
    _require(parts)
    return parts


def _is_plain(name: str) -> bool:
    return len(name) <= 255 and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*\.safetensors", name) is not None


def _main_files(folder: Path, stored: list[str]) -> list[Path]:
    """The safetensors files that make up the model, where no index says so."""
    if "model.safetensors" in stored:
        return [folder / "model.safetensors"]
    # Adapters ride on the model; consolidated files are the same weights again, in the vendor's own layout.
    others = [name for name in stored if not name.startswith(("adapter", "consolidated"))]
    chosen = others or [name for name in stored if name.startswith("consolidated")]
    sets = {(match["stem"], match["count"]) if (match := _SPLIT.match(name)) else name for name in chosen}
    if len(sets) != 1:
        raise CheckpointError(
            f"{shown(folder.name)} holds {len(sets)} safetensors checkpoints and no index.",
            code="several-checkpoints",
            hint="Pass the file that is meant.",
        )
    return _parts(folder / chosen[0])


def _from_safetensors(folder: Path, parts: Sequence[Path], name: str) -> Model:
    beside = folder / "config.json"
    if not beside.is_file():
        raise UnsupportedFormatError(
            f"{shown(name)} has no config.json beside it, which says what the tensors are.",
            code="missing-config",
            hint="Put the model's config.json into the same folder.",
        )
    model = model_from_config(_config(beside), name, embeds=(folder / "modules.json").is_file())
    headers: list[SafetensorsHeader] = [_read(part, read_safetensors) for part in parts]
    tensors = [tensor for header in headers for tensor in header.tensors]
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise CorruptCheckpointError(f"{shown(name)}: two shards hold a tensor of the same name.")
    layers = model.transformer.num_hidden_layers if model.transformer else None
    table = build_table(
        ((stored_role(t.name, layers), t.dtype.lower(), t.elements, t.size_bytes) for t in tensors),
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
    parts = _parts(path)
    headers: list[GgufHeader] = [_read(part, read_gguf) for part in parts]
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
            (gguf_role(t.name, config.num_hidden_layers), t.type_name, t.elements, t.size_bytes)
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
