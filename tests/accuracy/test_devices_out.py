"""Medians over devices, leaving devices out, and the two records that rest on them."""

from __future__ import annotations

import tomllib

import pytest
from accuracy.devices_out import by_device, central, left_out, residual

from accuracy import power, training_speed
from willitrun import load_catalog

FOUND = {"a": [1.0, 1.0, 4.0], "b": [2.0], "c": [3.0, 5.0]}


def test_one_device_with_many_rows_does_not_speak_for_all() -> None:
    assert central({"a": [1.0] * 50, "b": [3.0], "c": [4.0]}) == 3.0


def test_a_device_is_judged_by_the_others_alone() -> None:
    assert left_out(FOUND)["b"] == [2.0 / 2.5]
    changed = {**FOUND, "b": [20.0]}
    assert left_out(changed)["b"] == [20.0 / 2.5]


def test_errors_are_of_what_the_others_predict() -> None:
    row = residual("task", [0.5, 1.0, 2.0])
    assert (row["rows"], row["median"], row["mean"]) == (3, 0.5, 0.5)


def test_power_record_is_that_of_its_published_rows() -> None:
    rows = tomllib.loads(power.ROWS.read_text("utf-8"))["row"]
    found = by_device((device, value) for _, device, value in map(power.share_of, rows))
    record = load_catalog().calibrations["power"]
    assert record.coefficients["share"] == pytest.approx(central(found), rel=1e-4)
    assert record.n_rows == len(rows)


def test_training_record_is_that_of_its_published_rows() -> None:
    rows = tomllib.loads(training_speed.ROWS.read_text("utf-8"))["row"]
    found = by_device((row["device"], training_speed.efficiency_of(row)) for row in rows)
    record = load_catalog().calibrations["llm-training"]
    assert record.coefficients["efficiency"] == pytest.approx(central(found), rel=1e-4)
    assert record.n_rows == len(rows)
