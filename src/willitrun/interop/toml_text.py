"""Records as TOML, as people write them: one array of tables, nested mappings as sub-tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["render_toml"]


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
