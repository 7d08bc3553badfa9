"""`read_inventory`: the machines of a fleet, from captures, descriptions and build strings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from willitrun.errors import WillItRunError
from willitrun.hardware.captures import from_capture
from willitrun.hardware.descriptions import describe_machine
from willitrun.hardware.queries import from_query
from willitrun.records.machines import Machine

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["read_inventory"]

_MOST_BYTES = 1 << 24
"""Of one capture, or one line: far above any real one."""


def read_inventory(path: str | Path, *, catalog: Catalog | None = None) -> tuple[Machine, ...]:
    """The machines of an inventory.

    Parameters
    ----------
    path
        A folder of captures (``*.json``, as ``willitrun detect --capture`` writes them), named by their files; or a file of
        lines, each a capture, a description as `describe_machine` takes it, both in JSON, or a build string
        (``name=anna&gpu=rtx-4090``). Empty lines and those that begin with ``#`` are left out.

    Returns
    -------
    tuple of Machine
        With names that differ: one that occurs twice gets a number.

    Raises
    ------
    WillItRunError
        A line or file is none of these, or there is none (code ``invalid-inventory``); it says which one.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "fleet.jsonl"
    >>> _ = file.write_text('{"name": "anna", "accelerators": ["rtx-4090"]}\\nname=ben&gpu=rtx-3060-12gb\\n')
    >>> [machine.name for machine in read_inventory(file)]
    ['anna', 'ben']
    """
    place = Path(path)
    found = []
    taken: dict[str, int] = {}
    for where, name, text in _entries(place):
        try:
            machine = _machine(text, catalog)
        except (WillItRunError, ValueError) as error:
            raise WillItRunError(
                f"{where}: {error}",
                code="invalid-inventory",
                hint="A capture, a description or a build string a line.",
            ) from error
        title = name or machine.name
        taken[title] = taken.get(title, 0) + 1
        title = title if taken[title] == 1 else f"{title} #{taken[title]}"
        found.append(machine if title == machine.name else machine.model_copy(update={"name": title}))
    if not found:
        raise WillItRunError(f"{place} holds no machine.", code="invalid-inventory")
    return tuple(found)


def _entries(place: Path) -> Iterator[tuple[str, str | None, str]]:
    """Where an entry stands, its name if its file gives one, and its text."""
    try:
        if place.is_dir():
            for file in sorted(place.glob("*.json")):
                if file.stat().st_size > _MOST_BYTES:
                    raise WillItRunError(f"{file.name} is too large for a capture.", code="invalid-inventory")
                yield file.name, file.stem, file.read_text("utf-8")
            return
        with place.open(encoding="utf-8") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_MOST_BYTES), ""), 1):
                text = line.strip()
                if text and not text.startswith("#"):
                    yield f"{place.name}:{number}", None, text
    except (OSError, UnicodeDecodeError) as error:
        raise WillItRunError(f"{place} cannot be read: {error}.", code="invalid-inventory") from error


def _machine(text: str, catalog: Catalog | None) -> Machine:
    if not text.startswith("{"):
        return from_query(text, catalog=catalog)
    try:
        data: Any = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return (
        from_capture(data, catalog=catalog) if "format" in data else describe_machine(data, catalog=catalog)
    )
