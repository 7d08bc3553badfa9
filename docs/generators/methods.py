"""Method pages: each estimator's equations from its kernels, its constants from its calibrations."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from generators.markup import Page, Section, page, table, toctree
from willitrun import Catalog

SECTION = Section(
    "Methods", "methods/index", "Every estimator: equations from its kernels, constants from its calibrations"
)

# Title, page, kernels in reading order, calibrations, and whether coefficients are logarithms.
ESTIMATORS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...], bool], ...] = (
    ("Memory of weights and caches", "weights-and-caches", ("weights", "gguf_mixes", "kv_layouts", "kv_cells", "kv_pages"), (), False),
    ("Buffers, overhead and placement", "buffers", ("graph_shapes", "compute_buffers", "ggml_walk", "ggml_paths", "ggml_shelf", "overheads", "server_defaults", "placement", "host_layers", "layer_shelf"), ("memory", "system-reserve"), False),
    ("Speed of language models", "llm-speed", ("llm_speed", "llm_decode", "llm_prefill", "llm_inputs", "llm_levels"), ("llm-speed",), True),
    ("Images per second", "images", ("operators", "operator_seconds", "operator_inputs", "operator_residuals"), ("vision-speed", "vision-totals"), True),
    ("Diffusion", "diffusion", ("diffusion_memory", "diffusion_speed"), ("diffusion-speed",), True),
    ("Speech", "speech", ("speech_speed",), ("speech-speed",), False),
    ("Training", "training", ("training", "activations", "training_speed"), ("vision-training", "llm-training"), False),
    ("Input pipeline and loading", "input-pipeline", ("input_pipeline", "loading"), ("input-pipeline",), False),
    ("Peaks, spread and image tokens", "llm-machines", ("llm_peaks", "host_peaks", "llm_spread", "splits", "image_tokens"), ("network",), False),
    ("Tiers, reasons and scores", "tiers", ("placement", "reason_codes", "scores"), (), False),
    ("Energy and costs", "costs", ("costs",), ("power",), False),
    ("Services under load", "services", ("queueing",), (), False),
    ("Own measurements", "anchors", ("anchors",), ("anchors", "image-anchors"), False),
    ("Rooflines and smooth maxima", "rooflines", ("roofline", "smoothing"), (), False),
)  # fmt: skip


def pages(catalog: Catalog) -> Iterator[Page]:
    """A page per estimator, and their index."""
    for title, name, kernels, calibrations, logarithms in ESTIMATORS:
        lines = [
            f"# {title}",
            "",
            "Generated from the code that computes and from the numbers that it reads.",
            "",
        ]
        lines += ["## Equations", ""]
        for kernel in kernels:
            lines += _kernel(kernel)
        for identifier in calibrations:
            lines += _calibration(catalog.calibrations[identifier], logarithms)
        yield page(f"methods/{name}.md", lines)
    yield page(
        "methods/index.md",
        [
            "# Methods",
            "",
            "One page per estimator. Formulas stand in `willitrun/kernels/` and nowhere else; what is shown here is their own "
            "documentation. Constants are fitted and live in `catalogs/calibrations/`, each with the digest of its data.",
            "",
            *toctree([f"{name}" for _, name, *_ in ESTIMATORS]),
        ],
    )


def _kernel(name: str) -> Iterator[str]:
    module = import_module(f"willitrun.kernels.{name}")
    yield f"### `kernels.{name}`"
    yield ""
    yield from _verbatim(inspect.getdoc(module) or "")
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if inspect.isfunction(value) and value.__module__ == module.__name__ and value.__doc__:
            yield f"`{public}{inspect.signature(value)}`".replace("NDArray", "array")
            yield ""
            yield from _verbatim(inspect.getdoc(value) or "")


def _verbatim(text: str) -> Iterator[str]:
    yield "```text"
    yield from text.splitlines()
    yield "```"
    yield ""


def _calibration(record: Any, logarithms: bool) -> Iterator[str]:
    yield f"## Constants: {record.id}"
    yield ""
    yield record.method.replace("$", "\\$").replace("*", "\\*").replace("_", "\\_")
    yield ""
    yield f"- fitted {record.fitted} on {record.n_rows:,} rows of {record.n_configurations:,} configurations"
    yield f"- digest of the data: `{record.data_digest}`"
    yield ""
    if record.coefficients:
        head = ["constant", "value", *(["factor"] if logarithms else [])]
        rows = [
            [
                f"`{name}`",
                f"{value:.6g}",
                *([f"{math.exp(value):.4g}"] if logarithms and abs(value) < 50 else []),
            ]
            for name, value in record.coefficients.items()
        ]
        yield from table(head, [row + [""] * (len(head) - len(row)) for row in rows])
        yield ""
    if record.levels:
        yield "### Offsets by class"
        yield ""
        rows = [
            [f"`{name}`", f"`{level}`", f"{value:.4g}"]
            for name, levels in record.levels.items()
            for level, value in levels.items()
        ]
        yield from table(["constant", "class", "offset"], rows)
        yield ""
    if record.intervals:
        yield "### Intervals"
        yield ""
        fields = list(dict.fromkeys(field for values in record.intervals.values() for field in values))
        yield from table(
            ["case", *fields],
            [
                [f"`{name}`", *(f"{values[field]:.4g}" if field in values else "" for field in fields)]
                for name, values in record.intervals.items()
            ],
        )
        yield ""
    if record.residuals:
        yield "### Residuals"
        yield ""
        fields = list(dict.fromkeys(field for row in record.residuals for field in row))
        yield from table(
            fields, [[_shown(row.get(field, "")) for field in fields] for row in record.residuals]
        )
        yield ""


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
