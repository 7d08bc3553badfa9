"""Numbers of hand-written pages, computed when a page is built.

``{{ 100 * residual("llm-speed", "device", "decode, batch 1, MoE", "median") :.0f }}`` in a page is an expression of the
small grammar of `willitrun.expressions`, with a format behind it if it wants one. Beside the engine's functions it may
read calibrations, published accuracy reports, recorded results, and constants of the code.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from willitrun import describe_machine, load_catalog
from willitrun.expressions import evaluate_expression, show_value
from willitrun.kernels.scores import FIT_FACTORS

if TYPE_CHECKING:  # the tests of the numbers run where the documentation's tools are not installed
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
EXPRESSION = re.compile(r"\{\{\s*(.+?)(?:\s+:([,.\d]*[dfg%]))?\s*\}\}")
_CODE = re.compile(r"^(`{3,}).*?^\1[ \t]*$|(?<!`)(`+)(?!`).+?(?<!`)\2(?!`)", re.M | re.S)


def residual(calibration: str, held_out: str, task: str, field: str) -> float:
    """A figure of an error table that a calibration carries."""
    rows = [
        row
        for row in load_catalog().calibrations[calibration].residuals
        if (row.get("held_out"), row.get("task")) == (held_out, task)
    ]
    (row,) = rows
    return float(row[field])


def reported(report: str, column: str, *cells: str) -> float:
    """The first number in a column of a published report (``accuracy/REPORT``), in the row that begins with these cells."""
    head: list[str] = []
    for line in (ROOT / "accuracy" / report).read_text("utf-8").splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not row or not head:
            head = row
        elif tuple(row[: len(cells)]) == cells and column in head:
            return float(re.findall(r"\d[\d.]*", row[head.index(column)])[0])
    raise LookupError(f"{report} has no row {cells} with a column {column!r}.")


@cache
def results() -> dict[str, Any]:
    """What commands printed when they were run: ``accuracy/results.toml``."""
    return tomllib.loads((ROOT / "accuracy" / "results.toml").read_text("utf-8"))


def result(name: str, figure: str) -> float:
    """A figure that a command printed on a recorded day."""
    return float(results()[name]["figures"][figure])


def constant(module: str, name: str) -> float:
    """A number that a module of the library holds, or one that a tool of the checkout states; tools are only read."""
    if module.startswith("willitrun"):
        value = getattr(import_module(module), name)
    else:
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8"))
        values = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == name
        ]
        value = ast.literal_eval(values[-1])
    assert isinstance(value, int | float), (module, name)
    return value


def default(module: str, function: str, parameter: str) -> float:
    """The default of a function's parameter."""
    value = inspect.signature(getattr(import_module(module), function)).parameters[parameter].default
    assert isinstance(value, int | float), (module, function, parameter)
    return value


def errors(*cells: str) -> str:
    """Median / mean error of images per second, as ``accuracy/vision/REPORT.md`` has it [%]."""
    return " / ".join(
        f"{reported('vision/REPORT.md', column, *cells):.1f}" for column in ("median %", "mean %")
    )


def factor(calibration: str, group: str, level: str) -> float:
    """What a level of a calibration multiplies by."""
    return math.exp(load_catalog().calibrations[calibration].levels[group][level])


def coefficient(calibration: str, name: str) -> float:
    """A coefficient that a calibration holds as a logarithm."""
    return math.exp(load_catalog().calibrations[calibration].coefficients[name])


def coefficients(calibration: str) -> int:
    """How many coefficients a calibration has."""
    return len(load_catalog().calibrations[calibration].coefficients)


def listed(file: str, table: str, key: str = "", value: str = "") -> int:
    """How many records of a TOML file there are, with a value where one is given."""
    rows = tomllib.loads((ROOT / file).read_text("utf-8"))[table]
    return sum(1 for row in rows if not key or row[key] == value)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "residual": residual,
    "reported": reported,
    "result": result,
    "errors": errors,
    "factor": factor,
    "coefficient": coefficient,
    "coefficients": coefficients,
    "constant": constant,
    "default": default,
    "listed": listed,
    "assumed": lambda machine: ", ".join(describe_machine(machine).assumptions),
    "fit_factor": lambda tier: FIT_FACTORS[tier],
    "calibration": lambda name: load_catalog().calibrations[name],
    "workload": lambda name: load_catalog().resolve("workload", name),
}


def evaluate(text: str) -> tuple[Any, str]:
    """Value of an expression on a page, and the field that tells its unit."""
    return evaluate_expression(text, load_catalog(), FUNCTIONS)


def _shown(match: re.Match[str]) -> str:
    value, field = evaluate(match[1])
    return format(value, match[2]) if match[2] else show_value(value, field)


def render_page(text: str) -> str:
    """A page with its expressions evaluated, those in code left alone."""
    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [EXPRESSION.sub(_shown, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, EXPRESSION.sub(_shown, text[end:])])


def without_code(text: str) -> str:
    """A page with its code blanked out: every place keeps its line and its column."""
    return _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _on_source_read(app: Sphinx, page: str, source: list[str]) -> None:
    if not page.startswith("catalog/"):
        source[0] = render_page(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Evaluate the expressions of pages as they are read."""
    app.connect("source-read", _on_source_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
