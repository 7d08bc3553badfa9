"""Formulas live in kernels: elsewhere quantities are passed, added up and packed, never multiplied or divided.

The rule: no product, quotient, remainder or power with an operand whose name carries bytes or a rate. Sums and
differences are packing (the terms of an estimate sum to it); a second formula for a quantity is not.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import willitrun

PACKAGE = Path(willitrun.__path__[0])
FLOORS = (
    "estimators/*.py",
    "planning/*.py",
    "verdicts.py",
    "explanations.py",
    "links.py",
    "recommendations.py",
    "comparisons.py",
    "costs.py",
)
QUANTITIES = ("_bytes", "_per_s", "_flops", "_flop")
FORMULA = (ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
ARRAY_FORMULA = {"multiply", "divide", "true_divide", "floor_divide", "power", "dot", "matmul", "prod"}
# The value behind these is the quantity itself.
TRANSPARENT = {"best", "low", "high", "sum", "min", "max", "astype", "item", "ravel"}

EXEMPT = {
    ("estimators/calibration_rows.py", None): "residuals divide what was measured by what the kernel predicts",
    ("estimators/diffusion_evaluation.py", None): "stage activations of a pipeline; not yet in the kernels",
    ("estimators/diffusion_packing.py", None): "time to move a component over PCIe; not yet in the kernels",
}  # fmt: skip


def carrier(node: ast.expr) -> str:
    """The name that a value goes by: ``row.total_bytes.best[0]`` is ``total_bytes``."""
    while True:
        match node:
            case ast.Call(func=ast.Name(id="at" | "devices_at"), args=[inner, *_]):
                # The value of a row in a column.
                node = inner
            case ast.Subscript(value=inner) | ast.Call(func=inner) | ast.UnaryOp(operand=inner):
                node = inner
            case ast.Attribute(value=inner, attr=name) if name in TRANSPARENT:
                node = inner
            case ast.Attribute(attr=name):
                return name
            case ast.Name(id=name):
                return name
            case _:
                return ""


def formulas(source: str) -> list[tuple[str, int, str]]:
    """Function, line and text of every formula on a quantity."""
    found: list[tuple[str, int, str]] = []

    def visit(node: ast.AST, owner: str) -> None:
        if isinstance(node, ast.FunctionDef):
            owner = node.name
        operands: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, FORMULA):
            operands = [node.left, node.right]
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, FORMULA):
            operands = [node.target, node.value]
        elif isinstance(node, ast.Call) and carrier(node.func) in ARRAY_FORMULA:
            operands = list(node.args)
        if any(carrier(operand).endswith(QUANTITIES) for operand in operands):
            found.append((owner, getattr(node, "lineno", 0), ast.unparse(node)))
        for child in ast.iter_child_nodes(node):
            visit(child, owner)

    visit(ast.parse(source), "")
    return found


def modules() -> list[Path]:
    return sorted(path for pattern in FLOORS for path in PACKAGE.glob(pattern))


def test_no_second_formula() -> None:
    assert len(modules()) > 30
    problems = []
    for path in modules():
        name = path.relative_to(PACKAGE).as_posix()
        for owner, line, text in formulas(path.read_text("utf-8")):
            if (name, owner) not in EXEMPT and (name, None) not in EXEMPT:
                problems.append(f"{name}:{line} in {owner}: {text}")
    assert problems == []


def test_every_exemption_is_needed() -> None:
    for (name, owner), reason in EXEMPT.items():
        assert reason
        path = PACKAGE / name
        if not path.exists():
            continue
        owners = {found for found, _, _ in formulas(path.read_text("utf-8"))}
        assert owners if owner is None else owner in owners, f"{name} needs no exemption any more"


@pytest.mark.parametrize(
    "planted",
    [
        "def pack(row):\n    return row.total_bytes / row.memory_bytes_per_s",
        "def pack(row):\n    weights_bytes = row.parameters\n    weights_bytes *= 2\n    return weights_bytes",
        "def pack(found):\n    return found.total_bytes.best * 1.1",
        "def pack(rows):\n    return rows['kv_cache_bytes'][0] // 2 if rows else kv_cache_bytes[0] // 2",
        "def pack(found):\n    return 2.0 * found.layout.kv_cache_bytes.sum()",
        "def pack(found):\n    return np.divide(found.work, found.peak_flop_per_s)",
        "def pack(found):\n    return -found.decode_tokens_per_s ** 2",
        "def pack(found):\n    return max(found.total_bytes, 1) + found.total_bytes % 512",
        "share = 100 * kv_bytes(found)",
    ],
)
def test_planted_formulas_are_caught(planted: str) -> None:
    assert formulas(planted)


@pytest.mark.parametrize(
    "harmless",
    [
        "def pack(row):\n    return row.total_bytes - row.repeating",
        "def pack(rows):\n    return sum(row.total_bytes for row in rows)",
        "def pack(load):\n    return load.context_tokens * load.concurrency",
        "def pack(found):\n    return Interval.exact(float(found.total_bytes))",
    ],
)
def test_packing_is_no_formula(harmless: str) -> None:
    assert formulas(harmless) == []


def imported(source: str) -> set[str]:
    """Every module that a source imports, wherever."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def foreign(names: set[str]) -> set[str]:
    allowed = {*sys.stdlib_module_names, "numpy"}
    # How a value class is made is no fact about the world: `willitrun.frozen` stands for `dataclasses`.
    own = {
        name
        for name in names
        if name in ("willitrun.kernels", "willitrun.frozen") or name.startswith("willitrun.kernels.")
    }
    return {name for name in names - own if name.partition(".")[0] not in allowed}


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernels").glob("*.py")), ids=lambda path: path.stem)
def test_kernels_know_numpy_and_nothing_else(path: Path) -> None:
    assert foreign(imported(path.read_text("utf-8"))) == set()


@pytest.mark.parametrize(
    "planted",
    [
        "import pydantic",
        "from willitrun.records.results import Term",
        "def f():\n    import scipy.special",
        "from . import x",
    ],
)
def test_a_foreign_import_is_caught(planted: str) -> None:
    assert foreign(imported(planted))


IMPURE = {"open", "print", "input", "eval", "exec", "__import__"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernels").glob("*.py")), ids=lambda path: path.stem)
def test_kernels_do_nothing_but_compute(path: Path) -> None:
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & IMPURE
    assert not imported(path.read_text("utf-8")) & {"os", "sys", "pathlib", "subprocess", "time", "random"}
