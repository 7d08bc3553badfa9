"""The README and the pages of the documentation show code that runs, commands that exist, and outputs that are true."""

from __future__ import annotations

import ast
import doctest
import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import willitrun

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
if not DOCS.is_dir():
    pytest.skip("the documentation is not part of this distribution", allow_module_level=True)

PAGES = [
    ROOT / "README.md",
    *sorted(
        page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0] not in ("catalog", "_build")
    ),
]
BLOCK = re.compile(r"^```(\{code-cell\} ipython3|python|console|bash)\n(.*?)^```$", re.M | re.S)
ELSEWHERE = {
    "docs/tutorials/plan-a-fleet.md": "frames of six engines: tests/interop/test_engines.py",
    "docs/how-to/choose-and-cost.md": "quotes of other packages: tests/interop/test_price_packages.py",
    "docs/how-to/own-network.md": "PyTorch and ONNX: tests/interop/test_own_networks.py",
}
"""Pages whose Python needs packages or a network that this test does without."""
PARSED_ONLY = (["bench"], ["mcp"], ["catalog", "check"], ["catalog", "report"])
"""Commands that speak to a server, never end, or take long and are tested where they are made."""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *kinds: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind.split("}")[0] in kinds]


# Notebooks are run by `make docs`; here they only set the stage for the plain blocks of the same page.
PYTHON = [page for page in PAGES if blocks(page, "python") and name(page) not in ELSEWHERE]
CONSOLE = [page for page in PAGES if blocks(page, "console", "bash")]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the files which the examples name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    make = import_module("checkpoints.conftest").Writers()
    (tmp_path / "path" / "to").mkdir(parents=True)
    model = make.gguf(make.metadata, make.llama_tensors())
    (tmp_path / "path" / "to" / "model.gguf").write_bytes(model)
    for log in ("server.log", "log.txt"):
        (tmp_path / log).write_text("CUDA error: out of memory\n", "utf-8")
    return tmp_path


def promised(source: str) -> dict[int, Any]:
    """Line -> the literal with which its comment begins, if it begins with one."""
    found = {}
    for number, line in enumerate(source.splitlines(), 1):
        match = re.search(r"  # ('[^']*'|\d[\d_.]*|True|False|None)(?=$|[:;, ])", line)
        if match and not match[1].endswith("."):
            found[number] = ast.literal_eval(match[1])
    return found


def run(source: str, names: dict[str, Any]) -> int:
    """Run a block, and count the values that its comments promise and that came out."""
    said, kept = promised(source), 0
    for statement in ast.parse(source).body:
        code = ast.Module([statement], [])
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), "<block>", "eval"), names)  # noqa: S307
            if statement.end_lineno in said:
                assert value == said[statement.end_lineno], (ast.unparse(statement), value)
                kept += 1
        else:
            exec(compile(code, "<block>", "exec"), names)
    return kept


@pytest.mark.parametrize("page", PYTHON, ids=name)
def test_python_on_a_page_runs(page: Path, desk: Path) -> None:
    names: dict[str, Any] = {"__name__": "page", "w": willitrun}
    kept = 0
    for source in blocks(page, "python", "{code-cell"):
        if ">>> " in source:
            test = doctest.DocTestParser().get_doctest(source, names, name(page), None, 0)
            assert doctest.DocTestRunner().run(test).failed == 0
        else:
            kept += run(source, names)
    assert kept >= (2 if page.name == "README.md" else 0)


def test_promises_are_checked() -> None:
    assert run("1 + 1  # 2: as always", {}) == 1
    with pytest.raises(AssertionError):
        run("'a' + 'b'  # 'ba'", {})


def commands(page: Path) -> list[list[str]]:
    found = []
    for text in blocks(page, "console", "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s{2,}#.*", "", line.removeprefix("$ "))
            # The README sets two short commands on one line.
            found += [shlex.split(part) for part in re.split(r"\s{2,}(?=willitrun )", line) if part.strip()]
    return [words for words in found if words[0] == "willitrun"]


def unknown_options(arguments: list[str], context: Any) -> set[str]:
    """Options that the command which the arguments name does not have; for what needs a file or a server."""
    for word in arguments:
        command = getattr(context, "commands", {}).get(word)
        if command is None:
            break
        context = command
    known = {
        option for parameter in context.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    return {word.split("=")[0] for word in arguments if word.startswith("-")} - known


def test_commands_of_fixes_exist() -> None:
    """What a troubleshooting entry tells people to type."""
    typer = pytest.importorskip("typer")
    from willitrun.cli.app import app

    told = [
        shlex.split(step.command)[1:]
        for entry in dict(willitrun.load_catalog().troubleshooting).values()
        for step in (*entry.causes, *entry.fixes)
        if step.command.startswith("willitrun ")
    ]
    assert len(told) > 10
    group = typer.main.get_command(app)
    for arguments in told:
        assert arguments[0] in group.commands, arguments
        assert unknown_options(arguments, group) == set(), arguments


@pytest.mark.parametrize("page", CONSOLE, ids=name)
def test_commands_on_a_page_exist(page: Path, desk: Path) -> None:
    typer = pytest.importorskip("typer")
    from typer.testing import CliRunner

    from willitrun.cli.app import app

    for words in commands(page):
        arguments = words[1:]
        if ">" in arguments:
            arguments = arguments[: arguments.index(">")]
        missing = [
            word for word in arguments if re.search(r"\.(?:json|jsonl|onnx|txt|whl)$|/$|^\.\./", word)
        ]  # fmt: skip
        if any(arguments[: len(known)] == known for known in PARSED_ONLY) or (
            missing and not all((desk / file).exists() for file in missing)
        ):
            assert unknown_options(arguments, typer.main.get_command(app)) == set(), words
            continue
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code in (0, 1), (words, result.output[-500:])
        assert not isinstance(result.exception, Exception), words


def test_make_commands_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        named = set(re.findall(r"\bmake ([a-z-]+)", page.read_text("utf-8")))
        assert named <= targets, (page.name, named - targets)


def test_json_on_a_page_is_json() -> None:
    for page in PAGES:
        for text in re.findall(r"^```json\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S):
            json.loads(text)
