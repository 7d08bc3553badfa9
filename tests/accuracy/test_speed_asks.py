"""Measured rows become what a caller would ask, and what is fitted is what a caller gets."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accuracy.measurements import without_measurements
from accuracy.speed.asks import RowSkipped, ask_serving, ask_single
from accuracy.speed.formats import quantization_of
from accuracy.speed.landed import ask_library, read_rate
from accuracy.speed.observations import pack_asks, prepare_ask, read_asks, thin_rows
from accuracy.speed.prediction import predict_rates

from willitrun import load_catalog

BLANK = dict.fromkeys(("row_id", "source_id", "date_or_version", "device", "hardware_id", "device_count", "cpu_offload_ngl", "model_norm", "quant", "runtime", "backend", "flash_attn", "kv_cache_type", "n_threads", "power_limit_w", "n_ubatch", "parallelism", "spec_decode", "phase", "metric_def", "prompt_tokens", "gen_tokens", "context_depth", "batch_size_concurrency", "value_tok_s", "qc_flag", "reliability", "notes"), "")  # fmt: skip
DECODE = BLANK | {
    "row_id": "r1",
    "source_id": "here",
    "device": "NVIDIA GeForce RTX 4090",
    "hardware_id": "nvidia-geforce-rtx-4090",
    "model_norm": "meta-llama/Llama-3.1-8B-Instruct",
    "quant": "Q4_K_M",
    "runtime": "llama.cpp",
    "backend": "cuda",
    "phase": "decode",
    "metric_def": "llama-bench tg avg",
    "gen_tokens": "128",
    "value_tok_s": "140",
    "reliability": "A",
}
PREFILL = DECODE | {
    "row_id": "r2",
    "phase": "prefill",
    "metric_def": "llama-bench pp avg",
    "prompt_tokens": "2048",
}


def one(record: dict[str, str]):  # type: ignore[no-untyped-def]
    (ask,) = ask_single(record)
    return ask


def test_a_row_states_depth_options_and_placement() -> None:
    ask = one(
        DECODE | {"context_depth": "4096", "flash_attn": "1.0", "n_ubatch": "1024", "cpu_offload_ngl": "99"}
    )
    assert dict(ask.workload) == {
        "cached_tokens": 4096,
        "prompt_tokens": 1,
        "output_tokens": 128,
        "concurrency": 1,
    }
    assert dict(ask.runtime)["flash_attention"] is True
    assert dict(ask.runtime)["n_ubatch"] == 1024
    assert dict(ask.placement)["gpu_layers"] == 999


def test_a_part_on_the_host_is_placed_there() -> None:
    ask = one(DECODE | {"cpu_offload_ngl": "20"})
    assert ask.phase == "offload-decode"
    assert dict(ask.placement)["gpu_layers"] == 20


def test_the_host_of_a_row_is_described() -> None:
    notes = "accel_type=GPU; cpu=AMD EPYC 9354 32-Core Processor (znver4); ram=755.6GB; os=Windows"
    host = dict(one(DECODE | {"notes": notes}).host)
    assert host == {"cpu": "AMD EPYC 9354 32-Core Processor (znver4)", "os": "Windows", "ram": "755.6 GiB"}


def test_a_power_limit_is_asked_for() -> None:
    ask = one(DECODE | {"power_limit_w": "220.0"})
    assert ask.machine == [{"id": "nvidia-geforce-rtx-4090", "power_limit": "220 W"}]
    free, capped = (prepare_ask(item).machine.row for item in (one(DECODE), ask))
    assert capped.compute_w < free.compute_w
    assert capped.memory_bytes_per_s == free.memory_bytes_per_s


SERVED = {"id": "s1", "label_suspect": "0", "backend": "trtllm", "model_path": "deepseek-ai/DeepSeek-R1", "system": "b200_sxm", "precision": "fp4", "isl": "1024", "osl": "512", "batch_size": "32", "concurrency": "32", "tp_size": "8", "attention_dp_size": "1", "moe_tp_size": "1", "moe_ep_size": "8", "silicon_ttft_ms": "200", "silicon_tpot_ms": "10", "measured": "2026-02-03"}  # fmt: skip


def test_a_served_row_asks_for_both_latencies() -> None:
    per_token, first = ask_serving(SERVED)
    assert (per_token.phase, per_token.actual) == ("tpot", 100.0)
    assert (first.phase, first.actual) == ("ttft", 5.0)
    assert dict(per_token.placement) == {"tp": 8, "dp": 1, "ep": 8}
    assert per_token.count == 8


@pytest.mark.parametrize(
    ("tensor", "data", "placement"), [("64", "1", {"tp": 8, "dp": 1}), ("1", "64", {"tp": 1, "dp": 8})]
)
def test_labels_that_multiply_what_their_source_states_are_undone(
    tensor: str, data: str, placement: dict[str, int]
) -> None:
    labels = {"tp_size": tensor, "attention_dp_size": data, "moe_tp_size": "8", "moe_ep_size": "8"}
    ask, _ = ask_serving(SERVED | labels)
    assert dict(ask.placement) == placement | {"ep": 8}
    assert ask.count == 8
    with pytest.raises(RowSkipped):
        list(ask_serving(SERVED | labels | {"moe_tp_size": "2"}))


def test_a_load_is_as_long_as_its_recipe_draws_it() -> None:
    shape = {"isl": "8192", "osl": "1024"}
    drawn, _ = ask_serving(SERVED | shape)
    assert dict(drawn.workload)["prompt_tokens"] == round(0.9 * 8192)
    assert dict(drawn.workload)["output_tokens"] == round(0.9 * 1024)
    stated, _ = ask_serving(SERVED | {"isl": "512", "osl": "128"})
    assert dict(stated.workload)["prompt_tokens"] == 512


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"backend": "sglang", "concurrency": "4"}, 5.0),
        ({"backend": "sglang", "concurrency": "16"}, 15.0),
        ({"backend": "sglang", "model_path": "zhipuai/GLM-5"}, 0.0),
        ({"backend": "vllm"}, 0.0),
        ({}, 0.0),
        (
            {
                "attention_dp_size": "8",
                "tp_size": "1",
                "moe_tp_size": "1",
                "moe_ep_size": "8",
                "concurrency": "922",
            },
            30.0,
        ),
    ],
)
def test_a_server_holds_requests_as_long_as_its_recipe_says(change: dict[str, str], steps: float) -> None:
    _, first = ask_serving(SERVED | {"isl": "1024", "osl": "1024", "precision": "fp8"} | change)
    assert first.held_steps == pytest.approx(steps, rel=0.02)


def test_runs_with_speculation_that_their_table_does_not_tell_apart_are_left_out() -> None:
    for change in ({"measured": "2026-02-06"}, {"measured": "2026-01-14"}):
        with pytest.raises(RowSkipped, match="speculative"):
            list(ask_serving(SERVED | change))
    eager = {
        "backend": "sglang",
        "precision": "fp8",
        "measured": "2026-03-25",
        "moe_tp_size": "8",
        "moe_ep_size": "1",
    }
    with pytest.raises(RowSkipped, match="speculative"):
        list(ask_serving(SERVED | eager))
    # The recipe over four accelerators has no speculation.
    assert len(list(ask_serving(SERVED | eager | {"tp_size": "4", "moe_tp_size": "4"}))) == 2


def test_experts_are_over_no_more_accelerators_than_there_are() -> None:
    ask, _ = ask_serving(SERVED | {"tp_size": "4", "moe_tp_size": "4", "moe_ep_size": "4"})
    assert dict(ask.placement) == {"tp": 4, "dp": 1, "ep": 4}


def test_a_measurement_under_two_names_counts_once(tmp_path: Path) -> None:
    names = ("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3")
    rows = [SERVED | {"id": name, "model_path": name} for name in names]
    with (tmp_path / "serving_speed.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, SERVED)
        table.writeheader()
        table.writerows(rows)
    asks, skipped = read_asks(tmp_path)
    assert [ask.phase for ask in asks] == ["tpot", "ttft"]
    assert skipped["measurement stated twice"] == 2


def test_a_batch_beyond_the_pool_is_written_in_waves() -> None:
    def served(concurrency: int) -> float:
        ask, _ = ask_serving(
            SERVED | {"model_path": "meta-llama/Llama-3.1-70B", "precision": "bf16", "system": "h100_sxm",
                      "tp_size": "2", "moe_ep_size": "2", "concurrency": str(concurrency)}
        )  # fmt: skip
        row = replace(ask, phase="static", static_batch=concurrency)
        observed = pack_asks([(row, prepare_ask(row))], {})
        calibration = load_catalog().calibrations["llm-speed"]
        return float(predict_rates(observed, calibration.coefficients, calibration.levels)[0])

    # Far beyond what the pool holds, twice the batch takes twice the time.
    assert served(1024) / served(2048) == pytest.approx(2.0, rel=0.02)


def test_a_host_alone_is_no_network() -> None:
    assert one(DECODE | {"notes": "rpc_nodes=0; x"}).count == 1
    with pytest.raises(RowSkipped):
        one(DECODE | {"notes": "rpc_nodes=1; x"})


@pytest.mark.parametrize(
    "said",
    [
        {"backend": "vulkan/rocm"},
        {"metric_def": "tok/s out (user submitted)", "prompt_tokens": "60054", "notes": "cmd="},
        {"notes": "kind=single_stream_wall", "batch_size_concurrency": "4"},
    ],
)
def test_a_row_that_contradicts_itself_asks_nothing(said: dict[str, str]) -> None:
    with pytest.raises(RowSkipped):
        one(DECODE | said)


def test_llama_bench_times_prompts_apart() -> None:
    said = {"metric_def": "tok/s out (user submitted)", "prompt_tokens": "2048"}
    assert one(DECODE | said | {"notes": "cmd=llama-bench -p 2048 -n 128"}).actual == 140
    with pytest.raises(RowSkipped):
        one(DECODE | said | {"notes": "cmd=llama-server -c 4096"})


def test_a_command_says_what_a_form_leaves_out() -> None:
    bench = one(
        DECODE
        | {"context_depth": "", "notes": "ctx=131072; cmd=llama-bench -m  -p 512 -n 128 -d 131072 -o json"}
    )
    assert dict(bench.workload)["cached_tokens"] == 131072
    served = one(
        DECODE | {"cpu_offload_ngl": "99", "notes": "cmd=llama-server -ngl 99 --n-cpu-moe 26 -ub 1024 -fa on"}
    )
    assert served.phase == "offload-decode"
    assert dict(served.placement)["cpu_moe_layers"] == 26
    assert dict(served.runtime)["n_ubatch"] == 1024


def test_both_settings_of_a_switch_that_no_request_has_are_asked() -> None:
    for switch in ("", "1"):
        notes = f"build=llama.cpp-hip fa=-fa 1 b= hipblaslt={switch} avg_power_w=97.1;"
        assert one(PREFILL | {"notes": notes})


def test_weights_that_no_memory_holds_and_reads_that_no_memory_allows_are_left_out() -> None:
    def kept(**change: str) -> int:
        row = one(DECODE | change)
        return len(pack_asks([(row, prepare_ask(row))], {}))

    whole = {"model_norm": "meta-llama/Llama-3.1-8B-Instruct", "quant": "F16", "cpu_offload_ngl": "all"}
    assert kept(**whole, value_tok_s="55") == 1
    assert kept(**whole, value_tok_s="80") == 0
    assert kept(**whole | {"model_norm": "meta-llama/Llama-3.1-70B-Instruct"}, value_tok_s="1") == 0


def test_a_processor_runs_on_as_many_cores_as_it_was_given_threads() -> None:
    record = DECODE | {"hardware_id": "", "backend": "cpu", "device": "Intel Core i5-1235U"}
    assert dict(one(record | {"n_threads": "6.0"}).host)["cores"] == 6
    assert dict(one(record | {"n_threads": "12.0"}).host)["cores"] == 10
    assert "cores" not in dict(one(record | {"n_threads": ""}).host)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "Pi 5 - 8GB (NVIDIA RTX 4090)"}, "single-board"),
        ({"device": "HiFive Premier P550 (NVIDIA RTX 4090)"}, "single-board"),
        (
            {
                "device": "AMD EPYC 9634 84-Core Processor",
                "hardware_id": "",
                "backend": "cpu",
                "notes": "ram=7.8GB;",
            },
            "memory of a part",
        ),
        (
            {"device": "Intel Xeon Platinum 8259CL CPU @ 2.50GHz", "hardware_id": "", "backend": "cpu"},
            "how many cores ran",
        ),
        ({"device": "Some Box (128GB)", "hardware_id": "", "backend": "cpu"}, "neither memory nor cores"),
    ],
)
def test_a_host_that_says_nothing_of_the_device_is_left_out(change: dict[str, str], reason: str) -> None:
    with pytest.raises(RowSkipped, match=reason):
        one(DECODE | change)


def test_llamafile_beside_avx512_bf16_is_a_program_of_its_own() -> None:
    record = DECODE | {"runtime": "llamafile/localscore", "metric_def": "LocalScore avg over 9 tests"}
    plain = prepare_ask(one(record | {"notes": "cpu=AMD EPYC 7352 24-Core Processor (znver2);"}))
    slow = prepare_ask(one(record | {"notes": "cpu=AMD EPYC 9354 32-Core Processor (znver4);"}))
    assert plain.policy.codes["runtime"].tolist() != slow.policy.codes["runtime"].tolist()
    assert plain.lowered.key != slow.lowered.key


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"qc_flag": "exceeds-bw;"}, "quality flag"),
        ({"spec_decode": "{'method': 'mtp'}"}, "speculative decoding"),
        ({"runtime": "rkllm"}, "runtime without a record"),
        ({"runtime": "mlx-vlm"}, "runtime without a record"),
        ({"notes": "Raspberry Pi CM5 host"}, "single-board"),
        ({"quant": "APEX-I-Balanced"}, "format without a rule"),
        ({"quant": "int4"}, "format without a rule"),
        ({"cpu_offload_ngl": "0"}, "holds no layer"),
        ({"value_tok_s": "0"}, "no value"),
        ({"metric_def": "end-to-end gen tok/s"}, "end-to-end"),
        ({"prompt_tokens": "0.0", "gen_tokens": "0.0"}, "neither prompt nor answer"),
        ({"notes": "cmd=llama-server -m a.gguf --draft-max 8"}, "speculative decoding"),
        ({"notes": 'cmd=-ot "blk.3.ffn_.*_exps=CPU"'}, "pattern of names"),
        (
            {"device": "Jetson Orin Nano Super", "hardware_id": "nvidia-jetson-orin-nano-8gb"},
            "another variant",
        ),
    ],
)
def test_rows_are_left_out_by_what_they_say_of_themselves(change: dict[str, str], reason: str) -> None:
    with pytest.raises(RowSkipped, match=reason):
        list(ask_single(DECODE | change))


def test_localscore_prefill_is_the_mean_of_nine_prompts() -> None:
    asks = list(ask_single(PREFILL | {"metric_def": "LocalScore avg over 9 tests (pp16..4096/tg16..3072)"}))
    assert [dict(ask.workload)["prompt_tokens"] for ask in asks] == [
        1024,
        4096,
        2048,
        2048,
        1024,
        1280,
        384,
        64,
        16,
    ]


@pytest.mark.parametrize(
    "record",
    [
        DECODE,
        PREFILL,
        DECODE | {"context_depth": "16384", "flash_attn": "0.0", "kv_cache_type": "q8_0"},
        DECODE | {"backend": "vulkan", "date_or_version": "2024-05"},
        DECODE | {"device_count": "2", "parallelism": "layer-split"},
        DECODE | {"runtime": "vLLM", "quant": "FP8", "batch_size_concurrency": "16"},
        DECODE | {"model_norm": "Qwen/Qwen3-30B-A3B", "cpu_offload_ngl": "20"},
        PREFILL | {"hardware_id": "apple-m3-max-40gpu", "device": "M3 Max", "backend": "metal"},
        DECODE
        | {"backend": "cpu", "device": "AMD Ryzen 9 5950X 16-Core Processor (znver3)", "hardware_id": ""},
    ],
)
def test_what_is_fitted_is_what_a_caller_gets(record: dict[str, str]) -> None:
    ask = one(record)
    observations = pack_asks([(ask, prepare_ask(ask))], {})
    calibration = load_catalog().calibrations["llm-speed"]
    fitted = predict_rates(observations, calibration.coefficients, calibration.levels)
    answered = read_rate(ask, ask_library(ask))
    assert answered is not None
    assert fitted[0] == pytest.approx(answered[1], rel=1e-9)
    assert answered[0] < answered[1] < answered[2]


def test_long_series_are_thinned_and_keep_their_weight() -> None:
    asks = [one(DECODE | {"row_id": f"r{number}", "context_depth": str(64 * number)}) for number in range(40)]
    observations = pack_asks([(ask, prepare_ask(ask)) for ask in asks], {})
    thinned = thin_rows(observations)
    assert len(thinned) == 6
    assert np.isclose(thinned.stands_for.sum(), 40)


def test_formats_are_read_as_they_are_written() -> None:
    assert quantization_of("GGUF UD-Q4_K_XL") in {"ud-q4_k_xl", "q4_k_m"}
    assert quantization_of("MLX 4bit") == "mlx-4bit"
    assert quantization_of("dflash-quant") is None


def test_scores_do_not_lean_on_catalogued_measurements() -> None:
    assert not without_measurements(load_catalog()).measurements
