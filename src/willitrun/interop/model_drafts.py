"""Draft a model record from a Hugging Face ``config.json``, for a person to review.

The config is read by the same code as ``describe_model``, so an unknown architecture is refused here too. What a
``config.json`` does not say (licence, release date) is left out; add it with a source of its own. The parameter count is
the sum over the tensors of the architecture: compare it with the published one before the record goes in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from willitrun.checkpoints.config_models import model_from_config
from willitrun.estimators.inventory import active_parameters, parameters

__all__ = ["draft_model", "model_id"]

TUNING = re.compile(r"-(?:instruct|inst|it|chat|hf|bf16|pt)(?=-|$)")
PREFIXES = re.compile(r"^(?:meta|nvidia|c4ai)-")


def model_id(repository: str) -> str:
    """A short id from a repository name: no owner, no suffix for the tuning.

    >>> model_id("meta-llama/Llama-3.1-8B-Instruct")
    'llama-3.1-8b'
    """
    name = repository.rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9._+-]", "-", TUNING.sub("", PREFIXES.sub("", name)))


def draft_model(config: Mapping[str, Any], *, repository: str, source: str, at: str = "") -> dict[str, Any]:
    """A model record with everything that the config says, cited to ``source``."""
    model = model_from_config(config, repository)
    citation = {"source": source, "basis": "vendor"} | ({"at": at} if at else {})
    record: dict[str, Any] = {
        "id": model_id(repository),
        "name": repository.rpartition("/")[2].replace("-", " "),
        "aliases": [repository],
        "family": model.family,
        "task": model.task,
    }
    cite = {"*": [citation]}
    if model.transformer is not None:
        record["parameters"] = parameters(model.transformer)
        rule = {"basis": "derived", "rule": "sum over the tensors that the architecture fields give"}
        cite["parameters"] = [citation | rule]
        if model.transformer.num_experts:
            record["active_parameters"] = active_parameters(model.transformer)
            cite["active_parameters"] = [citation | rule]
    record["quantization"] = model.quantization
    if model.flags:
        record["flags"] = list(model.flags)
    for part in ("transformer", "speech", "vision"):
        fields = getattr(model, part)
        if fields is not None:
            record[part] = fields.model_dump(mode="json", exclude_defaults=True)
    return record | {"cite": cite}
