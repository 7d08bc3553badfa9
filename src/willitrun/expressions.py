"""Numbers in prose that the engine computes when the prose is shown.

Entries write ``{{ accelerator("rtx-4090").memory_bandwidth }}``; a small grammar (calls of a few named
functions with literal arguments, attributes, arithmetic) is evaluated on a syntax tree. Nothing is executed.
"""

from __future__ import annotations

import ast
import inspect
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from willitrun.catalog import Catalog
from willitrun.errors import CatalogError, MissingDataError
from willitrun.intervals import Interval
from willitrun.records.bases import Record
from willitrun.records.knowledge import GlossaryEntry, TroubleshootingEntry
from willitrun.records.presentation import format_field
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.units import format_count

__all__ = ["evaluate_expression", "render_entry", "rendered_data", "render_text", "show_value"]

LONGEST = 500
"""Characters of one expression: deeper trees than the interpreter walks need more."""

_EXPRESSION = re.compile(r"\{\{\s*(.+?)\s*\}\}")
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_UNITS = {
    "memory_bandwidth": "bytes_per_s",
    "memory": "bytes",
    "memory_marketed": "bytes",
    "disk": "bytes",
    "link_bandwidth": "bytes_per_s",
    "fp32": "flop_per_s",
    "fp16_tensor": "flop_per_s",
    "bf16_tensor": "flop_per_s",
    "int8": "flop_per_s",
}


def _functions(catalog: Catalog) -> dict[str, Callable[..., Any]]:
    from willitrun.estimators.memory import estimate_memory
    from willitrun.estimators.speed import estimate_speed
    from willitrun.verdicts import assess

    def split(options: dict[str, Any]) -> dict[str, Any]:
        fields = {name: options.pop(name) for name in list(options) if name in Workload.model_fields}
        runtime = {
            name: options.pop(name)
            for name in list(options)
            if name in Runtime.model_fields and name != "name"
        }
        place = {name: options.pop(name) for name in list(options) if name in Placement.model_fields}
        if fields:
            options["workload"] = Workload(**fields)
        if runtime:
            options["runtime"] = Runtime(name=options.get("runtime", "llama.cpp"), **runtime)
        if place:
            options["placement"] = Placement(**place)
        return options

    return {
        "assess": lambda *subjects, **options: assess(*subjects, catalog=catalog, **split(options)),
        "memory": lambda *subjects, **options: estimate_memory(*subjects, catalog=catalog, **split(options)),
        "speed": lambda *subjects, **options: estimate_speed(*subjects, catalog=catalog, **split(options)),
        "accelerator": lambda name: catalog.resolve("accelerator", name),
        "model": lambda name: catalog.resolve("model", name),
        "dataset": lambda name: catalog.resolve("dataset", name),
        "quantization": lambda name: catalog.resolve("quantization", name),
        "host": lambda name: catalog.resolve("host", name),
    }


def evaluate_expression(
    text: str, catalog: Catalog, functions: Mapping[str, Callable[..., Any]] | None = None
) -> tuple[Any, str]:
    """Value of an expression, and the field name that tells its unit; ``functions`` may be called beside the engine's.

    Raises
    ------
    CatalogError
        The expression uses anything but the grammar above, or a field that does not exist.
    """
    if len(text) > LONGEST:
        raise CatalogError(f"{text[:40]!r}... is longer than {LONGEST} characters.")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise CatalogError(f"{text!r} is no expression: {error}.") from error
    return _value(tree, {**_functions(catalog), **(functions or {})}, text)


def _value(node: ast.expr, functions: Mapping[str, Callable[..., Any]], text: str) -> tuple[Any, str]:
    match node:
        case ast.Constant(value=value) if isinstance(value, str | int | float | bool) or value is None:
            return value, ""
        case ast.List(elts=items):
            return [_value(item, functions, text)[0] for item in items], ""
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in functions:
            positional = [_value(argument, functions, text)[0] for argument in args]
            if any(word.arg is None for word in keywords):
                raise CatalogError(f"{text!r} uses more than calls, fields and arithmetic.")
            named = {str(word.arg): _value(word.value, functions, text)[0] for word in keywords}
            return _called(functions[name], positional, named, text), ""
        case ast.Attribute(value=inner, attr=name):
            owner, unit = _value(inner, functions, text)
            if owner is None:
                # What is not modelled has no fields; the reader is told "unknown".
                return None, name
            public = isinstance(owner, Record) and name in type(owner).model_fields
            if isinstance(owner, Interval):
                public = name in ("low", "best", "high")
            if not public:
                raise CatalogError(f"{text!r}: {type(owner).__name__} has no field {name!r}.")
            # The ends of an interval keep the unit of the field that holds it.
            return getattr(owner, name), unit if isinstance(owner, Interval) else name
        case ast.Subscript(value=inner, slice=ast.Constant(value=key)):
            owner, _ = _value(inner, functions, text)
            if isinstance(owner, dict) and key in owner:
                return owner[key], ""
            if isinstance(owner, tuple) and isinstance(key, int) and 0 <= key < len(owner):
                return owner[key], ""
            raise CatalogError(f"{text!r}: {type(owner).__name__} has no entry {key!r}.")
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            (a, unit), (b, other) = _value(left, functions, text), _value(right, functions, text)
            same = unit and other and type(sign) is ast.Div
            if type(sign) is ast.Div and _number(b, text) == 0:
                raise CatalogError(f"{text!r} divides by zero.")
            return _OPERATORS[type(sign)](_number(a, text), _number(b, text)), "" if same else unit or other
    raise CatalogError(f"{text!r} uses more than calls, fields and arithmetic.")


