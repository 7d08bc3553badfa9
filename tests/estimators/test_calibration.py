"""Own measurements move predictions near them, by so much, and nothing else."""

from __future__ import annotations

import pickle
import time
from typing import Any

import pytest

from willitrun import (
    Catalog,
    CatalogInvalidError,
    SpeedEstimate,
    Workload,
    assess,
    calibrate,
    estimate_speed,
    explain,
    load_catalog,
    plan,
)
from willitrun.estimators.calibration import compare_measurements

LOAD = Workload(prompt_tokens=512, output_tokens=128)


def speed(catalog: Catalog | None = None, model: str = "llama-3.1-8b", device: str = "rtx-4090", quant: str = "q4_k_m",
          load: Workload = LOAD) -> SpeedEstimate:  # fmt: skip
    return estimate_speed(model, device, load, quantization=quant, runtime="llama.cpp", catalog=catalog)


def decode(catalog: Catalog | None = None, **changes: Any) -> Any:
    found = speed(catalog, **changes).decode_tokens_per_s
    assert found is not None
    return found


def row(value: float, **changes: Any) -> dict[str, Any]:
    return {
        "model": "llama-3.1-8b", "accelerator": "rtx-4090", "runtime": "llama.cpp", "quantization": "q4_k_m",
        "metric": "decode_tokens_per_s", "value": value, "prompt_tokens": 512, "output_tokens": 128,
    } | changes  # fmt: skip


@pytest.mark.parametrize("share", [0.6, 0.9, 1.1])
def test_an_own_run_moves_the_estimate_towards_it_and_narrows_it(share: float) -> None:
    before = decode()
    catalog = calibrate([row(share * before.best)])
    after = decode(catalog)
    assert min(share, 1.0) < after.best / before.best < max(share, 1.0)
    assert after.high / after.low < before.high / before.low
    assert speed(catalog).evidence == "measured"


def test_what_is_further_away_moves_less_and_another_device_not_at_all() -> None:
    catalog = calibrate([row(0.7 * decode().best)])

    def factor(**changes: Any) -> float:
        return float(decode(catalog, **changes).best / decode(**changes).best)

    same, other_format, other_family = factor(), factor(quant="q8_0"), factor(model="qwen3-8b")
    assert same < other_format < 1.0
    assert other_format < other_family < 1.0
    assert decode(catalog, device="rtx-3090") == decode(device="rtx-3090")
    assert speed(catalog).prefill_tokens_per_s == speed().prefill_tokens_per_s
    assert speed(catalog, quant="q8_0").evidence == "measured-near"


def test_three_runs_say_more_than_one() -> None:
    best = decode().best
    one = decode(calibrate([row(0.7 * best)]))
    three = decode(calibrate([row(0.7 * best, id=f"run-{i}") for i in range(3)]))
    assert 0.7 * best < three.best < one.best
    assert three.high / three.low < one.high / one.low


def test_runs_as_predicted_leave_the_estimate_where_it_was() -> None:
    before = speed()
    assert before.decode_tokens_per_s is not None
    assert before.prefill_tokens_per_s is not None
    rows = [
        row(before.decode_tokens_per_s.best),
        row(before.prefill_tokens_per_s.best, metric="prefill_tokens_per_s"),
    ]
    after = speed(calibrate(rows))
    for name in (
        "decode_tokens_per_s",
        "prefill_tokens_per_s",
        "throughput_tokens_per_s",
        "time_to_first_token_s",
    ):
        assert getattr(after, name).best == pytest.approx(getattr(before, name).best, rel=1e-9)


def test_terms_sum_and_explain_shows_the_anchor() -> None:
    catalog = calibrate([row(90.0, source_url="https://example.org/run")])
    found = speed(catalog)
    assert found.decode_tokens_per_s is not None
    assert sum(term.value for term in found.terms) == pytest.approx(
        1.0 / found.decode_tokens_per_s.best, rel=1e-9
    )
    assert found.terms[-1].name == "anchor"
    verdict = assess(
        "llama-3.1-8b", "rtx-4090", LOAD, quantization="q4_k_m", runtime="llama.cpp", catalog=catalog
    )
    assert verdict.evidence_cites == ("https://example.org/run",)
    assert any("anchor" in step.title for step in explain(verdict).steps)


