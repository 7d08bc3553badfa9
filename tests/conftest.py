"""Fixtures and hypothesis profiles that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "fast",
    max_examples=20,
    deadline=None,
    # The same examples everywhere: what passes before a landing passes after it. New ones are for `thorough`.
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    # A failure is reported as found; the thorough profile shrinks it.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Measurements beside the checkout, where there are any."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not part of the product and is absent")
    return folder
