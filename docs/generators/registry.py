"""Find the page families and write what they yield."""

from __future__ import annotations

import pkgutil
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import generators
from willitrun import load_catalog

NOT_FAMILIES = {"registry", "markup", "links"}


def families() -> tuple[str, ...]:
    """Names of all families: the modules of this package but the two that serve them.

    A family is a module with ``pages(catalog) -> Iterable[Page]``; adding the module is all it takes.
    """
    found = {module.name for module in pkgutil.iter_modules(generators.__path__)}
    return tuple(sorted(found - NOT_FAMILIES))


def write_families(out: Path, wanted: Sequence[str] = ()) -> int:
    """Write the pages of the wanted families (all of them by default) and return how many there are.

    Two families that write the same page are an error: one would silently win.
    """
    catalog = load_catalog()
    if not wanted:
        shutil.rmtree(out, ignore_errors=True)
    written: dict[str, str] = {}
    for family in wanted or families():
        for page in import_module(f"generators.{family}").pages(catalog):
            if page.name in written:
                raise ValueError(f"{family} and {written[page.name]} both write {page.name}")
            written[page.name] = family
            file = out / page.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(page.text.rstrip() + "\n", encoding="utf-8")
    return len(written)
