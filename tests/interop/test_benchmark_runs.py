"""A runtime on the loopback interface is driven and its own figures are read; nothing else is ever asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from willitrun import WillItRunError, load_catalog
from willitrun.cli.app import app
from willitrun.interop.benchmark_rows import Subject
from willitrun.interop.benchmark_runs import ServerRun, requests_of, run_server, save_overlay

SUBJECT = Subject(model="llama-3.1-8b", accelerator="rtx-4090", quantization="q4_k_m")
OLLAMA = {
    "prompt_eval_count": 512,
    "prompt_eval_duration": 128_000_000,
    "eval_count": 128,
    "eval_duration": 1_000_000_000,
}
LLAMA = {"timings": {"prompt_n": 512, "prompt_ms": 128.0, "predicted_n": 128, "predicted_ms": 1000.0}}


class Server(HTTPServer):
    """Answers as it was told and keeps what it was asked."""

    answer: Any = OLLAMA
    asked: list[dict[str, Any]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))
        text = json.dumps(self.server.answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(("127.0.0.1", 0), Handler)
    found.asked = []
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(("kind", "answer"), [("ollama", OLLAMA), ("llama-server", LLAMA)])
def test_the_servers_own_figures_are_read(server: Server, kind: str, answer: Any) -> None:
    server.answer = answer
    rows = run_server(ServerRun(kind, "llama3.1:8b", address(server), repetitions=2), SUBJECT)
    assert [row.metric for row in rows] == ["decode_tokens_per_s", "prefill_tokens_per_s"] * 2
    assert {row.value for row in rows} == {128.0, 4000.0}
    # The first answer warms up, and no prompt begins like the one before it.
    assert len(server.asked) == 3
    assert len({body["prompt"].split()[0] for body in server.asked}) == 3


@pytest.mark.parametrize(
    "where", ["http://192.168.1.5:11434", "https://127.0.0.1:1", "http://example.org", "file:///x"]
)
def test_only_this_machine_is_asked(where: str) -> None:
    with pytest.raises(WillItRunError, match="not a server on this machine"):
        requests_of(ServerRun("ollama", "x", where))


@pytest.mark.parametrize("answer", [{}, [], {"eval_count": 0}, {"timings": 3}, {"eval_count": "many"}])
def test_an_answer_without_speed_is_refused(server: Server, answer: Any) -> None:
    server.answer = answer
    with pytest.raises(WillItRunError, match="says nothing of its speed"):
        run_server(ServerRun("ollama", "x", address(server)), SUBJECT)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(WillItRunError, match="does not answer"):
        run_server(ServerRun("ollama", "x", "http://127.0.0.1:9", timeout_s=2.0), SUBJECT)


def test_the_command_prints_what_it_will_send_and_keeps_the_rows(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--on", "rtx-4090", "--quant", "q4_k_m", "--address", address(server), "--name", "llama3.1:8b"]
    shown = CliRunner().invoke(app, ["bench", "llama-3.1-8b", *options, "--dry-run"])
    assert shown.exit_code == 0
    assert shown.output.count("POST http://127.0.0.1") == 4
    assert not server.asked
    done = CliRunner().invoke(app, ["bench", "llama-3.1-8b", *options, "--save", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "of the prediction" in done.output
    monkeypatch.setenv("WILLITRUN_CATALOGS", str(tmp_path))
    kept = load_catalog(overlays="user").measurements
    assert sum(1 for row in kept.values() if row.source_url == "user") == 6


def test_rows_of_the_same_id_are_kept_once(server: Server, tmp_path: Path) -> None:
    rows = run_server(ServerRun("ollama", "x", address(server), repetitions=1), SUBJECT)
    save_overlay(rows, tmp_path)
    path = save_overlay(rows, tmp_path)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_a_tools_output_is_compared(tmp_path: Path) -> None:
    log = tmp_path / "run.txt"
    log.write_text(
        "eval count:           120 token(s)\neval rate:            103.16 tokens/s\n", encoding="utf-8"
    )
    done = CliRunner().invoke(
        app, ["calibrate", str(log), "--model", "llama-3.1-8b", "--on", "rtx-4090", "--quant", "q4_k_m"]
    )
    assert done.exit_code == 0, done.output
    assert "decode_tokens_per_s 103.2" in done.output
