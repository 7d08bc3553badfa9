"""Records made of parts that are known to be valid are the same as records that pydantic made and checked."""

from __future__ import annotations

import pickle
import pkgutil
from importlib import import_module
from typing import Any

import pytest
from pydantic import BaseModel

from willitrun import Workload, assess, records
from willitrun.records.bases import Record
from willitrun.records.results import Link, Reason, Remedy, SpeedEstimate, Verdict


def record_classes() -> list[type[Record]]:
    found = {
        value
        for module in pkgutil.iter_modules(records.__path__, "willitrun.records.")
        for value in vars(import_module(module.name)).values()
        if isinstance(value, type) and issubclass(value, Record)
    }
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", record_classes(), ids=lambda kind: kind.__name__)
def test_records_have_nothing_that_the_short_way_leaves_out(kind: type[Record]) -> None:
    fields = kind.model_fields
    assert not kind.__private_attributes__
    assert kind.model_config["extra"] == "forbid"
    assert kind.model_post_init is BaseModel.model_post_init
    assert all(field.alias is None and field.validation_alias is None for field in fields.values())


SAMPLES: tuple[tuple[type[Record], dict[str, Any]], ...] = (
    (Reason, {"code": "does-not-fit", "message": "no"}),
    (Reason, {"message": "no", "code": "does-not-fit", "numbers": {"a": 1}, "see": ("glossary:vram",)}),
    (Link, {"ref": "glossary:vram", "title": "VRAM", "why": "it is full"}),
    (Remedy, {"change": "Use Q4_0", "kind": "quantization", "tier": "tight", "arguments": {"q": "q4_0"}}),
    (SpeedEstimate, {}),
    (Workload, {"context_tokens": 8192, "concurrency": 4}),
)


@pytest.mark.parametrize(("kind", "fields"), SAMPLES)
def test_constructed_is_validated(kind: type[Record], fields: dict[str, Any]) -> None:
    made, checked = kind.model_construct(**fields), kind(**fields)
    assert made == checked
    assert made.model_dump_json() == checked.model_dump_json()
    assert list(made.model_dump()) == list(kind.model_fields)
    assert made.model_fields_set == checked.model_fields_set
    assert pickle.loads(pickle.dumps(made)) == checked
    assert repr(made) == repr(checked)
    if kind is Workload:
        assert hash(made) == hash(checked)
    with pytest.raises(Exception, match="frozen"):
        made.code = "other"  # type: ignore[attr-defined]


def test_constructed_defaults_are_not_shared() -> None:
    first, second = (Reason.model_construct(code="a", message="b") for _ in range(2))
    assert first.numbers is not second.numbers


def test_what_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(TypeError, match="message"):
        Reason.model_construct(code="a")
    with pytest.raises(TypeError, match="colour"):
        Reason.model_construct(code="a", message="b", colour=1)
    with pytest.raises(TypeError, match="colour"):
        Reason(code="a", message="b").model_copy(update={"colour": 1})


def test_copies_change_what_they_are_told_and_leave_the_original() -> None:
    load = Workload(context_tokens=8192)
    longer = load.model_copy(update={"context_tokens": 4096, "concurrency": 2})
    assert load == Workload(context_tokens=8192)
    assert longer == Workload(context_tokens=4096, concurrency=2)
    assert longer.model_fields_set == {"context_tokens", "concurrency"}
    assert load.model_copy() == load
    assert load.model_copy(deep=True) == load


@pytest.mark.parametrize(
    ("model", "machine"),
    [("llama-3.3-70b", "rtx-4090"), ("resnet-50", "rtx-3060-12gb"), ("sdxl", "rtx-4090")],
)
def test_a_verdict_validates_to_itself(model: str, machine: str) -> None:
    """Everything that was put together without checks would have passed them."""
    verdict = assess(model, machine)
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert Verdict.model_validate(verdict.model_dump()) == verdict
