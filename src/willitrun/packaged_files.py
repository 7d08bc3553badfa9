"""Files that lie inside the package, which may lie in a zip."""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["read_packaged"]


def read_packaged(package: str, name: str) -> bytes:
    """The bytes of a file beside the modules of an imported package, as the loader of the package reads them.

    `importlib.resources` would do, and import seventeen modules of archives and temporary files for it, a thirtieth
    of the time to a first verdict.

    Parameters
    ----------
    package
        Dotted name of a package that is imported.
    name
        Name of the file in its folder.

    Examples
    --------
    >>> len(read_packaged("willitrun", "py.typed"))
    0
    """
    spec = sys.modules[package].__spec__
    assert spec is not None
    assert spec.submodule_search_locations is not None
    loader: Any = spec.loader
    data: bytes = loader.get_data(os.path.join(spec.submodule_search_locations[0], name))
    return data
