"""Measurements: one page per study, and an index by device."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from generators.links import listed, term, terms
from generators.markup import Page, Section, link_text, page, table, toctree
from willitrun import Catalog
from willitrun.records.measurements import Measurement
from willitrun.records.presentation import format_field

SECTION = Section(
    "Measurements",
    "measurements/index",
    "Published speeds with their whole tuple and the command that repeats them",
)

HEAD = (
    ("model", "parameters"), ("device", "accelerator"), ("format", "quantization"), ("runtime", "runtime-engine"), ("load", "batch-size"),
    ("measured", ""), ("date", ""), ("source", ""), ("repeat it with", ""),
)  # fmt: skip


def pages(catalog: Catalog) -> Iterator[Page]:
    """The tables of every study, then what there is of every device."""
    studies: defaultdict[str, list[Measurement]] = defaultdict(list)
    for identifier in catalog.measurements:
        studies[_study(identifier, catalog)].append(catalog.measurements[identifier])
    head = terms(HEAD, catalog, up=1)
    for study, rows in studies.items():
        source = catalog.sources[f"study-{study}"]
        lines = [f"# {source.title}", ""]
        lines += [
            f"[{link_text(source.publisher)}]({source.url}), {source.licence or 'each row states its licence'}.",
            "",
        ]
        yield page(f"measurements/{study}.md", [*lines, *table(head, [_row(row) for row in rows])])
    yield page("measurements/index.md", _index(catalog, studies))


def _study(identifier: str, catalog: Catalog) -> str:
    """The study that a row's id begins with; single labs share one."""
    if identifier.startswith("timm-"):
        return "timm-benchmarks"
    names = (name.removeprefix("study-") for name in catalog.sources if name.startswith("study-"))
    return next((name for name in names if identifier.startswith(f"{name}-")), "vision-labs")


def _index(catalog: Catalog, studies: dict[str, list[Measurement]]) -> list[str]:
    by_device: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for study, rows in studies.items():
        for row in rows:
            by_device[row.accelerator][study] += 1
    rows = [
        [
            catalog.accelerators[device].name if device in catalog.accelerators else device,
            listed(f"[{study}]({study}.md) ({count})" for study, count in found.most_common()),
            sum(found.values()),
        ]
        for device, found in sorted(by_device.items())
    ]
    total = sum(len(members) for members in studies.values())
    return [
        "# Measurements",
        "",
        f"{total} published figures of {len(by_device)} [devices](../hardware/index.md), each with its whole tuple, its source and the "
        "command that repeats it. They passed a check against physics: no more than 1.1 times the highest "
        f"{term('roofline', 'peak', catalog, up=1)} that is legal for the runtime and format, and weights that fit. Verdicts near one "
        "cite it; the [accuracy](../accuracy/index.md) figures are computed without them.",
        "",
        *toctree(sorted(studies)),
        "",
        "## By device",
        "",
        *table(["device", "studies", "figures"], rows),
    ]


def _row(row: Measurement) -> list[object]:
    load = [
        f"batch {row.batch_size}" if row.batch_size else "",
        f"{row.image_size} px" if row.image_size else "",
        f"{row.prompt_tokens} in" if row.prompt_tokens and row.prompt_tokens > 1 else "",
        f"{row.output_tokens} out" if row.output_tokens and row.output_tokens > 1 else "",
        f"depth {row.cached_tokens}" if row.cached_tokens else "",
        f"{row.concurrency} at a time" if row.concurrency and row.concurrency > 1 else "",
    ]
    count = f"{row.accelerator_count} x " if row.accelerator_count > 1 else ""
    runtime = listed(
        (row.runtime, row.runtime_version, row.backend, row.execution, row.precision, row.layout)
    )
    metric = row.metric.removesuffix("_per_s").removesuffix("_s").replace("_", " ")
    return [
        f"`{row.model}`",
        f"{count}`{row.accelerator}`",
        row.quantization,
        runtime,
        listed(load),
        f"{metric}: {format_field(row.metric, row.value)}",
        row.date,
        f"[{row.licence or 'source'}]({row.source_url})",
        f"`{row.command}`" if row.command else "",
    ]
