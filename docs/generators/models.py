"""Models: one page per task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from generators.links import cited, measured_link, terms
from generators.markup import Page, Section, headline, link_text, page, table, toctree
from willitrun import Catalog
from willitrun.units import format_count

SECTION = Section("Models", "models/index", "Architectures by task")

HEAD = (
    ("model", ""), ("parameters", "parameters"), ("read in", ""), ("active", "active-parameters"), ("context", "context-length"),
    ("licence", ""), ("checkpoint", "checkpoint"), ("measured", ""), ("id", ""),
)  # fmt: skip


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page per task, and their index."""
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for record in catalog.models.values():
        groups[record.task].append(record)
    repositories: defaultdict[str, list[str]] = defaultdict(list)
    for name in catalog.checkpoints:
        raw = catalog.checkpoints.raw(name)
        if "/" in str(raw.get("repository", "")):
            repositories[raw["model"]].append(raw["repository"])
    head = terms(HEAD, catalog, up=1)
    for task, records in groups.items():
        ordered = sorted(records, key=lambda record: (record.family, record.name))
        rows = [_row(record, repositories[record.id], catalog) for record in ordered]
        text = (
            f"{len(records)} architectures. What they need on a [device](../hardware/index.md) depends on the "
            "[format](../quantizations.md) and the [runtime](../runtimes.md): `willitrun assess MODEL --on DEVICE`."
        )
        yield page(f"models/{task}.md", [f"# {headline(task)}", "", text, "", *table(head, rows)])
    yield page("models/index.md", _index(catalog, groups))


def _index(catalog: Catalog, groups: dict[str, list[Any]]) -> list[str]:
    return [
        "# Models",
        "",
        f"{len(catalog.models)} architectures and {len(catalog.checkpoints)} checkpoints that point to them. Repository ids, tags of "
        'Ollama, names of timm and torchvision, and plain names all resolve: `describe_model("llama3.1:8b")`.',
        "",
        "How fast they were: [measurements](../measurements/index.md). Where facts were read: [sources](../sources.md). What the words "
        "mean: [glossary](../glossary/index.md).",
        "",
        *toctree(sorted(groups)),
    ]


def _row(record: Any, repositories: list[str], catalog: Catalog) -> list[object]:
    transformer = record.transformer
    longest = transformer.max_position_embeddings if transformer else None
    repository = next((name for name in (*record.aliases, *repositories) if name.count("/") == 1), "")
    return [
        record.name,
        format_count(record.parameters) if record.parameters else "",
        cited(record, "parameters", catalog) if record.parameters else "",
        format_count(record.active_parameters) if record.active_parameters else "",
        f"{longest:,}" if longest else "",
        record.licence or "",
        f"[{link_text(repository)}](https://huggingface.co/{repository})" if repository else "",
        measured_link(record, "model", catalog, up=1),
        f"`{record.id}`",
    ]
