"""The documentation names everything public, and the pages that are generated can be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import willitrun

DOCS = Path(__file__).resolve().parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("the documentation is not part of this distribution", allow_module_level=True)


def test_every_public_name_is_documented() -> None:
    text = (DOCS / "reference" / "api.md").read_text("utf-8")
    named = set(re.findall(r"auto(?:function|class):: willitrun\.(\w+)", text))
    assert named == set(willitrun.__all__) - {"__version__"}
    for name in named:
        assert getattr(willitrun, name).__doc__, name


def test_every_page_is_in_a_section() -> None:
    for folder in ("tutorials", "how-to", "explanation", "reference"):
        assert (DOCS / folder / "index.md").is_file()
