"""Signatures made searchable: the literal that each one needs, and an index over those literals.

A log is first scanned for 8-byte windows ("grams"), one per signature, all in one pass of array arithmetic;
only lines that hold such a window meet a regular expression. The cost of the pass does not depend on how
many signatures there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from math import log

import numpy as np
from numpy.typing import NDArray

from willitrun.diagnostics.contexts import CONTEXTS
from willitrun.frozen import frozen

__all__ = ["GRAM_BYTES", "Kind", "Signature", "SignatureIndex", "compile_signatures", "required_literals"]

GRAM_BYTES = 8
_STRIDE = 2
_PART_BYTES = GRAM_BYTES - _STRIDE + 1
_HASH_BITS = 18
_HASH_SHIFT = np.uint64(64 - _HASH_BITS)
_HASH_FACTOR = 0x9E3779B97F4A7C15
# The product's high bits are the hash; a factor moved up drops the last bytes of a little-endian word out of it.
_WHOLE = np.uint64(_HASH_FACTOR)
_PART = np.uint64(_HASH_FACTOR << 8 * (GRAM_BYTES - _PART_BYTES) & (1 << 64) - 1)
_QUANTIFIERS = "?*{+"
# Characters of log text, most frequent first: a window of rare ones is met less often.
_COMMON = {
    character: 1000 / (rank + 8) for rank, character in enumerate(" etaoinsrlcdumpfghbyvw_/.-:=0123456789")
}


class Kind(IntEnum):
    """How much a match tells, the most first; see the fields of `TroubleshootingEntry`."""

    EXACT = 0
    GENERAL = 1
    CONTEXTUAL = 2
    CONTEXT = 3
    """No failure: a program of the field speaks."""


@frozen
class Signature:
    """One regular expression of one entry, and the window that a line must hold to be worth trying."""

    entry: str
    pattern: re.Pattern[str]
    gram: bytes
    kind: Kind = Kind.EXACT
    cited: bool = True
    """A public message or a line of a program is cited for it; see `TroubleshootingEntry.uncited_signatures`."""

    @property
    def key(self) -> tuple[str, Kind]:
        """What its sightings are kept under."""
        return self.entry, self.kind


def required_literals(expression: str) -> tuple[str, ...]:
    """Runs of characters that every match of an expression contains.

    Groups and classes are skipped, so the answer is a part of what is required, never more.

    Examples
    --------
    >>> required_literals(r"Tried to allocate (?P<tried>[0-9.]+ GiB)\\. GPU \\d+ has")
    ('Tried to allocate ', '. GPU ', ' has')
    """
    runs: list[str] = []
    run = ""
    depth = position = 0
    while position < len(expression):
        character = expression[position]
        literal = ""
        if character == "\\" and position + 1 < len(expression):
            position += 1
            escaped = expression[position]
            literal = "" if escaped.isalnum() else escaped
            if escaped == "x":  # the character that a TOML literal string cannot hold
                literal = chr(int(expression[position + 1 : position + 3], 16))
                position += 2
        elif character == "[":
            position = _class_end(expression, position)
        elif character == "{" and depth == 0:
            position = expression.index("}", position)
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and depth == 0:
            return ()
        elif character not in ".^$?*+|":
            literal = character
        position += 1
        if depth or not literal:
            runs, run = [*runs, run], ""
            continue
        if position < len(expression) and expression[position] in _QUANTIFIERS:
            # An optional character ends the run; one that repeats begins a new one after itself.
            runs.append(run + literal if expression[position] == "+" else run)
            run = ""
            continue
        run += literal
    return tuple(found for found in [*runs, run] if found)


def _class_end(expression: str, start: int) -> int:
    position = start + 1
    if expression[position : position + 1] == "^":
        position += 1
    if expression[position : position + 1] == "]":
        position += 1
    while expression[position] != "]":
        position += 2 if expression[position] == "\\" else 1
    return position


def _rarest_window(literals: Iterable[str]) -> bytes | None:
    best: tuple[float, bytes] | None = None
    for literal in literals:
        raw = literal.lower().encode()
        for start in range(len(raw) - GRAM_BYTES + 1):
            window = raw[start : start + GRAM_BYTES]
            frequency = sum(log(_COMMON.get(chr(byte), 15)) for byte in window)
            if best is None or frequency < best[0]:
                best = (frequency, window)
    return best[1] if best else None


@dataclass(slots=True)
class SignatureIndex:
    """Windows to look for, and which signatures each one calls for."""

    signatures: tuple[Signature, ...]
    by_gram: dict[int, tuple[int, ...]] = field(init=False)
    whole: NDArray[np.bool_] = field(init=False)
    """By hash: whether some window has it."""
    parts: NDArray[np.bool_] = field(init=False)
    """By hash: whether one of the parts of a window has it that stand at even places, wherever the window begins."""

    def __post_init__(self) -> None:
        grouped: dict[int, list[int]] = {}
        for number, signature in enumerate(self.signatures):
            grouped.setdefault(int.from_bytes(signature.gram, "little"), []).append(number)
        self.by_gram = {gram: tuple(numbers) for gram, numbers in grouped.items()}
        grams = np.array(list(grouped), dtype=np.uint64)
        self.whole = np.zeros(1 << _HASH_BITS, dtype=np.bool_)
        self.whole[_hashed(grams, _WHOLE)] = True
        self.parts = np.zeros(1 << _HASH_BITS, dtype=np.bool_)
        for start in range(_STRIDE):
            self.parts[_hashed(grams >> np.uint64(8 * start), _PART)] = True

    def without(self, keys: set[tuple[str, Kind]]) -> SignatureIndex:
        """The index less what was seen often enough."""
        return SignatureIndex(tuple(found for found in self.signatures if found.key not in keys))

    def candidates(self, buffer: bytes) -> list[tuple[int, int]]:
        """Positions in a buffer that hold a window, with the window [bytes offset, window as integer].

        Letters are compared without case: the same message is written both ways across programs and versions.
        """
        # Each window holds a part of its bytes that begins at an even place, so half of the places need a look.
        padded = b"".join((bytes(GRAM_BYTES), buffer.lower(), bytes(2 * GRAM_BYTES)))
        anywhere: NDArray[np.uint64] = np.ndarray(
            (len(padded) - GRAM_BYTES + 1,), "<u8", padded, strides=(1,)
        )
        found: list[tuple[int, int]] = []
        for offset in range(GRAM_BYTES, 2 * GRAM_BYTES, _STRIDE):
            words = np.frombuffer(padded, "<u8", len(buffer) // GRAM_BYTES + 1, offset)
            (hits,) = np.nonzero(self.parts.take(_hashed(words, _PART)))
            for start in range(_STRIDE):
                positions = hits * GRAM_BYTES + (offset - start)
                whole = anywhere[positions]
                (likely,) = np.nonzero(self.whole.take(_hashed(whole, _WHOLE)))
                places = (positions[likely] - GRAM_BYTES).tolist()
                grams = whole[likely].tolist()
                found += [pair for pair in zip(places, grams, strict=True) if pair[1] in self.by_gram]
        found.sort()
        return found


def _hashed(words: NDArray[np.uint64], factor: np.uint64) -> NDArray[np.int64]:
    # Unsigned products wrap, which is what a multiplicative hash wants.
    product = words * factor
    product >>= _HASH_SHIFT
    return product.view(np.int64)


@lru_cache(maxsize=8)
def compile_signatures(
    entries: tuple[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...],
    uncited: frozenset[str] = frozenset(),
) -> SignatureIndex:
    """Compile the signatures of entries: ``(entry id, exact, general, contextual expressions)``.

    ``uncited`` holds those expressions for which neither a public message nor a line of a program is cited.
    `CONTEXTS` are looked for along with them, if some expression asks for a context.

    Raises
    ------
    ValueError
        An expression is no regular expression, or requires no literal of 8 bytes to look for.
    """
    asked = [
        (entry, expression, kind)
        for entry, *kinds in entries
        for kind, expressions in zip(Kind, kinds, strict=False)
        for expression in expressions
    ]
    if any(kind is Kind.CONTEXTUAL for _, _, kind in asked):
        asked += [("", expression, Kind.CONTEXT) for expression in CONTEXTS]
    return SignatureIndex(
        tuple(
            _compiled(entry, expression, kind, expression not in uncited) for entry, expression, kind in asked
        )
    )


def _compiled(entry: str, expression: str, kind: Kind, cited: bool) -> Signature:
    try:
        pattern = re.compile(expression, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{entry}: {expression!r} is no regular expression: {error}") from error
    gram = _rarest_window(required_literals(expression))
    if gram is None:
        raise ValueError(f"{entry}: {expression!r} requires no run of {GRAM_BYTES} characters to look for")
    return Signature(entry, pattern, gram, kind, cited)
