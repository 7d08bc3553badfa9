"""What is installed: for bug reports."""

from __future__ import annotations

from willitrun._version import __version__

__all__ = ["show_versions"]


def show_versions() -> dict[str, str]:
    """Versions of the package, its data and the packages that it uses.

    Returns a mapping and prints nothing: a library leaves the console to its caller.

    >>> "willitrun" in show_versions()
    True
    """
    import platform
    import sys
    from importlib.metadata import PackageNotFoundError, version

    from willitrun.catalog import load_catalog

    catalog = load_catalog()
    found = {
        "willitrun": __version__,
        "catalog": f"{catalog.version} ({catalog.digest[:12]})",
        "python": sys.version.split()[0],
        "system": platform.platform(),
    }
    for package in (
        "pydantic",
        "numpy",
        "nvidia-ml-py",
        "psutil",
        "platformdirs",
        "typer",
        "rich",
        "torch",
        "timm",
        "onnx",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
