"""JSON out of untrusted files: bounded before it is parsed, strict while it is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from willitrun.errors import CorruptCheckpointError

__all__ = ["check_depth", "parse_object", "shown"]

MAX_DEPTH = 64
MAX_LEVEL_CONTAINERS = 1 << 19
MAX_DIGITS = 40
"""2^63 has 19 digits, a float's shortest spelling 17; a hash in a string may have some in a row."""
_LONG_NUMBER = rb"[0-9]{41}"


def shown(value: object, most: int = 60) -> str:
    """A value from a file as it may appear in a message: escaped, on one line, short."""
    text = value[: most + 1] if isinstance(value, str | bytes) else value
    rendered = repr(text)
    return rendered if len(rendered) <= most else f"{rendered[: most - 3]}..."


def parse_object(
    data: bytes, what: str, *, most_containers: int, most_values: int = 1 << 20, constants: bool = False
) -> dict[str, object]:
    """Parse one JSON object, refusing whatever could exhaust time or memory.

    Parameters
    ----------
    data
        The text [bytes]; the caller caps its length.
    what
        Name of the file, for messages.
    most_containers
        Objects and arrays that a sane file of this kind may hold; counted before parsing.
    most_values
        Commas that it may hold.
    constants
        Let NaN and Infinity pass, which Python writes and JSON does not know: published configs have them.

    Raises
    ------
    CorruptCheckpointError
        Not UTF-8, not JSON, not an object; nested or crowded beyond the caps; duplicate keys, NaN or
        infinity, numbers of more than 40 digits.

    Examples
    --------
    >>> parse_object(b'{"a": 1}', "config.json", most_containers=10)
    {'a': 1}
    """
    # Counting bytes inside strings too only overestimates, by nothing that matters in real files.
    if data.count(b"{") + data.count(b"[") > most_containers:
        raise CorruptCheckpointError(f"{what} holds more than {most_containers} objects and arrays.")
    if data.count(b",") > most_values:
        raise CorruptCheckpointError(f"{what} holds more than {most_values} values.")
    # Parsing a long integer takes time that grows with its square.
    if re.search(_LONG_NUMBER, data):
        raise CorruptCheckpointError(f"{what} holds a number of more than {MAX_DIGITS} digits.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptCheckpointError(f"{what} is not UTF-8 (byte {error.start}).") from None

    def constant(word: str) -> float:
        if constants:
            return float(word)
        raise CorruptCheckpointError(f"{what} holds {word}, which is not JSON.")

    def real(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise CorruptCheckpointError(f"{what} holds a number beyond the range of a float.")
        return value

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise CorruptCheckpointError(f"{what} has the key {shown(twice)} twice.")
        return found

    try:
        value = json.loads(text, parse_constant=constant, parse_float=real, object_pairs_hook=unique)
    except CorruptCheckpointError:
        raise
    except RecursionError:
        raise CorruptCheckpointError(f"{what} is nested too deeply.") from None
    except ValueError as error:
        raise CorruptCheckpointError(
            f"{what} is not JSON: {getattr(error, 'msg', 'malformed')} at character {getattr(error, 'pos', '?')}."
        ) from None
    if not isinstance(value, dict):
        raise CorruptCheckpointError(f"{what} holds {_kind(value)} where an object is expected.")
    check_depth(value, what)
    return value


def check_depth(value: object, what: str, nesting: tuple[type, ...] = (dict, list)) -> None:
    """Refuse values nested beyond the cap, without recursing into them.

    ``nesting`` names the types that hold others; parsed JSON has but two.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
            if isinstance(inner, nesting)
        ]
        if not level:
            return
        # An object that holds itself twice doubles with every level.
        if len(level) > MAX_LEVEL_CONTAINERS:
            break
    raise CorruptCheckpointError(f"{what} is nested more than {MAX_DEPTH} levels deep, or contains itself.")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "a truth value"}.get(type(value), "a number")
