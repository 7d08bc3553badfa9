"""Runtimes: what they read, where they run, how they are installed and started."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from generators.links import listed, measured_link, terms
from generators.markup import Page, Section, link_text, page, prose, source_links, table
from willitrun import Catalog

SECTION = Section("Runtimes", "runtimes", "What reads which format, and where it runs")

HEAD = (
    ("runtime", "runtime-engine"), ("reads", "checkpoint"), ("back ends", "backend"), ("offload to host", "offload"),
    ("several devices", "tensor-parallelism"), ("measured", ""), ("id", ""),
)  # fmt: skip


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page: a table, then a section each."""
    rows = [
        [f"[{link_text(runtime.name)}](#{_anchor(runtime.id)})", listed(runtime.containers), listed(runtime.backends),
         runtime.cpu_offload, listed(runtime.multi_gpu), measured_link(runtime, "runtime", catalog), f"`{runtime.id}`"]
        for runtime in catalog.runtimes.values()
    ]  # fmt: skip
    lines = [
        "# Runtimes",
        "",
        "Which [formats](quantizations.md) a program reads and on what [hardware](hardware/index.md) it runs. `willitrun assess MODEL "
        "--runtime NAME` says why a combination does not work; without a name the runtime that suits format and machine is taken.",
        "",
        *table(terms(HEAD, catalog), rows),
        "",
    ]
    for runtime in catalog.runtimes.values():
        lines += _section(runtime, catalog)
    yield page("runtimes.md", lines)


def _anchor(identifier: str) -> str:
    return f"runtime-{identifier.replace('.', '-')}"


def _section(runtime: Any, catalog: Catalog) -> list[str]:
    lines = [f"({_anchor(runtime.id)})=", f"## {runtime.name}", ""]
    facts = [
        ("Tasks", listed(runtime.tasks)),
        ("Systems", listed(runtime.systems)),
        ("KV cache", f"{runtime.kv_policy}, in {listed(runtime.kv_formats)}" if runtime.kv_policy else ""),
        ("Versions", prose(runtime.versions) if runtime.versions else ""),
        ("Home", f"<{runtime.homepage}>" if runtime.homepage else ""),
        ("What goes wrong", listed(_troubles(runtime, catalog))),
        ("Sources", source_links(runtime, catalog)),
    ]
    lines += [f"- {label}: {text}" for label, text in facts if text]
    lines += [f"- Note: {prose(flag)}" for flag in runtime.flags]
    code = [text for text in (runtime.install, runtime.command) if text]
    if code:
        lines += ["", "```text", *code, "```"]
    return [*lines, ""]


def _troubles(runtime: Any, catalog: Catalog) -> list[str]:
    found = [
        entry for entry in catalog.troubleshooting.values() if runtime.id in getattr(entry, "runtimes", ())
    ]
    return [f"[{link_text(entry.name)}](troubleshooting/{entry.id}.md)" for entry in found[:8]]
