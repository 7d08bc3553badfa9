"""`describe_model`: whatever names or describes a model, as a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from willitrun.checkpoints.json_reading import check_depth, shown
from willitrun.errors import CheckpointError, CorruptCheckpointError, UnknownIdError
from willitrun.records.models import Model

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["describe_model"]

MAX_NAME_LENGTH = 300
_SUFFIXES = (".gguf", ".safetensors", ".json", ".bin", ".pt", ".pth", ".ckpt")


def describe_model(
    ref: str | os.PathLike[str] | Mapping[str, object] | Model, *, catalog: Catalog | None = None
) -> Model:
    """Describe a model by name, by file or by the keys of its config.

    Parameters
    ----------
    ref
        A catalog id, an alias or a Hugging Face repository id; a path to a folder with ``config.json``, to
        ``config.json``, ``.gguf``, ``.safetensors`` or ``model.safetensors.index.json``; a mapping of
        ``config.json`` keys; or a model, which is returned as it is. A string that names an existing path is
        a path. Of files only headers are read: no tensor, no vocabulary, nothing unpickled, no path inside a
        file followed.
    catalog
        Where names are looked up; the shared default if None.

    Returns
    -------
    Model
        With ``origin`` and a citation of the file where it came from one.

    Raises
    ------
    UnknownIdError, AmbiguousNameError
        No model, or several, go by the name.
    CheckpointError
        A file or config that is corrupt, of an unsupported format or of an unknown architecture; or something that
        is neither name nor file nor mapping (code ``invalid-model``).

    Examples
    --------
    >>> model = describe_model({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    ...     "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    ...     "vocab_size": 128256, "torch_dtype": "bfloat16"})
    >>> model.transformer.head_dim, model.quantization, model.task
    (128, 'bf16', 'text-generation')
    """
    if isinstance(ref, Model):
        return ref
    if isinstance(ref, str):
        if _exists(ref):
            return _described(Path(ref))
        return _named(ref, catalog)
    if isinstance(ref, os.PathLike):
        path = os.fspath(ref)
        if not isinstance(path, str):
            path = os.fsdecode(path)
        if not _exists(path):
            raise _absent(path)
        return _described(Path(path))
    if isinstance(ref, Mapping):
        return _from_mapping(ref)
    raise CheckpointError(
        f"a model is a name, a path, a mapping or a Model, got {type(ref).__name__}.",
        code="invalid-model",
        hint="Pass an id such as 'llama-3.1-8b', a path, or the keys of a config.json.",
    )


def _exists(path: str) -> bool:
    try:
        return bool(path) and os.path.exists(path)
    except ValueError:  # a null byte
        return False


def _absent(path: str) -> CheckpointError:
    return CheckpointError(
        f"there is no file or folder {shown(path.replace(os.sep, '/').rstrip('/').rpartition('/')[2])}.",
        code="no-such-file",
        hint="Check the path; models of the catalog go by their id or repository.",
    )


def _described(path: Path) -> Model:
    # Names are the common case: the readers of files are loaded when a file is described.
    from willitrun.checkpoints.checkpoint_files import model_from_directory, model_from_file

    try:
        return model_from_directory(path) if path.is_dir() else model_from_file(path)
    except ValidationError as error:
        raise _invalid(error, path.name) from None


def _from_mapping(config: Mapping[str, object]) -> Model:
    from willitrun.checkpoints.config_models import model_from_config

    check_depth(config, "the mapping", (Mapping, list, tuple))
    if not all(isinstance(key, str) for key in config):
        raise CorruptCheckpointError("the mapping has keys that are not strings.")
    name = config.get("name")
    try:
        return model_from_config(config, name if isinstance(name, str) and name else "config.json")
    except ValidationError as error:
        raise _invalid(error, "the mapping") from None


def _invalid(error: ValidationError, what: str) -> CorruptCheckpointError:
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return CorruptCheckpointError(f"{what}: {field} is {shown(first['input'])}: {first['msg']}.")


def _named(name: str, catalog: Catalog | None) -> Model:
    if len(name) > MAX_NAME_LENGTH:
        # Not worth comparing with every known name.
        raise UnknownIdError("model", f"{name[:60]}...")
    if catalog is None:
        from willitrun.catalog import load_catalog

        catalog = load_catalog()
    try:
        found: Any = catalog.resolve("model", name)
    except UnknownIdError:
        # A repository id has one slash too, but no suffix of a file.
        looks_like_path = name.startswith((".", "/", "~")) or (os.sep != "/" and os.sep in name)
        if looks_like_path or name.count("/") > 1 or name.lower().endswith(_SUFFIXES) or "\0" in name:
            raise _absent(name) from None
        raise
    if not isinstance(found, Model):
        raise TypeError(f"the catalog gave a {type(found).__name__} for {name!r}.")
    return found
