"""Plan tables through pandas, polars, Arrow and Parquet, there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from willitrun import PlanTable, Workload, plan, plan_rows
from willitrun.interop import frames


@pytest.fixture(scope="module")
def table() -> PlanTable:
    return plan(
        models=["llama-3.1-8b", "llama-3.3-70b"],
        machines=["rtx-4090", "rtx-3060-12gb"],
        workloads=Workload.grid(contexts=[4096, 131072]),
        quantizations=["q4_k_m", "q8_0"],
    )


def same(one: PlanTable, other: PlanTable) -> None:
    assert tuple(one) == tuple(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        if name not in one.categories:
            assert one.columns[name].dtype == other.columns[name].dtype, name


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_there_and_back(table: PlanTable, kind: str) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip({"arrow": "pyarrow"}.get(kind, kind))
    frame = getattr(frames, f"to_{kind}")(table)
    assert len(frame) == len(table)
    same(getattr(frames, f"from_{kind}")(frame), table)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_go_into_plan_rows(kind: str) -> None:
    module = pytest.importorskip(kind)
    columns: dict[str, Any] = {
        "model": ["llama-3.1-8b", "llama-3.3-70b"],
        "machine": ["rtx-4090", "rtx-4090"],
        "quantization": ["q4_k_m", "q4_k_m"],
        "context_tokens": [8192, 4096],
    }
    same(plan_rows(module.DataFrame(columns)), plan_rows(columns))


def test_arrow_goes_into_plan_rows() -> None:
    arrow = pytest.importorskip("pyarrow")
    columns = {"model": ["llama-3.1-8b"], "machine": ["rtx-4090"], "quantization": ["q4_k_m"]}
    same(plan_rows(arrow.table(columns)), plan_rows(columns))


def test_labels_and_units_survive_parquet(table: PlanTable, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = tmp_path / "plan.parquet"
    frames.save_parquet(table, file)
    same(frames.load_parquet(file), table)
    schema = frames.to_arrow(table).schema
    assert schema.field("total_bytes").metadata == {b"unit": b"B"}
    assert str(schema.field("machine").type).startswith("dictionary")


def test_pandas_categories(table: PlanTable) -> None:
    pandas = pytest.importorskip("pandas")
    frame = frames.to_pandas(table)
    assert isinstance(frame["tier"].dtype, pandas.CategoricalDtype)
    assert frame["total_bytes"].dtype == "int64"
