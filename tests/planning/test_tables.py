"""Sweeps as tables: what a table can do, and that a row says what `assess` says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from willitrun import InvalidWorkloadError, PlanTable, UnknownIdError, Workload, assess, plan, plan_rows
from willitrun.kernels.placement import TIERS
from willitrun.planning.fleets import plan_blocks


@pytest.fixture(scope="module")
def table() -> PlanTable:
    return plan(
        models=["llama-3.1-8b", "llama-3.3-70b"],
        machines=["rtx-4090", "rtx-3060-12gb", ["rtx-3090", "rtx-3090"]],
        workloads=Workload.grid(contexts=[4096, 131072], concurrencies=[1, 4]),
        quantizations=["q4_k_m", "q8_0"],
    )


def test_shape_and_order(table: PlanTable) -> None:
    assert len(table) == 2 * 2 * 3 * 2 * 2
    assert table["model"][0] == "llama-3.1-8b"
    assert table["model"][-1] == "llama-3.3-70b"
    assert table["context_tokens"][:4].tolist() == [4096, 4096, 131072, 131072]
    assert table["concurrency"][:4].tolist() == [1, 4, 1, 4]
    assert "tier" in table
    assert "nonsense" not in table
    assert tuple(table) == table.keys()
    with pytest.raises(KeyError):
        table["nonsense"]


def test_bytes_are_integers_and_rates_are_floats(table: PlanTable) -> None:
    for name in table:
        kind = table.columns[name].dtype.kind
        if name.endswith(("_bytes", "_bytes_low", "_bytes_high", "_tokens")):
            assert table.columns[name].dtype == np.int64, name
        elif "_per_s" in name:
            assert kind == "f", name
        assert len(table[name]) == len(table)
    assert (table["total_bytes_low"] <= table["total_bytes"]).all()
    assert (table["total_bytes"] <= table["total_bytes_high"]).all()


def test_filter(table: PlanTable) -> None:
    fits = table.filter(tier="comfortable")
    assert 0 < len(fits) < len(table)
    assert set(fits["tier"]) == {"comfortable"}
    both = table.filter(table["context_tokens"] > 8192, model="llama-3.1-8b", concurrency=1)
    assert len(both) == 6
    assert len(table.filter(tier="splendid")) == 0
    assert len(table.filter(np.zeros(len(table), dtype=bool))) == 0


def test_filter_by_several_values_and_by_no_column(table: PlanTable) -> None:
    both = table.filter(tier=["comfortable", "will-not-run"])
    assert len(both) == len(table.filter(tier="comfortable")) + len(table.filter(tier="will-not-run"))
    assert len(table.filter(context_tokens=[4096, 1])) == len(table.filter(context_tokens=4096))
    with pytest.raises(UnknownIdError, match="teir"):
        table.filter(teir="comfortable")


@pytest.mark.parametrize(
    "axes", [{"models": []}, {"machines": []}, {"machines": "rtx-4090"}, {"workloads": []}]
)
def test_an_axis_is_a_list_with_something_in_it(axes: dict[str, Any]) -> None:
    asked = {"models": ["llama-3.1-8b"], "machines": ["rtx-4090"], "quantizations": ["q4_k_m"]} | axes
    with pytest.raises(InvalidWorkloadError, match=next(iter(axes))):
        plan(**asked)
    with pytest.raises(InvalidWorkloadError, match=next(iter(axes))):
        list(plan_blocks(**asked))


def test_sort(table: PlanTable) -> None:
    down = table.sort_by("decode_tokens_per_s")["decode_tokens_per_s"]
    known = down[~np.isnan(down)]
    assert (np.diff(known) <= 0).all()
    assert np.isnan(down[len(known) :]).all(), "unknown values last"
    up = table.sort_by("decode_tokens_per_s", descending=False)["decode_tokens_per_s"]
    assert (np.diff(up[: len(known)]) >= 0).all()
    assert np.isnan(up[len(known) :]).all(), "unknown values last"


def test_best_per(table: PlanTable) -> None:
    best = table.filter(tier="comfortable").best_per("machine", "decode_tokens_per_s")
    assert len(best) == len(set(best["machine"]))
    for row in range(len(best)):
        found = best.row(row)
        rivals = table.filter(tier="comfortable", machine=found["machine"])["decode_tokens_per_s"]
        assert found["decode_tokens_per_s"] == np.nanmax(rivals)


def test_rows(table: PlanTable) -> None:
    first, last = table.row(0), table.row(-1)
    assert first["tier"] in TIERS
    assert isinstance(first["total_bytes"], int)
    assert repr(last) == repr(table.row(len(table) - 1))
    assert repr(table.row(-2)) == repr(table.row(len(table) - 2))
    with pytest.raises(IndexError):
        table.row(len(table))


def test_a_table_without_rows(table: PlanTable) -> None:
    empty = table.filter(tier="splendid")
    assert repr(empty) == f"<PlanTable 0 rows x {len(table.keys())} columns>"
    assert "<table>" in empty._repr_html_()
    assert len(empty.sort_by("total_bytes")) == 0
    assert len(empty.best_per("machine", "total_bytes")) == 0
    assert len(empty.head()) == 0


def test_to_dict_decodes(table: PlanTable) -> None:
    columns = table.to_dict()
    assert set(columns) == set(table)
    assert columns["machine"][0] == "NVIDIA GeForce RTX 4090"
    assert table.codes("machine").dtype.kind == "i"


def test_html_is_escaped() -> None:
    hostile = {"name": "<script>x</script>", "accelerators": ["rtx-4090"], "host": {"ram": "64 GiB"}}
    shown = plan(models=["llama-3.1-8b"], machines=[hostile], quantizations=["q4_k_m"])._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_progress_counts_every_row() -> None:
    seen: list[int] = []
    table = plan(
        models=["llama-3.1-8b", "resnet-50"],
        machines=["rtx-4090", "rtx-3060-12gb"],
        workloads=[Workload()],
        quantizations=[None],
        runtimes=["vllm"],
        progress=seen.append,
    )
    assert sum(seen) == len(table) == 4


def test_a_format_that_nobody_named_is_the_one_assess_takes() -> None:
    models, machines = (
        ["llama-3.1-8b", "llama-3.3-70b", "gpt-oss-20b"],
        ["rtx-4090", "rtx-3050-8gb", "m3-max-40gpu"],
    )
    loads = [*Workload.grid(contexts=[4096, 131072]), Workload(mode="qlora", context_tokens=512)]
    table = plan(models=models, machines=machines, workloads=loads, quantizations=[None, "q4_k_m"])
    asked = [(m, q, c, load) for m in models for q in (None, "q4_k_m") for c in machines for load in loads]
    assert len(table) == len(asked)
    formats = set()
    for number, (model, quantization, machine, load) in enumerate(asked):
        verdict, row = assess(model, machine, load, quantization=quantization), table.row(number)
        assert row["model"] == model
        assert row["quantization"] == verdict.inputs.quantization
        assert row["runtime"] == verdict.inputs.runtime["name"]
        assert row["tier"] == verdict.tier
        if verdict.memory is not None:
            assert row["total_bytes"] == verdict.memory.total_bytes.best
        formats.add(row["quantization"])
    assert len(formats) > 4  # the rows do not all take one and the same


def test_the_runtime_of_a_row_is_its_machines_own() -> None:
    machines = ["rtx-4090", "h100-sxm", "m3-max-40gpu"]
    table = plan(models=["gpt-oss-20b"], machines=machines)
    assert table["runtime"].tolist() == [
        assess("gpt-oss-20b", one).inputs.runtime["name"] for one in machines
    ]
    assert len(set(table["runtime"])) > 1


def test_a_gap_in_the_facts_is_told_once_for_all_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = {"accelerators": [{"name": "Card of nobody", "memory": "24 GiB", "vendor": "nvidia"}]}
    loads = Workload.grid(contexts=[4096, 8192], concurrencies=[1, 2, 3])
    asked: dict[str, Any] = {
        "models": ["llama-3.1-8b"],
        "machines": [unknown, "rtx-4090"],
        "workloads": loads,
        "quantizations": ["q4_k_m"],
    }
    monkeypatch.setattr("willitrun.planning.sweeps.store_alone", lambda *_: pytest.fail("judged one by one"))
    table = plan(**asked)
    verdict = assess("llama-3.1-8b", unknown, loads[0], quantization="q4_k_m")
    assert verdict.tier == "unknown"
    assert set(table.filter(machine="Card of nobody")["tier"]) == {"unknown"}
    assert set(table.filter(machine="Card of nobody")["blocked_by"]) == {verdict.reasons[0].code}
    assert np.isnan(table.filter(machine="Card of nobody")["decode_tokens_per_s"]).all()
    assert (table.filter(machine="NVIDIA GeForce RTX 4090")["decode_tokens_per_s"] > 0).all()
    assert "images_per_s" not in table or np.isnan(table["images_per_s"]).all()


def test_rows_that_share_little_are_not_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = ["rtx-4090", "rtx-3090", "rtx-3060-12gb", "rtx-4080", "rtx-4060-ti-16gb"]
    machines = [*cards, *([card, card] for card in cards)]
    rows = [
        {"model": "llama-3.1-8b", "machine": machines[number % 10], "quantization": "q4_k_m", "context_tokens": 1024 + number}
        for number in range(400)
    ]  # fmt: skip
    judged = 0

    def counted(**asked: Any) -> PlanTable:
        nonlocal judged
        table = plan(**asked)
        judged += len(table)
        return table

    monkeypatch.setattr("willitrun.planning.plans.plan", counted)
    table = plan_rows(rows)
    assert judged < 2 * len(rows)
    assert table["context_tokens"].tolist() == [row["context_tokens"] for row in rows]
    for number in range(0, 400, 39):
        agrees(table.row(number), rows[number])


# Rows

ROWS: list[dict[str, Any]] = [
    {"model": "llama-3.1-8b", "machine": "rtx-4090", "quantization": "q4_k_m", "context_tokens": 8192},
    {"model": "llama-3.3-70b", "machine": "rtx-4090", "quantization": "q4_k_m", "context_tokens": 4096},
    {"model": "llama-3.1-8b", "machine": "rtx-3060-12gb", "quantization": "q4_k_m", "context_tokens": 131072},
    {"model": "llama-3.1-8b", "machine": "rtx-4090", "quantization": "q8_0", "context_tokens": 8192},
    {"model": "llama-3.1-8b", "machine": "rtx-4090", "quantization": "q4_k_m", "context_tokens": 4096},
    {"model": "llama-3.1-8b", "machine": "rtx-4090", "quantization": "q4_k_m", "context_tokens": 8192},
]


def agrees(found: dict[str, Any], row: dict[str, Any]) -> None:
    fields = {name: value for name, value in row.items() if name in Workload.model_fields}
    verdict = assess(row["model"], row["machine"], Workload(**fields), quantization=row.get("quantization"))
    assert found["tier"] == verdict.tier
    assert verdict.memory is not None
    assert found["total_bytes"] == verdict.memory.total_bytes.best
    assert found["total_bytes_high"] == verdict.memory.total_bytes.high
    assert found["weights_bytes"] == verdict.memory.weights_bytes.best
    assert verdict.speed is not None
    head = verdict.speed.headline()
    assert head is not None
    for suffix, bound in (("", "best"), ("_low", "low"), ("_high", "high")):
        assert found[head[0] + suffix] == pytest.approx(getattr(head[1], bound), rel=1e-9)
    assert found["bound"] == verdict.speed.bound
    assert found["evidence"] == verdict.speed.evidence
    codes = {reason.code for reason in verdict.reasons}
    assert found["fit_reason"] in codes or "memory-suffices" in codes


def test_rows_keep_their_order() -> None:
    table = plan_rows(ROWS)
    assert table["model"].tolist() == [row["model"] for row in ROWS]
    assert table["context_tokens"].tolist() == [row["context_tokens"] for row in ROWS]
    for number, row in enumerate(ROWS):
        agrees(table.row(number), row)
    assert repr(table.row(0)) == repr(table.row(5))


def test_rows_from_a_mapping() -> None:
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    assert plan_rows(columns).to_dict().keys() == plan_rows(ROWS).to_dict().keys()
    assert plan_rows(columns)["total_bytes"].tolist() == plan_rows(ROWS)["total_bytes"].tolist()


def test_rows_of_several_cards() -> None:
    rows = [
        {"model": "llama-3.3-70b", "machine": cards, "quantization": "q4_k_m"}
        for cards in (["rtx-3090"] * 2, "rtx-4090")
    ]
    table = plan_rows(rows)
    for number, row in enumerate(rows):
        agrees(table.row(number), row)


def test_rows_carry_placements() -> None:
    cards = ["h100-sxm5-80gb", "h100-sxm5-80gb"]
    rows: list[dict[str, Any]] = [
        {
            "model": "llama-3.1-8b",
            "machine": cards,
            "quantization": "bf16",
            "runtime": "vllm",
            "placement": placement,
        }
        for placement in ("tensor", "data", "tensor")
    ]
    table = plan_rows(rows)
    for number, row in enumerate(rows):
        verdict = assess(row["model"], cards, quantization="bf16", runtime="vllm", placement=row["placement"])
        assert verdict.memory is not None
        assert table["total_bytes"][number] == verdict.memory.total_bytes.best
    assert table["total_bytes"][0] == table["total_bytes"][2] != table["total_bytes"][1]


def test_rows_with_different_keys() -> None:
    rows = [
        {"model": "llama-3.1-8b", "machine": "rtx-4090", "quantization": "q4_k_m"},
        {"model": "resnet-50", "machine": "rtx-3060-12gb", "batch_size": 8},
    ]
    table = plan_rows(rows)
    for number, row in enumerate(rows):
        agrees(table.row(number), row)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([{"model": "llama-3.1-8b", "machine": "rtx-4090", "contxt": 1}], "'contxt' is neither"),
        ([{"model": "llama-3.1-8b", "machine": "rtx-4090"}, {"model": "llama-3.1-8b", "machine": "rtx-4090", "batchsize": 1}], "'batchsize' is neither"),
        ([{"machine": "rtx-4090", "quantization": "q4_k_m"}], "model"),
        ([{"model": "llama-3.1-8b", "quantization": "q4_k_m"}], "machine"),
    ],
)  # fmt: skip
def test_rows_that_say_nothing(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidWorkloadError, match=message):
        plan_rows(rows)


def test_rows_with_a_misspelt_name() -> None:
    with pytest.raises(UnknownIdError, match="rtx-490"):
        plan_rows([{"model": "llama-3.1-8b", "machine": "rtx-490", "quantization": "q4_k_m"}])


def test_pictures_in_a_sweep_are_judged_alike() -> None:
    loads = [
        Workload(batch_size=batch, precision=precision)
        for batch in (1, 64, 4096)
        for precision in ("fp32", "amp-fp16")
    ]
    machines = ["rtx-3060-12gb", "nvidia-tesla-t4"]
    table = plan(models=["resnet-50", "vit-b-16"], machines=machines, workloads=loads)
    assert len(table) == 24
    number = 0
    for model in ("resnet-50", "vit-b-16"):
        for machine in machines:
            for load in loads:
                verdict = assess(model, machine, load)
                row = table.row(number)
                number += 1
                assert row["tier"] == verdict.tier
                assert verdict.memory is not None
                assert row["total_bytes"] == verdict.memory.total_bytes.best
                if verdict.speed is None:
                    assert np.isnan(row["images_per_s"])
                    continue
                assert verdict.speed.images_per_s is not None
                assert row["images_per_s"] == pytest.approx(verdict.speed.images_per_s.best, rel=1e-9)
                assert row["images_per_s_low"] == pytest.approx(verdict.speed.images_per_s.low, rel=1e-9)
                assert row["bound"] == verdict.speed.bound


def test_pandas_both_ways(table: PlanTable) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table.to_dict())
    assert len(frame) == len(table)
    assert frame["total_bytes"].dtype == "int64"
    asked = pandas.DataFrame(ROWS)
    assert plan_rows(asked)["total_bytes"].tolist() == plan_rows(ROWS)["total_bytes"].tolist()
    gaps = pandas.DataFrame([{**ROWS[0], "batch_size": None}, {**ROWS[1], "context_tokens": None}])
    assert plan_rows(gaps)["context_tokens"].tolist() == [8192, 8192]


@pytest.mark.parametrize("quantization", ["f16", "q4_0"])
def test_a_model_that_speaks_and_is_no_known_transformer_is_judged_alike(quantization: str) -> None:
    row = {"model": "dia-1.6b", "machine": "rtx-4090", "quantization": quantization}
    found = plan_rows([row]).row(0)
    verdict = assess("dia-1.6b", "rtx-4090", quantization=quantization)
    assert verdict.memory is not None
    assert found["tier"] == verdict.tier != "unknown"
    assert found["total_bytes"] == verdict.memory.total_bytes.best > 0
    assert found["fit_reason"] in {"fits-comfortably", "does-not-fit"}
