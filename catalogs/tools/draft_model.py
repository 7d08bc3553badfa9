"""Draft a model record from a Hugging Face ``config.json``, for a person to review.

Usage::

    python catalogs/tools/draft_model.py CONFIG --repository OWNER/NAME --source ID [--at PLACE]

The config is read by the same code as ``describe_model``, so an unknown architecture is refused here too. The
draft goes to standard output as TOML. What a ``config.json`` does not say (licence, release date) is left out;
add it with a source of its own. The parameter count is the sum over the tensors of the architecture: compare
it with the published one before the record goes in.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from willitrun.checkpoints.config_models import model_from_config
from willitrun.estimators.inventory import active_parameters, parameters

__all__ = ["draft_record", "model_id", "render_toml"]

TUNING = re.compile(r"-(?:instruct|inst|it|chat|hf|bf16|pt)(?=-|$)")
PREFIXES = re.compile(r"^(?:meta|nvidia|c4ai)-")


def model_id(repository: str) -> str:
    """A short id from a repository name: no owner, no suffix for the tuning.

    >>> model_id("meta-llama/Llama-3.1-8B-Instruct")
    'llama-3.1-8b'
    """
    name = repository.rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9._+-]", "-", TUNING.sub("", PREFIXES.sub("", name)))


def draft_record(config: Mapping[str, Any], *, repository: str, source: str, at: str = "") -> dict[str, Any]:
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


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, int):
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    return str(value)  # a float or a date writes itself


def _lines(key: str, value: Any) -> list[str]:
    spread = isinstance(value, list) and (
        len(_value(value)) > 100 or (len(value) > 1 and isinstance(value[0], Mapping))
    )
    if not spread:
        return [f"{_key(key)} = {_value(value)}"]
    return [f"{_key(key)} = [", *(f"    {_value(item)}," for item in value), "]"]


def render_toml(table: str, record: Mapping[str, Any]) -> str:
    """One record as an entry of a TOML array of tables; nested mappings become sub-tables.

    >>> print(render_toml("model", {"id": "a", "transformer": {"hidden_size": 65536}}))
    [[model]]
    id = "a"
    <BLANKLINE>
    [model.transformer]
    hidden_size = 65_536
    <BLANKLINE>
    """
    lines = [f"[[{table}]]"]
    for key, value in record.items():
        if not isinstance(value, Mapping):
            lines += _lines(key, value)
    for key, content in record.items():
        if isinstance(content, Mapping):
            lines += ["", f"[{table}.{_key(key)}]"]
            for name, value in content.items():
                lines += _lines(name, value)
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a draft record."""
    parser = argparse.ArgumentParser(description="Draft a model record from a config.json.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--repository", required=True, help="OWNER/NAME of the publisher")
    parser.add_argument("--source", required=True, help="id of the source record")
    parser.add_argument("--at", default="", help="place inside the source")
    options = parser.parse_args(arguments)
    config = json.loads(options.config.read_text("utf-8"))
    record = draft_record(config, repository=options.repository, source=options.source, at=options.at)
    sys.stdout.write(render_toml("model", record))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
