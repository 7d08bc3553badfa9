"""``willitrun ask | diagnose | glossary | guide | kit``: what is known, in words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import willitrun
from willitrun.cli import options as opt
from willitrun.cli.errors import print_json, reporting_errors
from willitrun.cli.rendering import console, render_verdict, report_error

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
        if path.is_fifo():
            # What a shell substitutes: diagnose <(docker logs server)
            with path.open("rb") as log:
                found = willitrun.diagnose(log)
        elif path.is_file():
            found = willitrun.diagnose(path)
        else:
            report_error(f"there is no file {file!r}; - reads standard input")
            raise typer.Exit(2)
    if as_json:
        from willitrun.expressions import rendered_data

        catalog = willitrun.load_catalog()
        shown = (json.dumps(rendered_data(item, catalog, ("fixes",)), ensure_ascii=False) for item in found)
        sys.stdout.write("[" + ",\n".join(shown) + "]\n")
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
    """Explain a term or a failure, with numbers from the engine."""
    from willitrun.expressions import render_entry, rendered_data

    catalog = willitrun.load_catalog()
    ref = term if term.startswith(("glossary:", "troubleshooting:")) else f"glossary:{term}"
    if as_json:
        entry = rendered_data(catalog.entry(ref), catalog)
        sys.stdout.write(json.dumps(entry, ensure_ascii=False, indent=2) + "\n")
        return
    heading, _, rest = render_entry(ref, catalog).partition("\n")
    out = console()
    out.print(escape(heading), style="bold")
    out.print(escape(rest))


@knowledge_app.command()
@reporting_errors
def guide(
    name: Annotated[str, typer.Argument(help="best-gpu, best-laptop, best-mac, or a guide of your own.")],
    as_json: opt.JsonOption = False,
) -> None:
    """Answer a buyer guide now: which machine for which workload."""
    from willitrun.guides import answer_guide

    report = answer_guide(name)
    if as_json:
        print_json(report)
        return
    out = console()
    out.print(escape(report.summary()), style="bold")
    for workload, text in report.rows():
        out.print(f"- {escape(workload)}: {escape(text)}")


@knowledge_app.command()
@reporting_errors
def kit(
    name: Annotated[str, typer.Argument(help="A prompt kit, such as summarise-report.")],
    model: opt.ModelArgument,
    on: opt.MachineOption = None,
    quant: opt.QuantOption = None,
    tokenizer: Annotated[
        str, typer.Option(help="Whose token counts to take; default: the kit's first.")
    ] = "",
    as_json: opt.JsonOption = False,
) -> None:
    """Judge a prompt kit as a workload. Exit code 0 if it runs, 1 if not."""
    from willitrun.guides import kit_workload

    verdict = willitrun.assess(
        model, opt.machine_argument(on), kit_workload(name, tokenizer=tokenizer), quantization=quant
    )
    if as_json:
        print_json(verdict)
    else:
        console().print(render_verdict(verdict))
    raise typer.Exit(0 if verdict.feasible else 1)
