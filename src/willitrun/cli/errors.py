"""What all commands share: how errors are reported, and how results become JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import typer

from willitrun.cli.rendering import report_error
from willitrun.errors import WillItRunError

__all__ = ["print_json", "reporting_errors"]

P = ParamSpec("P")


def reporting_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Errors of the library are messages, not tracebacks: exit code 2 and one line on stderr."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except WillItRunError as error:
            report_error(error)
            raise typer.Exit(2) from None
        except BrokenPipeError:
            raise typer.Exit(0) from None

    return wrapped


def print_json(result: Any) -> None:
    """A record on standard output, indented."""
    sys.stdout.write(result.model_dump_json(indent=2) + "\n")
