"""The command line: what it prints, how it exits, and that errors are one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

from typer.testing import CliRunner, Result

from willitrun import Verdict, assess, describe_machine
from willitrun.checkups import DoctorReport, doctor
from willitrun.cli.app import app
from willitrun.cli.options import machine_argument, runtime_argument, tokens
from willitrun.records.explanations import Explanation
from willitrun.records.machines import Machine

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB "
    "of which 1.02 GiB is free.\n"
)
FITS = ["llama-3.1-8b", "--on", "rtx-4090", "--quant", "q4_k_m"]
FAILS = ["deepseek-v3", "--on", "rtx-4090", "--runtime", "vllm"]


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def said(result: Result) -> str:
    """Output in one line: panels and tables break lines where the terminal ends."""
    return re.sub(r"\s+", " ", result.output)


def meets_schema(text: str, record: type[Any]) -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    value = json.loads(text)
    jsonschema.Draft202012Validator(record.model_json_schema(mode="serialization")).validate(value)
    return value


def test_assess_says_the_verdict_first() -> None:
    done = run("assess", *FITS)
    assert done.exit_code == 0, done.output
    first = done.stdout.splitlines()[0]
    assert first.startswith("llama-3.1-8b q4_k_m on NVIDIA GeForce RTX 4090: runs comfortably")
    for heading in ("Memory", "Speed (90 % intervals", "Why", "Read more", "Run it"):
        assert heading in done.stdout
    assert done.stderr == ""


def test_assess_exits_with_one_where_it_does_not_run() -> None:
    done = run("assess", *FAILS)
    assert done.exit_code == 1
    assert "will not run" in said(done)
    assert "Run it" not in done.stdout


def test_assess_takes_every_option() -> None:
    done = run(
        "assess", "llama-3.1-8b", "--on", "rtx-3090,rtx-3090", "-q", "q8_0", "-c", "32k", "--prompt", "1k", "--output",
        "64", "--concurrency", "2", "-r", "llama.cpp:cuda", "--kv", "q8_0", "--memory", "nameplate", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    inputs = meets_schema(done.stdout, Verdict)["inputs"]
    assert inputs["workload"] | {"task": ""} == {
        "task": "",
        "context_tokens": 32768,
        "prompt_tokens": 1024,
        "output_tokens": 64,
        "concurrency": 2,
    }
    assert len(inputs["accelerators"]) == 2
    assert inputs["runtime"]["kv_dtype_k"] == "q8_0"
    assert inputs["memory"] == "nameplate"


def test_assess_takes_the_options_of_pictures() -> None:
    done = run(
        "assess", "resnet-50", "--on", "rtx-3060-12gb", "-b", "256", "--image-size", "224", "--precision", "amp-fp16",
        "--execution", "eager", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    load = meets_schema(done.stdout, Verdict)["inputs"]["workload"]
    assert (load["batch_size"], load["image_size"], load["precision"]) == (256, 224, "amp-fp16")


def test_json_is_the_verdict() -> None:
    done = run("assess", *FITS, "--json")
    assert Verdict.model_validate_json(done.stdout) == assess(
        "llama-3.1-8b", "rtx-4090", quantization="q4_k_m"
    )


def test_explain() -> None:
    done = run("explain", *FITS)
    assert done.exit_code == 0, done.output
    assert "Memory: weights" in done.stdout
    assert "Sources" in done.stdout
    found = meets_schema(run("explain", *FITS, "--json").stdout, Explanation)
    assert found["steps"]


def test_detect(tmp_path: Path) -> None:
    done = run("detect")
    assert done.exit_code == 0, done.output
    assert "Host" in done.stdout
    assert "Probes" in done.stdout
    meets_schema(run("detect", "--json").stdout, Machine)
    capture = tmp_path / "capture.json"
    assert run("detect", "--capture", str(capture)).exit_code == 0
    replayed = Machine.from_capture(json.loads(capture.read_text("utf-8")))
    assert replayed.host.ram_total_bytes


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("doctor")
    assert done.exit_code == (0 if doctor().healthy else 1)
    folder = Path(__file__).resolve().parents[1] / "captures"
    for name, code in (("x4-slot", 1), ("rtx-4060-ti-16gb", 0)):
        recorded = json.loads((folder / f"{name}.json").read_text("utf-8"))["capture"]
        machine = Machine.from_capture(recorded)
        with monkeypatch.context() as patched:
            patched.setattr("willitrun.hardware.detection.detect", lambda machine=machine: machine)
            assert run("doctor").exit_code == code
            assert run("doctor", "--json").exit_code == code
    assert done.stdout.strip()
    report = meets_schema(run("doctor", "--json").stdout, DoctorReport)
    assert isinstance(report, dict)


def test_diagnose_a_file(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(OOM, "utf-8")
    done = run("diagnose", str(log))
    assert done.exit_code == 0
    for word in ("cause:", "fix:", "does not help:", "line 1:"):
        assert word in done.stdout
    found = json.loads(run("diagnose", str(log), "--json").stdout)
    assert found[0]["entry"] == "cuda-out-of-memory"
    assert "{{" not in json.dumps(found[0]["fixes"])


def test_diagnose_standard_input() -> None:
    done = run("diagnose", "-", stdin=OOM)
    assert done.exit_code == 0
    assert "out of memory" in done.stdout.lower()
    binary = run("diagnose", "-", stdin=b"\xff\xfe\x00 CUDA out of memory \x80\x81")
    assert binary.exit_code in (0, 1)
    assert binary.exception is None or isinstance(binary.exception, SystemExit)


def test_diagnose_finds_nothing(tmp_path: Path) -> None:
    log = tmp_path / "fine.log"
    log.write_text("all is well\n", "utf-8")
    done = run("diagnose", str(log))
    assert done.exit_code == 1
    assert "No known failure" in done.stdout
    assert json.loads(run("diagnose", str(log), "--json").stdout) == []


def test_glossary() -> None:
    done = run("glossary", "kv-cache")
    assert done.exit_code == 0, done.output
    assert "Source:" in done.stdout
    assert "{{" not in done.stdout
    assert run("glossary", "glossary:imagenet").exit_code == 0
    assert "What helps" in run("glossary", "troubleshooting:cuda-out-of-memory").stdout
    told = run("glossary", "kv-cache", "--json").stdout
    assert json.loads(told)["id"] == "kv-cache"
    assert "{{" not in told


def test_catalog_find_show_schema() -> None:
    assert "nvidia-geforce-rtx-4090" in run("catalog", "find", "rtx 4090").stdout
    shown = json.loads(run("catalog", "show", "accelerator", "rtx-4090").stdout)
    assert shown["id"] == "nvidia-geforce-rtx-4090"
    assert shown["cite"]
    schema = json.loads(run("catalog", "schema", "accelerator").stdout)
    assert schema["type"] == "object"


def test_catalog_check() -> None:
    done = run("catalog", "check")
    assert "facts cited" in said(done)
    assert done.exit_code == (0 if "\nsound" in done.stdout else 1)


def test_demo() -> None:
    done = run("demo")
    assert done.exit_code == 0, done.output
    for title in (
        "This machine",
        "ResNet-50, batch 1, RTX 3060 12 GB",
        "Llama 3.1 8B Q4_K_M at 8k, RTX 4090",
    ):
        assert title in done.stdout
    assert "launch-bound" in done.stdout


def test_versions() -> None:
    done = run("versions")
    assert done.exit_code == 0
    assert {"willitrun", "catalog", "python", "numpy"} <= {
        line.split()[0] for line in done.stdout.splitlines()
    }


@pytest.mark.parametrize(
    "command",
    ["assess", "explain", "detect", "doctor", "diagnose", "glossary", "demo", "versions", "catalog"],
)
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.stdout


# Errors


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["assess", "lama-3.1-8b", "--on", "rtx-4090"], "llama-3.1-8b"),
        (["assess", "llama-3.1-8b", "--on", "rtx-490"], "rtx-4090"),
        (["assess", "llama-3.1-8b", "--on", "h200"], "nvidia-h200-sxm-141gb"),
        (["assess", "llama-3.1-8b", "--on", "rtx-4090", "-q", "q4_k_x"], "q4_k_x"),
        (["assess", "llama-3.1-8b", "--on", "rtx-4090", "-b", "4"], "concurrency"),
        (["assess", "llama-3.1-8b", "--on", "rtx-4090", "--image-size", "224"], "takes no images"),
        (["assess", "resnet-50", "--on", "rtx-4090", "-b", "0"], "greater than 0"),
        (["assess", "llama-3.1-8b", "--on", "rtx-4090", "--runtime", "vlm"], "vllm"),
        (["assess", "llama-3.1-8b", "--on", "rtx-4090", "--kv", "q9"], "q8_0"),
        (["assess", "llama-3.1-8b", "--on", "rtx-4090", "--memory", "all"], "nameplate"),
        (["assess", "[red]nobody[/red]", "--on", "rtx-4090"], "[red]nobody[/red]"),
        (["explain", "lama-3.1-8b", "--on", "rtx-4090"], "llama-3.1-8b"),
        (["glossary", "kv-cach"], "kv-cache"),
        (["diagnose", "no-such-file.log"], "no-such-file.log"),
        (["catalog", "show", "accelerator", "rtx-490"], "rtx-4090"),
        (["catalog", "show", "acelerator", "rtx-4090"], "acelerator"),
        (["catalog", "schema", "acelerator"], "accelerator"),
    ],
)
def test_errors_are_short_and_exit_with_two(arguments: list[str], word: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert word in re.sub(r"\s+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("option", [["--context", "long"], ["--concurrency", "many"], ["--nonsense", "1"]])
def test_options_that_are_no_options(option: list[str]) -> None:
    done = run("assess", *FITS, *option)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def pipe(*arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "willitrun", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        input=stdin,
        check=False,
        env={**os.environ, **environment},
    )


def test_pipes_get_plain_text() -> None:
    done = pipe("assess", *FITS)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 110
    failed = pipe("assess", "lama-3.1-8b", "--on", "rtx-4090")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.count("\n") == 1
    assert "\x1b" not in failed.stderr


def test_a_narrow_ascii_terminal_is_no_error() -> None:
    done = pipe("assess", *FITS, COLUMNS="30", PYTHONIOENCODING="ascii", LC_ALL="C", TERM="dumb")
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_unicode_in_names_is_shown(tmp_path: Path) -> None:
    done = pipe("assess", "lläma-3.1-8b-日本", "--on", "rtx-4090", PYTHONIOENCODING="utf-8")
    assert done.returncode == 2
    assert "lläma" in done.stderr
    plain = pipe("glossary", "kv-cache", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert plain.returncode == 0, plain.stderr


# Options


def test_tokens() -> None:
    assert [tokens(text) for text in ("8192", "32k", "1M", "0.5k", None)] == [8192, 32768, 2**20, 512, None]


def test_arguments_of_the_library() -> None:
    assert machine_argument(None) is None
    assert machine_argument(["rtx-4090"]) == "rtx-4090"
    assert machine_argument(["rtx-3090", "rtx-3090"]) == ["rtx-3090", "rtx-3090"]

    def unasked() -> str:
        return pytest.fail("a name was given, or no option")

    assert runtime_argument("vllm", None, unasked) == "vllm"
    assert runtime_argument(None, None, unasked) is None
    chosen = runtime_argument("llama.cpp:vulkan", "q8_0", unasked)
    assert not isinstance(chosen, str)
    assert chosen is not None
    assert (chosen.name, chosen.backend, chosen.kv_dtype_v) == ("llama.cpp", "vulkan", "q8_0")


@pytest.mark.parametrize(
    ("quant", "suits", "kv"), [("awq-int4", "vllm", "fp8"), ("q4_k_m", "llama.cpp", "q8_0")]
)
def test_kv_formats_are_of_the_runtime_that_suits(quant: str, suits: str, kv: str) -> None:
    """However the KV format is told: the option and the two fields are one question."""
    asked = ("assess", "llama-3.1-8b", "--on", "rtx-4090", "--quant", quant, "--json")
    fields = ("--set", f"kv_dtype_k={kv}", "--set", f"kv_dtype_v={kv}")
    plain, option, spelled = (json.loads(run(*asked, *more).stdout) for more in ((), ("--kv", kv), fields))
    assert plain["inputs"]["runtime"]["name"] == suits
    assert option["inputs"] == spelled["inputs"]
    assert (option["inputs"]["runtime"]["name"], option["inputs"]["runtime"]["kv_dtype_k"]) == (suits, kv)
    assert option["memory"] == spelled["memory"]


def test_ask_answers_in_a_paragraph() -> None:
    found = run("ask", "can a 3060 12GB run llama 3.1 8b at 32k?")
    assert found.exit_code == 0
    assert "32,768 tokens" in said(found)
    assert run("ask", "tell me a joke").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["llama-3.1-8b", "--on", "rtx-3090", "-s", "mode=qlora", "-c", "2048"], "nf4"),
        (["qwen2.5-vl-7b", "--on", "rtx-4090", "-s", "images=4"], "qwen2.5-vl-7b"),
        (["llama-3.1-8b", "--on", "rtx-3090,rtx-3090", "-r", "vllm", "-q", "bf16", "-s", "tp=2"], "--tensor-parallel-size 2"),
        (["resnet-50", "--on", "rtx-4090", "-b", "64", "-s", "dataset=imagenet-1k", "-s", "split=validation"], "50,000 images"),
        (["sdxl", "--on", "rtx-4090", "-s", "offload=model", "-s", "vae_tiling=true"], "enable_model_cpu_offload"),
        (["llama-3.1-8b", "--on", "rtx-4090", "-q", "q4_k_m", "-s", "n_ubatch=2048"], "-ub 2048"),
        (["llama-3.1-8b", "--on", "cpu", "-s", "host.ram=64GiB", "-q", "q4_k_m"], "60.6 GiB"),
        (["llama-3.1-8b", "--on", "rtx-3090,rtx-3060-12gb", "-q", "q4_k_m", "-s", "placement.split=[3,1]"], "--tensor-split 3,1"),
    ],
)  # fmt: skip
def test_any_field_can_be_set(arguments: list[str], said: str) -> None:
    found = run("assess", *arguments)
    assert found.exit_code == 0, found.output
    assert said in " ".join(found.output.split())


@pytest.mark.parametrize(
    ("setting", "said"),
    [("nonsense=3", "sets no field"), ("gradient_checkpoint=full", "gradient_checkpointing"), ("mode", "says no value"), ("mode=qlorra", "Workload.mode")],
)  # fmt: skip
def test_what_sets_nothing_is_refused(setting: str, said: str) -> None:
    found = run("assess", "llama-3.1-8b", "--on", "rtx-4090", "-s", setting)
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())


def test_a_build_may_be_a_query() -> None:
    query = describe_machine(["rtx-3090", "rtx-3090"]).to_query()
    found = run("assess", "llama-3.3-70b", "--on", query, "-q", "q4_k_m")
    assert "2 x NVIDIA GeForce RTX 3090" in " ".join(found.output.split())


def test_a_log_that_is_not_there_is_no_traceback() -> None:
    found = run("calibrate", "no-such.log", "--on", "rtx-4090")
    assert found.exit_code == 2
    assert "cannot be read" in " ".join(found.output.split())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_a_log(tmp_path: Path) -> None:
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("torch.OutOfMemoryError: CUDA out of memory.\n"))
    writer.start()
    found = run("diagnose", str(pipe))
    writer.join()
    assert found.exit_code == 0
    assert "CUDA out of memory" in found.output
