"""Where the catalogs lie: the folder of a checkout, or inside the installed package (a zip works)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from willitrun.errors import CatalogError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["INDEX_FOLDER", "catalog_at", "catalog_files", "catalog_root"]

INDEX_FOLDER = "_index"


def catalog_root() -> Traversable:
    """The shipped catalogs, or the top-level folder of a checkout."""
    package = Path(__file__).parent.parent
    for place in (package / "_catalogs", package.parent.parent / "catalogs"):
        if (place / "CATALOG.toml").is_file():
            return place
    # Not in a folder: inside a zip, of which only this import knows how to read.
    from importlib.resources import files

    shipped = files("willitrun") / "_catalogs"
    if (shipped / "CATALOG.toml").is_file():
        return shipped
    raise CatalogError(
        "the catalogs are missing from this installation.", hint="Reinstall willitrun-engine from its wheel."
    )


def catalog_at(place: str | Path) -> Traversable:
    """The catalogs of a folder, of a checkout, or inside a wheel or another zip.

    Raises
    ------
    CatalogError
        There are none, or they have no look-up index.
    """
    # Only comparing versions opens archives; every look-up comes through this module.
    import zipfile

    path = Path(place)
    candidates: list[Traversable] = [path, path / "catalogs", path / "willitrun" / "_catalogs"]
    if path.is_file() and zipfile.is_zipfile(path):
        archive = zipfile.Path(path)
        candidates = [archive / "willitrun" / "_catalogs", archive / "catalogs", archive]
    for root in candidates:
        if (root / "CATALOG.toml").is_file():
            if not (root / INDEX_FOLDER / "index.json").is_file():
                raise CatalogError(
                    f"the catalogs of {place} have no index.",
                    hint="Run 'willitrun catalog build' in that checkout.",
                )
            return root
    raise CatalogError(
        f"there are no catalogs in {place}.", hint="Pass a catalogs folder, a checkout or a wheel."
    )


def catalog_files(root: Traversable, patterns: tuple[str, ...]) -> list[tuple[str, Traversable]]:
    """Files that match one-folder globs such as ``models/*.toml``, as (relative path, file), sorted."""
    from fnmatch import fnmatchcase

    found: dict[str, Traversable] = {}
    for pattern in patterns:
        folder, _, name = pattern.rpartition("/")
        place = root / folder if folder else root
        if not place.is_dir():
            continue
        for entry in place.iterdir():
            if fnmatchcase(entry.name, name) and entry.is_file():
                found[f"{folder}/{entry.name}" if folder else entry.name] = entry
    return sorted(found.items())
