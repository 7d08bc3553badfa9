"""Troubleshooting: one page per failure, one per category, and an index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from generators.markup import (
    Page,
    Section,
    headline,
    link_text,
    page,
    places,
    prose,
    rendered,
    source_links,
    table,
    toctree,
)
from willitrun import Catalog
from willitrun.records.knowledge import Fix, TroubleshootingEntry

SECTION = Section(
    "Troubleshooting",
    "troubleshooting/index",
    "Failures: how to recognise them, why they happen, what helps and what does not",
)


def pages(catalog: Catalog) -> Iterator[Page]:
    """All pages of the knowledge base of errors."""
    groups: defaultdict[str, list[TroubleshootingEntry]] = defaultdict(list)
    for entry in catalog.troubleshooting.values():
        groups[entry.category].append(entry)
        yield page(f"troubleshooting/{entry.id}.md", _failure(entry, catalog))
    for category, entries in groups.items():
        entries.sort(key=lambda entry: entry.name.lower())
        rows = [
            [f"[{link_text(e.name)}]({e.id}.md)", e.severity, rendered(e.summary, catalog)] for e in entries
        ]
        yield page(
            f"troubleshooting/in-{category}.md",
            [
                f"# {headline(category)}",
                "",
                *table(["failure", "severity", "what it is"], rows),
                "",
                *toctree([entry.id for entry in entries], hidden=True),
            ],
        )
    yield page(
        "troubleshooting/index.md",
        [
            "# Troubleshooting",
            "",
            f"{len(catalog.troubleshooting)} failures, each with how to recognise it, its causes with a check for each, "
            "what helps and what does not. `willitrun diagnose log.txt` finds them in a log of any size.",
            "",
            *toctree((f"in-{category}" for category in sorted(groups)), depth=2),
        ],
    )


def _failure(entry: TroubleshootingEntry, catalog: Catalog) -> list[str]:
    lines = [f"(troubleshooting-{entry.id})=", f"# {entry.name}", "", rendered(entry.summary, catalog), ""]
    lines += places(entry, "summary", catalog)
    facts = [f"- Severity: {entry.severity}"]
    for title, values in (
        ("Runtimes", entry.runtimes),
        ("Vendors", entry.vendors),
        ("Systems", entry.systems),
        ("Tasks", entry.tasks),
    ):
        if values:
            facts.append(f"- {title}: {', '.join(values)}")
    if entry.verified_with:
        facts.append(f"- Verified with, its messages stand in the source of: {entry.verified_with}")
    lines += [*facts, "", "## Causes, likeliest first", ""]
    for number, cause in enumerate(entry.causes, 1):
        lines += [f"{number}. {rendered(cause.cause, catalog)}", ""]
        if cause.check:
            lines += [f"   Check: {prose(cause.check)}", ""]
        lines += _command(cause.command, "   ")
        lines += places(entry, f"causes.{number - 1}", catalog, "   ")
    lines += ["## What helps", ""]
    for number, fix in enumerate(entry.fixes):
        lines += _fix(fix, catalog)
        lines += places(entry, f"fixes.{number}", catalog, "  ")
    if entry.dead_ends:
        lines += ["## What does not help", ""]
        for number, text in enumerate(entry.dead_ends):
            lines += [f"- {prose(text)}", "", *places(entry, f"dead_ends.{number}", catalog, "  ")]
    if entry.related:
        links = (f"[{link_text(catalog.troubleshooting[name].name)}]({name}.md)" for name in entry.related)
        lines += ["## Related", "", ", ".join(links), ""]
    lines += ["## Sources", "", source_links(entry, catalog), ""]
    if entry.threads:
        threads = ", ".join(f"[{url.removeprefix('https://github.com/')}]({url})" for url in entry.threads)
        lines += [f"Threads with such messages: {threads}", ""]
    uncited = len(entry.uncited_signatures) + len(entry.uncited_general_signatures)
    cited = len(entry.signatures) + len(entry.general_signatures) + len(entry.contextual_signatures)
    if uncited:
        lines += [
            f"Of {cited + uncited} patterns that lead here, {uncited} are wider than the messages and the lines of "
            "programs that are cited, and a diagnosis by one of them says so.",
            "",
        ]
    return lines


def _fix(fix: Fix, catalog: Catalog) -> list[str]:
    versions = f" *({fix.versions})*" if fix.versions else ""
    lines = [f"- {rendered(fix.fix, catalog)}{versions}", ""]
    if fix.effect:
        lines += [f"  Effect: {rendered(fix.effect, catalog)}", ""]
    return lines + _command(fix.command, "  ")


def _command(command: str, indent: str) -> list[str]:
    if not command:
        return []
    return [f"{indent}```console", *(indent + line for line in command.splitlines()), f"{indent}```", ""]
