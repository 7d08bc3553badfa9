"""Files of the look-up index: JSON with one entry a line, so that a look-up parses the line that it asks for.

A folder of records is some megabytes of JSON; to parse one file of it for one record took a third of the time to a
first verdict. An entry has a line of its own, which is found as bytes: keys are written in one way only, and a line
break never stands inside an entry.
"""

from __future__ import annotations

import json
from json.decoder import JSONDecoder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["IndexFile", "render"]

MOST_SEARCHES = 64
"""Searches of one file after which parsing the whole of it is cheaper."""

SMALL = 16_384
"""Bytes of a file that is parsed at once."""


# `json.loads` looks at every text for its encoding and for space around it first.
_decode = JSONDecoder().raw_decode


def _text(document: Any) -> str:
    return json.dumps(
        document, ensure_ascii=False, separators=(",", ":"), default=lambda value: value.isoformat()
    )


def render(document: dict[str, Any], *, sections: bool) -> str:
    """One canonical JSON text per document, an entry a line; dates become ISO strings.

    Parameters
    ----------
    document
        Entries by key, or sections of entries by name.
    sections
        Which of the two it is.

    Examples
    --------
    >>> print(render({"ids": {"a": "x", "b": "y"}}, sections=True))
    {
    "ids":{
    "a":"x",
    "b":"y"
    }
    }
    <BLANKLINE>
    """
    if sections:
        lines = [f"{_text(name)}:{_lines(part)}" for name, part in document.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"
    return _lines(document) + "\n"


def _lines(entries: dict[str, Any]) -> str:
    return "{\n" + ",\n".join(f"{_text(key)}:{_text(value)}" for key, value in entries.items()) + "\n}"


class IndexFile:
    """One file of the index, read once; entries are found by section and key.

    Parameters
    ----------
    data
        Its bytes, as `render` writes them.

    Examples
    --------
    >>> file = IndexFile(render({"ids": {"a": "x"}, "names": {"b": ["a"]}}, sections=True).encode())
    >>> file.entry("b", section="names"), file.entry("b", section="ids"), file.all("ids")
    (['a'], None, {'a': 'x'})
    """

    def __init__(self, data: bytes) -> None:
        # A checkout on Windows may end lines in another way.
        self._data = data.replace(b"\r\n", b"\n") if b"\r" in data else data
        # Written by another hand, it is still JSON.
        self._parsed: dict[str, Any] | None = (
            None if self._data.startswith(b"{\n") else json.loads(self._data)
        )
        self._searches = 0
        self._next = 0
        """Where the entry after the last one found begins: who reads all of them reads them in order."""

    @classmethod
    def read(cls, file: Traversable) -> IndexFile:
        """The file; one without entries where there is none."""
        return cls(file.read_bytes() if file.is_file() else b"{}")

    def document(self) -> dict[str, Any]:
        """All of it."""
        # Read in this order: another thread may put the parsed form in place of the bytes.
        data = self._data
        if self._parsed is None:
            self._parsed = json.loads(data)
            self._data = b""
        return self._parsed

    def all(self, section: str) -> dict[str, Any]:
        """All entries of a section; none where there is no such section."""
        found: dict[str, Any] = self.document().get(section, {})
        return found

    def entry(self, key: str, *, section: str | None = None) -> Any:
        """The entry of a key; None where there is none."""
        data = self._data
        if self._parsed is None:
            self._searches += 1
            if section is None:
                found, self._next = _search(data, key, self._next, len(data))
                if found is None:
                    found, self._next = _search(data, key, 0, len(data))
                return found
            if self._searches <= MOST_SEARCHES and len(data) > SMALL:
                return _search(data, key, *_bounds(data, section))[0]
        return (self.document() if section is None else self.all(section)).get(key)


def _bounds(data: bytes, section: str) -> tuple[int, int]:
    head = f"\n{_text(section)}:{{\n".encode()
    start = data.find(head)
    if start < 0:
        return 0, 0
    start += len(head) - 1
    return start, data.find(b"\n}", start) + 1


def _search(data: bytes, key: str, start: int, end: int) -> tuple[Any, int]:
    """The entry of a key in a stretch of lines, and where the next one begins."""
    plain = key.isascii() and key.isprintable() and '"' not in key and "\\" not in key
    head = f'\n"{key}":'.encode() if plain else f"\n{_text(key)}:".encode(errors="surrogatepass")
    place = data.find(head, start, end)
    if place < 0:
        return None, 0
    place += len(head)
    last = data.find(b"\n", place)
    return _decode(data[place:last].decode())[0], last
