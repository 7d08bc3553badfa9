"""Headers over HTTP ranges, from a server on loopback: an honest one, and hostile ones."""

from __future__ import annotations

import json
import re
import runpy
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from willitrun.checkpoints import describe_model
from willitrun.errors import CheckpointError, CorruptCheckpointError, UnsupportedFormatError
from willitrun.interop import remote_headers
from willitrun.interop.remote_headers import describe_remote

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100,
    "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip
SHAPES = {
    "model.embed_tokens.weight": (100, 64), "model.norm.weight": (64,),
    "model.layers.0.self_attn.q_proj.weight": (64, 64), "model.layers.0.self_attn.k_proj.weight": (32, 64),
    "model.layers.0.self_attn.v_proj.weight": (32, 64), "model.layers.0.self_attn.o_proj.weight": (64, 64),
    "model.layers.0.mlp.gate_proj.weight": (128, 64), "model.layers.0.mlp.up_proj.weight": (128, 64),
    "model.layers.0.mlp.down_proj.weight": (64, 128), "model.layers.0.input_layernorm.weight": (64,),
    "model.layers.0.post_attention_layernorm.weight": (64,),
}  # fmt: skip


def safetensors(names: list[str]) -> bytes:
    entries, at = {}, 0
    for name in names:
        size = 2
        for side in SHAPES[name]:
            size *= side
        entries[name] = {"dtype": "BF16", "shape": list(SHAPES[name]), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(at)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.trick = ""
        self.sent = 0
        self.seen: list[tuple[str, str | None]] = []
        self.elsewhere = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        return None

    def do_GET(self) -> None:
        server = self.server
        server.seen.append((self.path, self.headers.get("Authorization")))
        trick = server.trick
        data = server.files.get(self.path.removeprefix("/"))
        if trick in ("loop", "file", "away") and not self.path.startswith("/final"):
            self.send_response(302)
            where = {
                "loop": self.path,
                "file": "file:///etc/hostname",
                "away": server.elsewhere + self.path[1:],
            }
            self.send_header("Location", where[trick])
            self.end_headers()
            return
        if data is None:
            self.send_error(404)
            return
        first, last = map(int, re.findall(r"\d+", self.headers["Range"]))
        last = min(last, len(data) - 1)
        if trick == "no ranges":
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        body = data[first : last + 1]
        size = {"huge": 10**15 - 1, "lies": len(data) + server.sent}.get(trick, len(data))
        start = first + 1 if trick == "shifted" else first
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{last}/{size}")
        self.end_headers()
        server.sent += len(body)
        if trick == "short":
            body = body[:-1]
        try:
            if trick == "drip":
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            self.wfile.write(body)
            while trick == "endless":
                self.wfile.write(bytes(1 << 16))
        except OSError:
            self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    found.files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": safetensors([*SHAPES])}
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def test_a_remote_file_is_what_the_local_one_is(server: Server, tmp_path) -> None:
    for name, data in server.files.items():
        (tmp_path / name).write_bytes(data)
    assert describe_remote(server.url + "model.safetensors") == describe_model(tmp_path / "model.safetensors")


def test_all_parts_of_a_split_gguf(server: Server, tmp_path) -> None:
    writers = runpy.run_path(str(Path(__file__).parents[1] / "checkpoints" / "conftest.py"))
    tensors = writers["llama_tensors"]()
    for number, some in ((1, tensors[:5]), (2, tensors[5:])):
        metadata = writers["LLAMA_METADATA"] if number == 1 else {"split.no": 1}
        server.files[f"tiny-{number:05d}-of-00002.gguf"] = writers["gguf_bytes"](metadata, some)
    for name, data in server.files.items():
        (tmp_path / name).write_bytes(data)
    first = "tiny-00001-of-00002.gguf"
    found = describe_remote(server.url + first)
    assert found == describe_model(tmp_path / first)
    assert found.tensors is not None
    assert sum(row[2] for row in found.tensors.rows) == len(tensors)
    del server.files["tiny-00002-of-00002.gguf"]
    with pytest.raises(CheckpointError, match="404"):
        describe_remote(server.url + first)


def test_shards_of_an_index(server: Server) -> None:
    whole = describe_remote(server.url + "model.safetensors")
    names = [*SHAPES]
    server.files |= {"a.safetensors": safetensors(names[:4]), "b.safetensors": safetensors(names[4:])}
    where = {name: "a.safetensors" if at < 4 else "b.safetensors" for at, name in enumerate(names)}
    server.files["model.safetensors.index.json"] = json.dumps({"weight_map": where}).encode()
    found = describe_remote(server.url + "model.safetensors.index.json")
    assert found.tensors is not None
    assert whole.tensors is not None
    assert found.tensors.rows == whole.tensors.rows
    server.files["model.safetensors.index.json"] = b'{"weight_map": {"x": "../../secret.safetensors"}}'
    with pytest.raises(CorruptCheckpointError, match="plain"):
        describe_remote(server.url + "model.safetensors.index.json")


def test_only_headers_travel(server: Server, monkeypatch) -> None:
    # Windows of 2 KiB instead of 1 MiB, so that a tiny file has something to leave out.
    monkeypatch.setattr(remote_headers, "CHUNK", 2048)
    describe_remote(server.url + "model.safetensors")
    assert server.sent < len(server.files["model.safetensors"]) // 4 + 4096


@pytest.mark.parametrize(
    ("trick", "kind", "text"),
    [
        ("no ranges", UnsupportedFormatError, "no ranges"),
        ("huge", CorruptCheckpointError, "other bytes"),
        ("shifted", CorruptCheckpointError, "other bytes"),
        ("short", CorruptCheckpointError, "announced"),
        ("loop", CheckpointError, "302"),
        ("file", CheckpointError, "302"),
        ("drip", CheckpointError, "too long"),
    ],
)
def test_a_hostile_server_is_an_error_that_says_so(server: Server, trick: str, kind: type, text: str) -> None:
    server.trick = trick
    began = time.monotonic()
    with pytest.raises(kind, match=text):
        describe_remote(server.url + "model.safetensors", timeout_s=1.0 if trick == "drip" else 20.0)
    assert time.monotonic() - began < 10


def test_an_endless_body_is_read_no_further_than_asked(server: Server) -> None:
    server.trick = "endless"
    assert describe_remote(server.url + "model.safetensors", timeout_s=20).tensors is not None


def test_a_size_that_changes_is_found_out(server: Server, monkeypatch) -> None:
    monkeypatch.setattr(remote_headers, "CHUNK", 256)
    server.trick = "lies"
    with pytest.raises(CheckpointError):
        describe_remote(server.url + "model.safetensors")


def test_a_token_does_not_follow_to_another_host(server: Server) -> None:
    other = Server()
    thread = threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    other.files = server.files
    server.trick, server.elsewhere = "away", other.url
    try:
        describe_remote(server.url + "model.safetensors", token="hush")
    finally:
        other.shutdown()
        other.server_close()
        thread.join()
    assert {token for _, token in server.seen} == {"Bearer hush"}
    assert {token for _, token in other.seen} == {None}


def test_pages_and_other_schemes_are_refused() -> None:
    for url in (
        "file:///etc/passwd",
        "ftp://host/model.gguf",
        "https://host/model",
        "https://host/..%2f.gguf",
    ):
        with pytest.raises(UnsupportedFormatError):
            describe_remote(url)