def test_it_is_pure_and_pickles_and_adds_up() -> None:
    base = load_catalog()
    digest, before = base.digest, decode()
    first = calibrate([row(90.0)])
    assert (load_catalog().digest, decode()) == (digest, before)
    assert first.digest == calibrate([row(90.0)]).digest != digest
    assert decode(pickle.loads(pickle.dumps(first))) == decode(first)
    both = calibrate([row(91.0, output_tokens=256)], catalog=first)
    together = calibrate([row(90.0), row(91.0, output_tokens=256)])
    assert decode(both).best == pytest.approx(decode(together).best, rel=1e-12)
    assert calibrate(
        [first.measurements[name] for name in first.measurements if name.startswith("user-")]
    ).digest


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"value": 5000.0}, "memory bandwidth"),
        ({"metric": "prefill_tokens_per_s", "value": 1e6}, "arithmetic peak"),
        ({"model": "llama-3.3-70b", "value": 5.0}, "do not fit"),
        ({"metric": "images_per_s", "value": 5.0}, "no speed of"),
        ({"metric": "watts"}, "is no speed"),
        ({"accelerator": "rtx-4091"}, "rtx-4091"),
        ({"value": None}, "is missing"),
        ({"value": -1.0}, "greater than 0"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_impossible_rows_are_refused_with_the_reason(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(CatalogInvalidError, match=what):
        calibrate([row(90.0), row(90.0) | changes])


def test_all_reasons_can_be_had_without_an_error() -> None:
    found = compare_measurements([row(90.0), row(5000.0)])
    assert [bool(comparison.refused) for comparison in found] == [False, True]


def test_a_sweep_says_what_the_scalar_door_says() -> None:
    catalog = calibrate([
        row(90.0), row(100.0, concurrency=8), row(4000.0, metric="prefill_tokens_per_s"),
        row(60.0, accelerator="rtx-3090"),
    ])  # fmt: skip
    loads = [LOAD.model_copy(update={"concurrency": n}) for n in (1, 8, 16)]
    devices, quants = ["rtx-4090", "rtx-3090", "rtx-4080"], ["q4_k_m", "q8_0"]
    table = plan(models=["llama-3.1-8b", "qwen3-8b"], machines=devices, workloads=loads, quantizations=quants,
                 runtimes=["llama.cpp"], catalog=catalog)  # fmt: skip
    number = 0
    for model in ("llama-3.1-8b", "qwen3-8b"):
        for quant in quants:
            for device in devices:
                for load in loads:
                    found = speed(catalog, model=model, device=device, quant=quant, load=load)
                    assert table["evidence"][number] == found.evidence
                    for name in (
                        "decode_tokens_per_s",
                        "prefill_tokens_per_s",
                        "throughput_tokens_per_s",
                        "time_to_first_token_s",
                    ):
                        interval = getattr(found, name)
                        for suffix, value in (
                            ("_low", interval.low),
                            ("", interval.best),
                            ("_high", interval.high),
                        ):
                            assert table[name + suffix][number] == pytest.approx(value, rel=1e-9)
                    number += 1
    assert number == len(table)


def test_a_launch_bound_measurement_says_little_of_the_device() -> None:
    """One pass of one image is the host's time; a large batch of another network is the card's."""
    load = Workload(precision="amp-fp16", batch_size=1)

    def images(model: str, batch: int, catalog: Catalog | None = None) -> float:
        found = estimate_speed(
            model, "rtx-4070", load.model_copy(update={"batch_size": batch}), catalog=catalog
        ).images_per_s
        assert found is not None
        return found.best

    own = {"model": "resnet50", "accelerator": "rtx-4070", "runtime": "pytorch", "metric": "images_per_s",
           "value": images("resnet50", 1) / 2.0, "precision": "amp-fp16", "execution": "eager", "batch_size": 1}  # fmt: skip
    catalog = calibrate([own])
    small, large = (
        images("efficientnet-b0", batch, catalog) / images("efficientnet-b0", batch) for batch in (1, 256)
    )
    assert small < 0.75
    assert 0.9 < large <= 1.05


def test_images_move_too() -> None:
    def images(catalog: Catalog | None = None) -> Any:
        load = Workload(batch_size=32, precision="amp-fp16")
        return estimate_speed("resnet50", "rtx-4070", load, catalog=catalog)

    before = images().images_per_s
    own = {"model": "resnet50", "accelerator": "rtx-4070", "runtime": "pytorch", "metric": "images_per_s",
           "value": 0.8 * before.best, "batch_size": 32, "precision": "amp-fp16"}  # fmt: skip
    after = images(calibrate([own]))
    assert 0.8 * before.best < after.images_per_s.best < before.best
    assert after.evidence == "measured"
    assert sum(term.value for term in after.terms) == pytest.approx(32 / after.images_per_s.best, rel=1e-9)


def test_fifty_rows_are_quick() -> None:
    rows = [row(90.0 + i / 10, output_tokens=100 + i) for i in range(50)]
    calibrate(rows)
    best = min(_timed(rows) for _ in range(5))
    # 12 ms where it was measured; owed are 50.
    assert best < 0.2


def _timed(rows: list[dict[str, Any]]) -> float:
    start = time.process_time()
    calibrate(rows)
    return time.process_time() - start
