"""The examples in the docstrings are run: an example that is out of date teaches the wrong thing."""

import doctest
import importlib
import pkgutil

import pytest

import willitrun

MODULES = sorted(
    {"willitrun"}
    | {
        found.name
        for found in pkgutil.walk_packages(willitrun.__path__, "willitrun.")
        if not found.name.endswith("__main__")
    }
)


OPTIONAL = {"willitrun.interop.modules": ("torch",)}
"""Packages that only the examples of a module import."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if (missing.name or "willitrun").partition(".")[0] == "willitrun":
            raise
        pytest.skip(f"{name} needs {missing.name}")
    for package in OPTIONAL.get(name, ()):
        pytest.importorskip(package)
    assert doctest.testmod(module).failed == 0
