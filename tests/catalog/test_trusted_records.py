"""Records read from the shipped index without validation are those that validation gives."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from willitrun.catalog import load_catalog
from willitrun.catalog.catalogs import Catalog
from willitrun.catalog.layout import KINDS, record_class
from willitrun.catalog.record_tables import validated
from willitrun.errors import CatalogInvalidError
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.bases import Citation, Record
from willitrun.records.machines import Host, InstalledAccelerator, Machine
from willitrun.records.measurements import Measurement
from willitrun.records.trusted import Unreadable, read_trusted


def exact(value: Any) -> Any:
    """A value with the types of all its parts, which equality forgets (1 == 1.0 == True)."""
    if isinstance(value, Record):
        return (
            type(value),
            {name: exact(part) for name, part in vars(value).items()},
            value.model_fields_set,
        )
    if isinstance(value, dict):
        return (dict, {key: exact(part) for key, part in value.items()})
    if isinstance(value, (tuple, list)):
        return (type(value), [exact(part) for part in value])
    return (type(value), value)


@pytest.mark.parametrize("kind", KINDS)
def test_trusted_records_equal_validated_ones_to_the_type(kind: str) -> None:
    table = load_catalog().table(kind)
    for identifier in table:
        assert exact(table[identifier]) == exact(validated(kind, table.raw(identifier), kind)), identifier


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_read_without_validation(kind: str) -> None:
    table = load_catalog().table(kind)
    for identifier in table:
        read_trusted(record_class(kind), table.raw(identifier))


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (Citation, {"source": "a", "basis": "vendor", "page": "3"}),
        (Citation, {"source": "a"}),
        (Citation, {"source": 3, "basis": "vendor"}),
        (Measurement, {}),
    ],
)
def test_what_only_validation_can_tell_is_refused(kind: type[Record], raw: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        read_trusted(kind, raw)


def test_added_records_are_validated() -> None:
    raw = dict(load_catalog().table("glossary").raw("kv-cache"))
    catalog = Catalog().with_records({"glossary": {"kv-cache": {**raw, "cite": {"*": []}}}})
    with pytest.raises(CatalogInvalidError):
        catalog.glossary["kv-cache"]


@pytest.mark.parametrize("name", ["rtx-4090", "2x rtx-3090", "apple-m4-max-40gpu", "nvidia-h100-sxm5-80gb"])
def test_machines_by_name_equal_validated_ones_to_the_type(name: str) -> None:
    machine = describe_machine(name)
    parts = tuple(InstalledAccelerator(**dict(_given(part))) for part in machine.accelerators)
    host = Host(**dict(_given(machine.host)))
    assert exact(machine) == exact(Machine(**{**dict(_given(machine)), "accelerators": parts, "host": host}))


def _given(record: Record) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name in record.model_fields_set}


COLD = """
import pydantic.main
from willitrun import assess
built = []
rebuild = pydantic.main.BaseModel.model_rebuild.__func__
def noted(cls, **options):
    built.append(cls.__name__)
    return rebuild(cls, **options)
pydantic.main.BaseModel.model_rebuild = classmethod(noted)
assess("llama-3.1-8b", "rtx-4090", quantization="q4_k_m")
assess("resnet-50", "rtx-3060-12gb")
print(built)
"""


def test_a_first_verdict_builds_no_validator() -> None:
    found = subprocess.run([sys.executable, "-c", COLD], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
