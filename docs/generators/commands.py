"""The command line: every command with its help, as the terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator

import typer.main
from click.testing import CliRunner

from generators.markup import Page, Section, page
from willitrun import Catalog
from willitrun.cli.app import app

SECTION = Section("Command line", "commands", "Every command and its options")


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page."""
    root = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "`willitrun COMMAND --help` prints the same. Exit codes: 0 yes, 1 no, 2 an error.",
        "",
    ]
    runner = CliRunner()
    for path in _commands(root, ()):
        told = runner.invoke(
            root, [*path, "--help"], prog_name="willitrun", env={"COLUMNS": "100", "TERM": "dumb"}
        )
        lines += [
            f"## willitrun {' '.join(path)}",
            "",
            "```text",
            *told.output.rstrip().splitlines(),
            "```",
            "",
        ]
    yield page("commands.md", lines)


def _commands(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    children = getattr(command, "commands", None)
    if not children:
        yield path
        return
    for name, child in sorted(children.items()):
        yield from _commands(child, (*path, name))
