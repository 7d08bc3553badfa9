"""Drive a runtime that already runs on this machine, and read what it says of its own speed.

Only a server on the loopback interface is asked, and only with the requests that `requests_of` lists: whoever starts a
run can read them first. Both servers report counts and times themselves, so nothing here measures.

Fields: https://github.com/ollama/ollama/blob/main/docs/api.md (``POST /api/generate``) and
https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md (``POST /completion``).
"""

from __future__ import annotations

import csv
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from willitrun.frozen import frozen
from willitrun.interop.benchmark_rows import Subject, fail, parse_json, record
from willitrun.records.measurements import Measurement

__all__ = ["SERVERS", "ServerRun", "requests_of", "run_server", "save_overlay"]

#: Server -> (default address, path).
SERVERS: dict[str, tuple[str, str]] = {
    "ollama": ("http://127.0.0.1:11434", "/api/generate"),
    "llama-server": ("http://127.0.0.1:8080", "/completion"),
}
#: Answers are small; a server that sends more is not one of these.
MOST_BYTES = 4 << 20
#: A prompt of fewer tokens says more about start-up than about prefill.
LEAST_PROMPT = 32


@frozen
class ServerRun:
    """What to ask a server.

    Attributes
    ----------
    server
        ``ollama`` or ``llama-server``.
    name
        Ollama's name of the model (``llama3.1:8b``); llama-server has one model and needs none.
    address
        ``http://127.0.0.1:port``; None is the server's default.
    prompt_tokens, output_tokens, repetitions
        About how long the prompt is, how many tokens are generated, and how often. The first answer warms up and
        does not count.
    timeout_s
        Longest wait for one answer [s].
    """

    server: str
    name: str = ""
    address: str | None = None
    prompt_tokens: int = 512
    output_tokens: int = 128
    repetitions: int = 3
    timeout_s: float = 600.0


def requests_of(run: ServerRun) -> tuple[tuple[str, dict[str, Any]], ...]:
    """The requests of a run, as (address, body), the warm-up first.

    Every prompt starts with its number: a server that keeps the cache of the last prompt must prefill anew.

    >>> address, body = requests_of(ServerRun("ollama", "llama3.1:8b", repetitions=1))[0]
    >>> address, body["model"], body["options"]["num_predict"]
    ('http://127.0.0.1:11434/api/generate', 'llama3.1:8b', 128)
    """
    if run.server not in SERVERS:
        raise fail("server", f"is {run.server!r}.", f"Servers: {', '.join(SERVERS)}.")
    if min(run.prompt_tokens, run.output_tokens, run.repetitions) < 1:
        raise fail("run", "asks for nothing.", "Tokens and repetitions are whole numbers above 0.")
    default, path = SERVERS[run.server]
    base = _loopback(run.address or default)
    found = []
    for number in range(run.repetitions + 1):
        # A word of the English alphabet is about a token in every vocabulary.
        prompt = f"{number} " + "one two three four five six seven eight nine ten " * (
            run.prompt_tokens // 10 + 1
        )
        prompt = " ".join(prompt.split()[: run.prompt_tokens])
        if run.server == "ollama":
            options = {"num_predict": run.output_tokens, "temperature": 0, "seed": 1}
            body = {"model": run.name, "prompt": prompt, "stream": False, "raw": True, "options": options}
        else:
            body = {"prompt": prompt, "n_predict": run.output_tokens, "temperature": 0, "cache_prompt": False}
            body |= {"ignore_eos": True, "stream": False}
        found.append((base + path, body))
    return tuple(found)


def _loopback(address: str) -> str:
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        near = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = False
    if parts.scheme != "http" or not near:
        raise fail("address", f"{address!r} is not a server on this machine.", "Use http://127.0.0.1:port.")
    return f"http://{parts.netloc}"


def run_server(run: ServerRun, subject: Subject) -> tuple[Measurement, ...]:
    """Ask the server, one request after another, and read its own figures.

    Parameters
    ----------
    run
        What to ask.
    subject
        Model, device and format that the server does not name.

    Returns
    -------
    tuple of Measurement
        Decode and prefill speed per repetition, ready for `willitrun.calibrate`.

    Raises
    ------
    WillItRunError
        The server cannot be reached, answers with an error, or says nothing of its speed.
    """
    found: list[Measurement] = []
    for number, (address, body) in enumerate(requests_of(run)):
        answer = _ask(address, body, run.timeout_s)
        if number:
            found += _read(run.server, answer, f"answer {number}", subject)
    return tuple(found)


def _ask(address: str, body: dict[str, Any], timeout_s: float) -> Any:
    request = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        # No proxy: an address of this machine is meant for this machine.
        with build_opener(ProxyHandler({})).open(request, timeout=timeout_s) as answer:
            text = answer.read(MOST_BYTES + 1)
    except (URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise fail(
            address, f"does not answer: {reason}.", "Start the server, and load the model once."
        ) from error
    if len(text) > MOST_BYTES:
        raise fail(address, f"sent more than {MOST_BYTES} bytes.", "Is it the server that was named?")
    return parse_json(text.decode("utf-8", "replace"), address)


def _read(server: str, answer: Any, place: str, subject: Subject) -> list[Measurement]:
    if server == "ollama":
        prompt, prompt_s = _number(answer, "prompt_eval_count"), _number(answer, "prompt_eval_duration") / 1e9
        output, output_s = _number(answer, "eval_count"), _number(answer, "eval_duration") / 1e9
        runtime = "ollama"
    else:
        timings = answer.get("timings") if isinstance(answer, dict) else None
        prompt, prompt_s = _number(timings, "prompt_n"), _number(timings, "prompt_ms") / 1e3
        output, output_s = _number(timings, "predicted_n"), _number(timings, "predicted_ms") / 1e3
        runtime = "llama.cpp"
    if output < 2 or output_s <= 0:
        raise fail(place, "says nothing of its speed.", "Ask for more output tokens.")
    common: dict[str, Any] = {"runtime": runtime, "prompt_tokens": max(int(prompt), 1), "concurrency": 1}
    decode = record(
        place,
        subject,
        metric="decode_tokens_per_s",
        value=output / output_s,
        output_tokens=int(output),
        **common,
    )
    if prompt < LEAST_PROMPT or prompt_s <= 0:
        return [decode]
    prefill = record(
        place, subject, metric="prefill_tokens_per_s", value=prompt / prompt_s, output_tokens=1, **common
    )
    return [decode, prefill]


def _number(answer: Any, name: str) -> float:
    value = answer.get(name, 0) if isinstance(answer, dict) else 0
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def save_overlay(rows: Sequence[Measurement], folder: Path) -> Path:
    """Write measurements as an overlay that ``WILLITRUN_CATALOGS`` may name; rows of the same id are replaced.

    Returns
    -------
    Path
        ``<folder>/measurements/own.csv``.
    """
    path = folder / "measurements" / "own.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [name for name in Measurement.model_fields if name != "cite"]
    kept: dict[str, dict[str, Any]] = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as stream:
            kept = {row["id"]: row for row in csv.DictReader(stream)}
    for row in rows:
        raw = row.model_dump(mode="json", exclude_none=True)
        kept[row.id] = {name: raw.get(name, "") for name in names}
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(kept.values())
    return path
