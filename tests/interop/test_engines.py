"""Engines: whoever runs it, the results are those of `plan_rows`; a worker that is killed changes nothing."""

from __future__ import annotations

import os
import signal
import time
import warnings
from typing import Any

import numpy as np
import pytest

from willitrun import plan_rows

arrow = pytest.importorskip("pyarrow", reason="extra 'engines'")

from willitrun.interop import engines  # noqa: E402
from willitrun.interop.engines import RESULT_COLUMNS, judge_batch  # noqa: E402

CARDS = ["rtx-4090", "rtx-3060-12gb", "rtx-3090", "rx-7900-xtx"]


def scenarios(count: int) -> dict[str, list[Any]]:
    models = ["llama-3.1-8b", "qwen3-14b", "llama-3.3-70b"]
    return {
        "model": [models[i % 3] for i in range(count)],
        "machine": [CARDS[i % 4] for i in range(count)],
        "quantization": ["q4_k_m" if i % 2 else "q8_0" for i in range(count)],
        "context_tokens": [4096 << (i % 4) for i in range(count)],
        "concurrency": [1 + i % 3 for i in range(count)],
    }


COLUMNS = scenarios(48)


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    table = plan_rows(COLUMNS)
    return {name: table[name] for name in RESULT_COLUMNS}


def agrees(found: Any, expected: dict[str, Any]) -> None:
    for name, values in expected.items():
        got = np.asarray(found[name])
        if values.dtype.kind == "f":
            # Rows of another batch pass other lanes of NumPy's vector units: the last bit may differ.
            np.testing.assert_allclose(got.astype(float), values, rtol=1e-12, atol=0, err_msg=name)
        else:
            np.testing.assert_array_equal(got.astype(values.dtype), values, err_msg=name)


def test_arrow_batches(expected: dict[str, Any]) -> None:
    table = arrow.table(COLUMNS)
    agrees({name: judge_batch(table).column(name).to_pylist() for name in expected}, expected)
    parts = [judge_batch(batch) for batch in table.to_batches(max_chunksize=7)]
    whole = arrow.concat_tables(parts)
    agrees({name: whole.column(name).to_pylist() for name in expected}, expected)
    empty = judge_batch(table.slice(0, 0))
    assert empty.num_rows == 0
    assert empty.schema == whole.schema


def test_columns_of_a_fleet_are_carried_along(expected: dict[str, Any]) -> None:
    from willitrun import InvalidWorkloadError

    own = {"hostname": [f"host-{i}" for i in range(48)], "row": list(range(48))}
    found = judge_batch(arrow.table(COLUMNS | own))
    assert found.column("hostname").to_pylist() == own["hostname"]
    agrees({name: found.column(name).to_pylist() for name in expected}, expected)
    with pytest.raises(InvalidWorkloadError, match="contxt_tokens"):
        judge_batch(arrow.table(COLUMNS | {"contxt_tokens": [1] * 48}))
    with pytest.raises(InvalidWorkloadError, match="tier"):
        judge_batch(arrow.table(COLUMNS | {"tier": ["a"] * 48}))


def test_pandas(expected: dict[str, Any]) -> None:
    pandas = pytest.importorskip("pandas")
    agrees(engines.judge_pandas(pandas.DataFrame(COLUMNS)), expected)


def test_polars_eager_and_lazy(expected: dict[str, Any]) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(COLUMNS)
    agrees(frame.pipe(engines.judge_polars), expected)
    schema = engines.judge_polars(frame.head(1)).schema
    agrees(frame.lazy().map_batches(engines.judge_polars, schema=schema).collect(), expected)


def test_duckdb(expected: dict[str, Any]) -> None:
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    engines.register_duckdb(connection)
    fleet = arrow.table(COLUMNS | {"row": list(range(len(COLUMNS["model"])))})
    connection.register("fleet", fleet)
    names = ", ".join(f"v.{name}" for name in expected)
    found = connection.execute(
        f"SELECT {names} FROM (SELECT row, willitrun(model, machine, quantization, context_tokens, concurrency) AS v "
        "FROM fleet) ORDER BY row"
    ).fetchnumpy()
    agrees(
        {
            name: np.ma.filled(values, np.nan) if values.dtype.kind == "f" else values
            for name, values in found.items()
        },
        expected,
    )
    counts = connection.execute(
        "SELECT willitrun(model, machine, quantization, 8192, 1).tier AS tier, count(*) FROM fleet GROUP BY 1"
    ).fetchall()
    assert sum(count for _, count in counts) == len(COLUMNS["model"])


def kill_a_worker_once(part: Any, file: str) -> Any:
    """Judge a partition; the first worker that gets here dies in the middle of it."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return engines.judge_pandas(part)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    raise AssertionError("unreachable")


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_dask_with_two_workers_of_which_one_is_killed(expected: dict[str, Any], tmp_path: Any) -> None:
    distributed = pytest.importorskip("distributed")
    dataframe = pytest.importorskip("dask.dataframe")
    import logging

    import pandas

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        # Dask's own deprecations and sockets of the worker that dies are no business of this test.
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1",
            local_directory=str(tmp_path / "dask"), silence_logs=logging.CRITICAL,
        )  # fmt: skip
        try:
            with distributed.Client(cluster) as client:
                frame = dataframe.from_pandas(pandas.DataFrame(COLUMNS), npartitions=6)
                agrees(engines.judge_dask(frame).compute(), expected)
                before = set(client.run(os.getpid).values())
                mark = str(tmp_path / "killed")
                rows = pandas.DataFrame(COLUMNS)
                parts = [
                    client.submit(kill_a_worker_once, rows.iloc[i : i + 8], mark, pure=False, retries=3)
                    for i in range(0, 48, 8)
                ]
                found = pandas.concat(client.gather(parts))
                agrees(found, expected)
                assert os.path.exists(mark), "nobody was killed"
                client.wait_for_workers(2, timeout=60)
                assert set(client.run(os.getpid).values()) != before, "the dead worker was replaced"
        finally:
            cluster.close()


def test_nothing_in_the_core_imports_an_engine() -> None:
    import subprocess
    import sys

    code = (
        "import sys, willitrun as w\n"
        "w.plan(models=['llama-3.1-8b'], machines=['rtx-4090'], quantizations=['q4_k_m'])\n"
        "w.scan('rtx-4090', models=['llama-3.1-8b'])\n"
        "bad = {'pandas', 'polars', 'pyarrow', 'duckdb', 'dask', 'distributed', 'ray', 'pyspark'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