def _called(function: Callable[..., Any], positional: list[Any], named: dict[str, Any], text: str) -> Any:
    """What a function answers; None where the facts for it are missing."""
    try:
        inspect.signature(function).bind(*positional, **named)
    except TypeError as error:
        raise CatalogError(f"{text!r}: {error}.") from error
    try:
        return function(*positional, **named)
    except MissingDataError:
        return None


def _number(value: Any, text: str) -> float:
    if isinstance(value, Interval):
        return value.best
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise CatalogError(f"{text!r}: {value!r} is not a number.")


def show_value(value: Any, field: str) -> str:
    """Show a value in the unit that belongs to its field; of an interval the best estimate."""
    if value is None:
        return "unknown"
    if isinstance(value, Interval):
        value = value.best
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if field in ("parameters", "active_parameters"):
        return format_count(value)
    return format_field(_UNITS.get(field, field), value)


def render_text(text: str, catalog: Catalog) -> str:
    """Prose with every ``{{ expression }}`` replaced by its value in a readable unit."""
    return _EXPRESSION.sub(lambda match: show_value(*evaluate_expression(match[1], catalog)), text)


def rendered_data(record: Record, catalog: Catalog, fields: Collection[str] | None = None) -> Any:
    """What a record dumps as JSON, with the texts of the catalog in it as a reader sees them.

    ``fields`` hold such texts, all if None: what was read in somebody's log is no expression of ours.

    >>> from willitrun.catalog import load_catalog
    >>> catalog = load_catalog()
    >>> "{{" in str(rendered_data(catalog.glossary["kv-cache"], catalog))
    False
    """

    def shown(value: Any) -> Any:
        if isinstance(value, str):
            return render_text(value, catalog)
        if isinstance(value, dict):
            return {key: shown(each) for key, each in value.items()}
        return [shown(each) for each in value] if isinstance(value, list) else value

    data = record.model_dump(mode="json")
    return {name: shown(value) if fields is None or name in fields else value for name, value in data.items()}


def render_entry(ref: str, catalog: Catalog) -> str:
    """The whole text behind a link of a verdict, as its page of the documentation has it.

    Examples
    --------
    >>> from willitrun.catalog import load_catalog
    >>> "What helps" in render_entry("troubleshooting:cuda-out-of-memory", load_catalog())
    True
    """
    entry = catalog.entry(ref)
    lines: list[str] = [entry.name, ""]
    if isinstance(entry, GlossaryEntry):
        lines += [entry.definition, "", entry.explanation]
        for title, text in (("Example", entry.example), ("In a workflow", entry.workflow)):
            lines += ["", title, text] if text else []
        if entry.fields:
            lines += ["", "Carried by: " + ", ".join(entry.fields)]
    elif isinstance(entry, TroubleshootingEntry):
        lines += [f"{entry.severity}. {entry.summary}", "", "Causes, likeliest first"]
        for number, cause in enumerate(entry.causes, 1):
            lines.append(f"{number}. {cause.cause}")
            lines += [f"   check: {text}" for text in (cause.check, cause.command) if text]
        lines += ["", "What helps"]
        for fix in entry.fixes:
            lines.append(f"- {fix.fix}" + (f" ({fix.versions})" if fix.versions else ""))
            lines += [f"  $ {line}" for line in fix.command.splitlines()]
            lines += [f"  effect: {fix.effect}"] if fix.effect else []
        lines += ["", "What does not help", *(f"- {text}" for text in entry.dead_ends)]
        lines += ["", f"Verified with: {entry.verified_with}"] if entry.verified_with else []
    else:
        raise CatalogError(f"{ref!r} is no entry with a text.")
    related = [catalog.table(ref.partition(":")[0])[name].name for name in entry.related]
    lines += ["", "Related: " + ", ".join(related)] if related else []
    for name in dict.fromkeys(citation.source for citations in entry.cite.values() for citation in citations):
        lines.append(f"Source: {catalog.sources[name].title}, {catalog.sources[name].url}")
    return render_text("\n".join(lines), catalog)
