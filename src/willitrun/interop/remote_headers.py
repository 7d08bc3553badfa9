"""Describe a checkpoint on a web server by its headers: ranges of bytes, never the weights.

Nothing else in the library reaches a network. Range requests:
https://www.rfc-editor.org/rfc/rfc9110#name-range-requests.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from urllib.parse import urlsplit, urlunsplit

from willitrun.checkpoints import describe_model
from willitrun.checkpoints.file_sets import MAX_CONFIG_BYTES, MAX_INDEX_BYTES, MAX_SHARDS, SPLIT_NAME
from willitrun.checkpoints.gguf import read_gguf
from willitrun.checkpoints.safetensors import read_safetensors
from willitrun.errors import CheckpointError, CorruptCheckpointError, UnsupportedFormatError
from willitrun.records.models import Model

__all__ = ["describe_remote"]

MOST_REDIRECTS = 5
MOST_BYTES = 192 << 20
"""Of one file; headers of real checkpoints with their vocabularies stay below 40 MiB."""
LARGEST_FILE = 1 << 44
CHUNK = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,254}")
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


def describe_remote(url: str, *, timeout_s: float = 30.0, token: str | None = None) -> Model:
    """Describe a GGUF file, a safetensors file or its index, by HTTP range requests.

    All parts of a split file and all shards of an index are looked at; ``config.json`` is read from beside
    safetensors files. Nothing but headers is transferred, and nothing is kept.

    Parameters
    ----------
    url
        ``http`` or ``https`` address of the file, such as
        ``https://huggingface.co/ORGANIZATION/NAME/resolve/main/model.safetensors.index.json``.
    timeout_s
        What one file may take in all [s].
    token
        Sent as a bearer token to the host of ``url`` only, never along with a redirect to another.

    Raises
    ------
    CheckpointError
        The server can't be reached, gives no ranges, contradicts itself or takes too long, or the header is
        damaged; see its subclasses.
    """
    name = _plain_name(url)
    web = _Web(timeout_s, token)
    with tempfile.TemporaryDirectory(prefix="willitrun-") as folder:
        place = Path(folder)
        if name.endswith(".index.json"):
            _whole(web, url, place / name, MAX_INDEX_BYTES)
            names = _shards(place / name)
        else:
            names = _parts(name)
        if not name.endswith(".gguf"):
            _whole(web, _beside(url, "config.json"), place / "config.json", MAX_CONFIG_BYTES)
        for part in names:
            _header(web, _beside(url, part), place / part)
        return describe_model(place / name)


def _plain_name(url: str) -> str:
    split = urlsplit(url)
    if split.scheme not in ("http", "https") or not split.hostname:
        raise UnsupportedFormatError("Only http and https addresses are read.")
    name = split.path.rpartition("/")[2]
    if not _NAME.fullmatch(name) or not name.endswith((".gguf", ".safetensors", ".index.json")):
        raise UnsupportedFormatError(
            "The address names no .gguf, .safetensors or .index.json file.",
            hint="Give the address of the file itself, not of a page about it.",
        )
    return name


def _beside(url: str, name: str) -> str:
    split = urlsplit(url)
    return urlunsplit(split._replace(path=f"{split.path.rpartition('/')[0]}/{name}"))


def _parts(name: str) -> list[str]:
    split = SPLIT_NAME.match(name)
    if split is None:
        return [name]
    count = int(split["count"])
    if not 0 < int(split["number"]) <= count <= MAX_SHARDS:
        raise CorruptCheckpointError(f"{name} can't be part {split['number']} of {count}.")
    return [f"{split['stem']}-{n:05d}-of-{count:05d}{split['suffix']}" for n in range(1, count + 1)]


def _shards(path: Path) -> list[str]:
    try:
        where = json.loads(path.read_bytes()).get("weight_map")
        found = sorted(set(where.values()))
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise CorruptCheckpointError(f"{path.name} is no index of shards.") from None
    if len(found) > MAX_SHARDS or not all(_NAME.fullmatch(n) and n.endswith(".safetensors") for n in found):
        raise CorruptCheckpointError(f"{path.name} names something else than plain safetensors files.")
    return found


def _whole(web: _Web, url: str, path: Path, most: int) -> None:
    stream = _RangeStream(web, url, None)
    if stream.size > most:
        raise CorruptCheckpointError(f"{path.name} has {stream.size} bytes; at most {most} are accepted.")
    path.write_bytes(stream.read(stream.size))


def _header(web: _Web, url: str, path: Path) -> None:
    """Leave a file of the remote one's size that holds its header, and holes for the rest."""
    with open(path, "w+b") as copy:
        stream = _RangeStream(web, url, copy)
        copy.truncate(stream.size)
        read = read_gguf if path.name.endswith(".gguf") else read_safetensors
        read(cast(BinaryIO, stream), stream.size, path.name)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Few redirects, to http and https only, never from https down, and no token for another host."""

    max_redirections = MOST_REDIRECTS
    max_repeats = 2

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,  # type: ignore[override, unused-ignore]
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
            raise UnsupportedFormatError(f"The server redirects from {old.scheme} to {new.scheme}.")
        request = urllib.request.Request(newurl, headers=dict(req.header_items()))
        if old.netloc != new.netloc or old.scheme != new.scheme:
            request.remove_header("Authorization")
        return request


class _Web:
    """Opens addresses: http and https, nothing else."""

    def __init__(self, timeout_s: float, token: str | None) -> None:
        self.timeout_s = timeout_s
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "willitrun"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _SafeRedirects(),
        ):
            self._opener.add_handler(handler)

    def get(self, url: str, first: int, last: int, deadline: float) -> tuple[bytes, int]:
        """Bytes ``first`` to ``last`` at most, and the size that the file has."""
        left = deadline - time.monotonic()
        what = urlsplit(url).path.rpartition("/")[2]
        if left <= 0:
            raise CheckpointError(f"{what}: the server took too long.", code="unreadable-file")
        request = urllib.request.Request(url, headers={**self._headers, "Range": f"bytes={first}-{last}"})
        try:
            with self._opener.open(request, timeout=left) as answer:
                return _body(answer, first, last, deadline, what)
        except urllib.error.HTTPError as error:
            error.close()
            raise CheckpointError(
                f"{what}: the server answers {error.code}.", code="unreadable-file"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise CheckpointError(
                f"{what} can't be read: {type(error).__name__}.", code="unreadable-file"
            ) from None


def _body(answer: Any, first: int, last: int, deadline: float, what: str) -> tuple[bytes, int]:
    if answer.status != 206:
        raise UnsupportedFormatError(
            f"{what}: the server gives no ranges of bytes, only whole files.",
            hint="Download the file, or its config.json.",
        )
    told = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    if told is None or answer.headers.get("Content-Encoding", "identity") != "identity":
        raise CorruptCheckpointError(f"{what}: the server does not say which bytes it sends.")
    start, end, size = map(int, told.groups())
    if start != first or not first <= end <= last or end >= size or size > LARGEST_FILE:
        raise CorruptCheckpointError(f"{what}: the server sends other bytes than were asked for.")
    due = end - start + 1
    out = bytearray()
    while len(out) < due:
        if time.monotonic() > deadline:
            raise CheckpointError(f"{what}: the server took too long.", code="unreadable-file")
        piece = answer.read1(min(due - len(out), 1 << 16))
        if not piece:
            break
        out += piece
    if len(out) != due:
        raise CorruptCheckpointError(f"{what}: {due} bytes were announced and {len(out)} came.")
    return bytes(out), size


class _RangeStream(io.RawIOBase):
    """A remote file as a stream: asks for what is read, writes it through to a local copy."""

    def __init__(self, web: _Web, url: str, copy: BinaryIO | None) -> None:
        self._web, self._url, self._copy = web, url, copy
        self._at = self._spent = 0
        self._deadline = time.monotonic() + web.timeout_s
        self._first, self.size = web.get(url, 0, CHUNK - 1, self._deadline)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Absolute positions only."""
        assert whence == 0
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, fewer at the end of the file."""
        count = max(0, min(size if size >= 0 else self.size, self.size - self._at))
        return b"".join(self._pieces(count))

    def _pieces(self, count: int) -> Iterator[bytes]:
        while count:
            piece = self._first[self._at : self._at + count] or self._fetch(min(count, CHUNK))
            if self._copy is not None:
                self._copy.seek(self._at)
                self._copy.write(piece)
            self._at += len(piece)
            count -= len(piece)
            yield piece

    def _fetch(self, count: int) -> bytes:
        self._spent += count
        if self._spent > MOST_BYTES:
            raise CorruptCheckpointError("The header is larger than that of any known checkpoint.")
        piece, size = self._web.get(self._url, self._at, self._at + count - 1, self._deadline)
        if size != self.size:
            raise CorruptCheckpointError("The file changed its size while it was read.")
        return piece
