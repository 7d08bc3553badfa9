"""Errors: public path, hint in the message, picklable."""

from __future__ import annotations

import pickle

import pytest

import willitrun
from willitrun import errors

CASES = [
    errors.WillItRunError("broken.", code="some-code", hint="Mend it.", see=("glossary:vram",)),
    errors.CatalogInvalidError("a.toml", "rtx-4090.memory", "has no unit", hint="Write '24 GiB'."),
    errors.UnknownIdError("model", "lama", ("llama-2-7b",)),
    errors.AmbiguousNameError("accelerator", "rtx-3060", ("a", "b")),
    errors.MissingExtraError("typer", "cli"),
    errors.CorruptCheckpointError("x.gguf is truncated."),
]


@pytest.mark.parametrize("error", CASES, ids=lambda error: type(error).__name__)
def test_survives_pickling(error: errors.WillItRunError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


@pytest.mark.parametrize("name", errors.__all__)
def test_shows_the_public_path(name: str) -> None:
    cls = getattr(willitrun, name)
    assert cls.__module__ == "willitrun"
    assert issubclass(cls, errors.WillItRunError)


def test_builtin_bases() -> None:
    assert issubclass(errors.UnknownIdError, LookupError)
    assert issubclass(errors.CheckpointError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)


def test_messages_name_thing_and_remedy() -> None:
    assert "Did you mean 'llama-2-7b'?" in str(CASES[2])
    assert "willitrun-engine[cli]" in str(CASES[4])
    assert str(CASES[1]).startswith("a.toml: rtx-4090.memory: has no unit")
