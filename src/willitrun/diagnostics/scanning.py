"""Read a text of any size in bounded memory and find signatures in it."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, cast

from willitrun.diagnostics.contexts import COMPLAINT, FIELD
from willitrun.diagnostics.signatures import Kind, SignatureIndex
from willitrun.errors import WillItRunError
from willitrun.frozen import frozen

__all__ = ["Hit", "Sighting", "Text", "scan"]

Text = str | bytes | os.PathLike[str] | IO[str] | IO[bytes] | Iterable[str] | Iterable[bytes]

_CHUNK_BYTES = 1 << 19  # small enough for what is computed of a piece to stay in the cache
_LINE_BYTES = 8192
_BENT_QUOTES = tuple((bent.encode(), b"'") for bent in "\u2018\u2019") + tuple(
    (bent.encode(), b'"') for bent in "\u201c\u201d"
)
_CONTEXT = ("", Kind.CONTEXT)
_MOST_HITS = 8
_MOST_TRIES = 20_000


@frozen
class Hit:
    """One match: line number from 1, matched text, captured groups."""

    line: int
    text: str
    groups: dict[str, str]
    cited: bool = True
    """A public message or a line of a program is cited for the signature that matched."""


@dataclass(slots=True)
class Sighting:
    """All that was seen of one entry."""

    hits: list[Hit] = field(default_factory=list)
    occurrences: int = 0
    tries: int = 0
    last_line: int = 0
    kind: Kind = Kind.EXACT
    """What saw it; of general and contextual signatures the kind of failure is known, not which."""


def scan(text: Text, index: SignatureIndex, minor: Container[str] = ()) -> dict[str, Sighting]:
    """Find the signatures of an index in a text.

    A general one counts on lines where no exact one holds. A contextual one counts beside general ones, if no exact
    one of a failure holds anywhere and a program of the field speaks somewhere in the text or the line has a word of the field.

    Parameters
    ----------
    text
        The text itself (`str`, `bytes`), a path, an open file, or an iterable of lines.
    index
        What to look for.
    minor
        Entries that are warnings: they explain no failure, so contextual signatures count beside them.

    Returns
    -------
    dict
        Entry id -> what was seen. Of each entry a few hits are kept, preferring those that capture more.
    """
    seen = _sightings(text, index)
    found = {entry: sighting for (entry, kind), sighting in seen.items() if kind is Kind.EXACT}
    wider = [Kind.GENERAL]
    if _CONTEXT in seen and all(entry in minor for entry in found):
        wider.append(Kind.CONTEXTUAL)
    for kind in wider:
        explained = {hit.line for sighting in found.values() for hit in sighting.hits}
        for (entry, of), sighting in seen.items():
            if of is not kind or entry in found:
                continue
            left = [hit for hit in sighting.hits if hit.line not in explained]
            if left:
                found[entry] = Sighting(left, sighting.occurrences, kind=kind)
    return found


def _sightings(text: Text, index: SignatureIndex) -> dict[tuple[str, Kind], Sighting]:
    seen: dict[tuple[str, Kind], Sighting] = {}
    active = index
    worn_out: set[tuple[str, Kind]] = set()
    lines_before = 0
    for buffer, owned in _buffers(text):
        counted = 0
        newlines = lines_before
        for position, gram in active.candidates(buffer):
            if position >= owned:
                break
            start = buffer.rfind(b"\n", 0, position) + 1
            newlines += buffer.count(b"\n", counted, start)
            counted = start
            finish = buffer.find(b"\n", position)
            finish = len(buffer) if finish < 0 else finish
            start, finish = max(start, position - _LINE_BYTES // 2), min(finish, position + _LINE_BYTES // 2)
            line = ""
            for number in active.by_gram[gram]:
                signature = active.signatures[number]
                sighting = seen.setdefault(signature.key, Sighting())
                sighting.tries += 1
                if sighting.tries > _MOST_TRIES:
                    continue
                line = line or buffer[start:finish].decode("utf-8", "replace").rstrip("\r")
                match = signature.pattern.search(line)
                if match is None:
                    continue
                if signature.kind is Kind.CONTEXTUAL:
                    if COMPLAINT.search(line) is None:
                        continue
                    if FIELD.search(line) is not None:
                        _note(seen.setdefault(_CONTEXT, Sighting()), newlines + 1, match, cited=True)
                _note(sighting, newlines + 1, match, signature.cited)
        lines_before += buffer.count(b"\n", 0, owned)
        worn = {
            key
            for key, sighting in seen.items()
            if sighting.tries > _MOST_TRIES or (key == _CONTEXT and sighting.hits)
        }
        if worn != worn_out:
            worn_out = worn
            active = index.without(worn_out)
    return {key: sighting for key, sighting in seen.items() if sighting.hits}


def _note(sighting: Sighting, line: int, match: re.Match[str], cited: bool) -> None:
    captured = {name: value for name, value in match.groupdict().items() if value is not None}
    hit = Hit(line, match.group(0), captured, cited)
    if sighting.last_line != line:
        sighting.occurrences += 1
        sighting.last_line = line
    elif sighting.hits and sighting.hits[-1].line == line:
        last = sighting.hits[-1]
        if (len(captured), len(hit.text)) > (len(last.groups), len(last.text)):
            sighting.hits[-1] = hit
        return
    if len(sighting.hits) < _MOST_HITS:
        sighting.hits.append(hit)


def _buffers(text: Text) -> Iterator[tuple[bytes, int]]:
    """Buffers that end at a line where possible, each with the count of bytes that are its own.

    Only a line longer than a buffer is cut. What follows the owned part is shown as context and repeated at
    the start of the next buffer, so that a message which begins before the seam is seen whole.
    """
    rest = b""
    for chunk in _chunks(text):
        buffer = rest + _plain_quotes(chunk)
        cut = buffer.rfind(b"\n") + 1
        if cut == 0:
            cut = max(0, len(buffer) - _LINE_BYTES) if len(buffer) > _CHUNK_BYTES else 0
        if cut:
            owned = cut
            tail = min(len(buffer), cut + _LINE_BYTES) if buffer[cut - 1 : cut] != b"\n" else cut
            yield buffer[:tail], owned
        rest = buffer[cut:]
    if rest:
        yield rest, len(rest)


def _plain_quotes(chunk: bytes) -> bytes:
    """Quotes as programs print them: word processors, chats and forums bend them when a message is pasted."""
    if b"\xe2" in chunk and b"\xe2\x80" in chunk:  # a single byte is looked for much faster
        for bent, plain in _BENT_QUOTES:
            chunk = chunk.replace(bent, plain)
    return chunk


def _chunks(text: Text) -> Iterator[bytes]:
    if isinstance(text, str):
        for start in range(0, len(text), _CHUNK_BYTES):
            yield text[start : start + _CHUNK_BYTES].encode("utf-8", "replace")
    elif isinstance(text, bytes | bytearray | memoryview):
        yield from _decoded(
            bytes(text[start : start + _CHUNK_BYTES]) for start in range(0, len(text), _CHUNK_BYTES)
        )
    elif isinstance(text, os.PathLike):
        with open(text, "rb") as file:
            yield from _decoded(iter(lambda: file.read(_CHUNK_BYTES), b""))
    elif hasattr(text, "read"):
        yield from _decoded(_read(cast("IO[Any]", text)))
    elif isinstance(text, Iterable):
        yield from _gathered(text)
    else:
        raise _foreign(f"a log is text, a path, an open file or lines, got {type(text).__name__}.")


def _foreign(message: str) -> WillItRunError:
    return WillItRunError(
        message, code="invalid-log", hint="Pass the text itself, a pathlib.Path, or an open file."
    )


def _read(file: IO[Any]) -> Iterator[bytes]:
    while piece := file.read(_CHUNK_BYTES):
        yield piece.encode("utf-8", "replace") if isinstance(piece, str) else piece


def _gathered(lines: Iterable[str] | Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for number, line in enumerate(lines, 1):
        raw = line.encode("utf-8", "replace") if isinstance(line, str) else line
        if not isinstance(raw, bytes):
            raise _foreign(f"line {number} of the log is no text but {type(line).__name__}.")
        raw = raw if raw.endswith(b"\n") else raw + b"\n"
        held.append(raw)
        size += len(raw)
        if size >= _CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _decoded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """UTF-16, which Windows shells write when output is redirected, becomes UTF-8; the rest passes."""
    decoder: codecs.IncrementalDecoder | None = None
    for number, chunk in enumerate(chunks):
        if number == 0 and chunk[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            decoder = codecs.getincrementaldecoder("utf-16")("replace")
        yield decoder.decode(chunk).encode("utf-8", "replace") if decoder else chunk
