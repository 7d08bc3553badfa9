"""``willitrun ask | diagnose | glossary``: what is known, in words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import willitrun
from willitrun.cli import options as opt
from willitrun.cli.errors import print_json, reporting_errors
from willitrun.cli.rendering import console, report_error

__all__ = ["knowledge_app"]

knowledge_app = typer.Typer()


@knowledge_app.command()
@reporting_errors
def ask(
    question: Annotated[list[str], typer.Argument(help="The question in plain words.")],
    on: opt.MachineOption = None,
    as_json: opt.JsonOption = False,
) -> None:
    """Answer a question in one paragraph. Exit code 1 if it was not understood."""
    answer = willitrun.ask(" ".join(question), machine=opt.machine_argument(on))
    if as_json:
        print_json(answer)
    else:
        out = console()
        out.print(escape(answer.text))
        for link in answer.links[:4]:
            out.print(f"  {escape(link.ref)}: {escape(link.title)}", style="dim")
    raise typer.Exit(0 if answer else 1)


@knowledge_app.command()
@reporting_errors
def diagnose(
    file: Annotated[str, typer.Argument(help="A log file, or - for standard input.")],
    as_json: opt.JsonOption = False,
) -> None:
    """Find known failures in a log: what happened, why, and what helps. Exit code 1 if none is known."""
    if file == "-":
        found = willitrun.diagnose(sys.stdin.buffer)
    else:
        path = Path(file)
        if not path.is_file():
            report_error(f"there is no file {file!r}")
            raise typer.Exit(2)
        found = willitrun.diagnose(path)
    if as_json:
        sys.stdout.write("[" + ",\n".join(item.model_dump_json() for item in found) + "]\n")
    else:
        _print_diagnoses(found)
    raise typer.Exit(0 if found else 1)


def _print_diagnoses(found: tuple[willitrun.Diagnosis, ...]) -> None:
    out = console()
    if not found:
        out.print("No known failure in this text.")
    for item in found:
        out.print(f"{escape(item.name)} ({item.severity})", style="bold red")
        for span in item.spans[:3]:
            out.print(f"  line {span.line}: {escape(span.text.strip()[:160])}", style="dim")
        for cause in item.causes:
            out.print(f"  cause: {escape(cause.cause)}")
            if cause.check:
                out.print(f"    check: {escape(cause.check)}", style="dim")
        for fix in item.fixes:
            out.print(f"  fix: {escape(fix.fix)}")
            if fix.command:
                out.print(f"    $ {escape(fix.command)}", style="cyan")
        for end in item.dead_ends:
            out.print(f"  does not help: {escape(end)}", style="dim")


@knowledge_app.command()
@reporting_errors
def glossary(
    term: Annotated[str, typer.Argument(help="An id such as kv-cache, or words to search for.")],
    as_json: opt.JsonOption = False,
) -> None:
    """Explain a term, with numbers from the engine."""
    from willitrun.expressions import render_text

    catalog = willitrun.load_catalog()
    name = term.removeprefix("glossary:").removeprefix("troubleshooting:")
    kind = "troubleshooting" if term.startswith("troubleshooting:") else "glossary"
    entry = catalog.resolve(kind, name)
    if as_json:
        print_json(entry)
        return
    out = console()
    out.print(escape(entry.name), style="bold")
    if kind == "troubleshooting":
        out.print(escape(render_text(entry.summary, catalog)))
        for cause in entry.causes:
            out.print(f"- {escape(cause.cause)}")
        for fix in entry.fixes:
            out.print(f"  fix: {escape(render_text(fix.fix, catalog))}")
        return
    out.print(escape(render_text(entry.definition, catalog)) + "\n")
    out.print(escape(render_text(entry.explanation, catalog)))
    for title, text in (("Example", entry.example), ("In a workflow", entry.workflow)):
        if text:
            out.print(f"\n[bold]{title}[/bold]\n{escape(render_text(text, catalog))}")
    if entry.related:
        out.print(f"\nRelated: {escape(', '.join(entry.related))}", style="dim")
    for name in dict.fromkeys(citation.source for citations in entry.cite.values() for citation in citations):
        source = catalog.sources[name]
        out.print(f"Source: {escape(source.title)}, {escape(source.url)}", style="dim")
