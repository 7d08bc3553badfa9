"""Output of benchmark tools as they print it; examples from the places that each test names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun import WillItRunError, calibrate
from willitrun.interop.benchmark_logs import read_benchmarks

WHO: dict[str, Any] = {"model": "qwen2.5-7b", "accelerator": "rtx-4080"}

# https://github.com/ggml-org/llama.cpp/blob/master/tools/llama-bench/README.md
CSV = """build_commit,build_number,gpu_info,backends,model_filename,model_type,n_gpu_layers,n_cpu_moe,n_prompt,n_gen,n_depth,test_time,avg_ts,stddev_ts
"8cf427ff","5163","NVIDIA GeForce RTX 4080","CUDA","models/Qwen2.5-7B-Instruct-Q4_K_M.gguf","qwen2 7B Q4_K - Medium","-1","0","512","0","0","2025-04-24T11:57:09Z","7285.676949","100.064434"
"8cf427ff","5163","NVIDIA GeForce RTX 4080","CUDA","models/Qwen2.5-7B-Instruct-Q4_K_M.gguf","qwen2 7B Q4_K - Medium","-1","0","0","128","0","2025-04-24T11:57:10Z","119.915244","0.430617"
"""
RESULT = {
    "build_number": 5163, "gpu_info": "NVIDIA GeForce RTX 4080", "backends": "CUDA",
    "model_filename": "models/Qwen2.5-7B-Instruct-Q4_K_M.gguf", "model_type": "qwen2 7B Q4_K - Medium",
    "n_gpu_layers": -1, "n_prompt": 0, "n_gen": 128, "n_depth": 512, "avg_ts": 118.881588, "samples_ts": [119.03],
}  # fmt: skip
TABLE = """
| model                          |       size |     params | backend    | ngl |            test |                  t/s |
| ------------------------------ | ---------: | ---------: | ---------- | --: | --------------: | -------------------: |
| qwen2 7B Q4_K - Medium         |   4.36 GiB |     7.62 B | CUDA       |  -1 |           pp512 |      7340.20 ± 23.45 |
| qwen2 7B Q4_K - Medium         |   4.36 GiB |     7.62 B | CUDA       |  -1 |           tg128 |        120.60 ± 0.59 |
| qwen2 7B Q4_K - Medium         |   4.36 GiB |     7.62 B | CUDA       |  -1 |    tg128 @ d512 |        116.71 ± 0.60 |
"""
# https://github.com/ggml-org/llama.cpp/issues/9013
PERF = """llama_perf_sampler_print:    sampling time =      24.62 ms /   227 runs   (    0.11 ms per token,  9220.90 tokens per second)
llama_perf_context_print: prompt eval time =     927.17 ms /    49 tokens (   18.92 ms per token,    52.85 tokens per second)
llama_perf_context_print:        eval time =   14085.85 ms /   178 runs   (   79.13 ms per token,    12.64 tokens per second)
llama_perf_context_print:       total time =   20699.49 ms /   227 tokens
"""
SERVER = """slot print_timing: id  0 | task 0 |
prompt eval time =     915.13 ms /    51 tokens (   17.94 ms per token,    55.73 tokens per second)
       eval time =   23038.87 ms /   275 tokens (   83.78 ms per token,    11.94 tokens per second)
"""
# https://github.com/ggml-org/llama.cpp/issues/2237
OLD = """llama_print_timings: prompt eval time =  6294.68 ms /   271 tokens (   23.23 ms per token,    43.05 tokens per second)
llama_print_timings:        eval time = 115222.19 ms /   510 runs   (  225.93 ms per token,     4.43 tokens per second)
"""
# https://github.com/ollama/ollama/pull/12742
OLLAMA = """total duration:       30.024798033s
load duration:        4.758588663s
prompt eval count:    32768 token(s)
prompt eval duration: 7.779621548s
prompt eval rate:     4212.03 tokens/s
eval count:           1769 token(s)
eval duration:        17.148014223s
eval rate:            103.16 tokens/s
"""
# Fields as vLLM's benchmark saves them, https://docs.vllm.ai/en/latest/cli/bench/serve.html
VLLM = {
    "date": "20250424-115850", "model_id": "Qwen/Qwen2.5-7B-Instruct", "request_rate": "inf", "max_concurrency": 32,
    "num_prompts": 32, "completed": 32, "total_input_tokens": 65536, "total_output_tokens": 65536,
    "output_throughput": 434.40, "mean_ttft_ms": 7279.56, "mean_tpot_ms": 70.14, "duration": 150.87,
}  # fmt: skip


# As printed, of which the first is in a public script: https://github.com/yiliu30/vllm-fork, scripts/pp_local_test_res.sh
PRINTED = """Traffic request rate: inf
Burstiness factor: 1.0 (Poisson process)
Maximum request concurrency: 32
============ Serving Benchmark Result ============
Successful requests:                     32
Benchmark duration (s):                  150.87
Total input tokens:                      65536
Total generated tokens:                  65536
Request throughput (req/s):              0.21
Output token throughput (tok/s):         434.40
Total Token throughput (tok/s):          868.80
---------------Time to First Token----------------
Mean TTFT (ms):                          7279.56
Median TTFT (ms):                        7099.88
P99 TTFT (ms):                           10999.46
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          70.14
==================================================
"""
SGLANG = PRINTED.replace("Traffic", "Not").replace("Maximum", "Not").replace(
    "Successful requests", "Backend:                                 sglang\nTraffic request rate:                    inf\n"
    "Max request concurrency:                 16\nSuccessful requests",
)  # fmt: skip


def seen(text: str, **changes: Any) -> list[tuple[str, float]]:
    return [(row.metric, round(row.value, 2)) for row in read_benchmarks(text, **(WHO | changes))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CSV, [("prefill_tokens_per_s", 7285.68), ("decode_tokens_per_s", 119.92)]),
        (json.dumps([RESULT]), [("decode_tokens_per_s", 118.88)]),
        (json.dumps(RESULT) + "\n" + json.dumps(RESULT) + "\n", [("decode_tokens_per_s", 118.88)] * 2),
        (TABLE, [("prefill_tokens_per_s", 7340.2), ("decode_tokens_per_s", 120.6), ("decode_tokens_per_s", 116.71)]),
        (PERF, [("prefill_tokens_per_s", 52.85), ("decode_tokens_per_s", 12.64)]),
        (SERVER, [("prefill_tokens_per_s", 55.73), ("decode_tokens_per_s", 11.94)]),
        (OLD, [("prefill_tokens_per_s", 43.05), ("decode_tokens_per_s", 4.43)]),
        (OLLAMA, [("prefill_tokens_per_s", 4212.03), ("decode_tokens_per_s", 103.16)]),
        (json.dumps(VLLM), [("time_per_output_token_s", 0.07), ("time_to_first_token_s", 7.28),
                            ("throughput_tokens_per_s", 434.4)]),
    ],
)  # fmt: skip
def test_formats(text: str, expected: list[tuple[str, float]]) -> None:
    assert seen(text) == expected


def test_tables_that_servers_clients_print() -> None:
    """What a client prints is what it saves: pasted from a terminal or behind a shell's comment."""
    saved = read_benchmarks(json.dumps(VLLM), **WHO)
    for text in (PRINTED, "".join(f"# {line}\n" for line in PRINTED.splitlines())):
        printed = read_benchmarks(text, **WHO)
        assert [(row.metric, row.value, row.concurrency, row.prompt_tokens, row.output_tokens) for row in printed] == [
            (row.metric, row.value, row.concurrency, row.prompt_tokens, row.output_tokens) for row in saved
        ]  # fmt: skip
    assert len(read_benchmarks(PRINTED + PRINTED, **WHO)) == 2 * len(saved)
    rows = read_benchmarks(SGLANG, **(WHO | {"runtime": None}))
    assert {(row.runtime, row.concurrency) for row in rows} == {("sglang", 16)}
    alone = PRINTED[PRINTED.index("====") :]
    with pytest.raises(WillItRunError, match="max-concurrency"):
        read_benchmarks(alone, **WHO)
    assert len(read_benchmarks(PRINTED.replace("concurrency: 32", "concurrency: None"), **WHO)) == len(saved)


def test_llama_bench_says_device_format_and_depth() -> None:
    row = read_benchmarks(json.dumps([RESULT]), model="qwen2.5-7b")[0]
    assert (row.accelerator, row.quantization, row.backend, row.runtime_version) == (
        "NVIDIA GeForce RTX 4080", "q4_k_m", "cuda", "b5163",
    )  # fmt: skip
    assert (row.cached_tokens, row.prompt_tokens, row.output_tokens) == (511, 1, 128)
    assert len({row.id for row in read_benchmarks(TABLE, **WHO)}) == 3


def test_a_plain_table_names_its_columns() -> None:
    text = "model,accelerator,runtime,quantization,metric,value,batch_size\nqwen2.5-7b,rtx-4080,llama.cpp,q4_k_m,decode_tokens_per_s,101.5,\n"
    assert [(row.value, row.batch_size) for row in read_benchmarks(text)] == [(101.5, None)]


def test_what_is_read_calibrates() -> None:
    catalog = calibrate(read_benchmarks(CSV + "", model="qwen2.5-7b"))
    assert sum(name.startswith("user-") for name in catalog.measurements) == 2


@pytest.mark.parametrize(
    ("text", "changes", "what"),
    [
        (OLLAMA, {"accelerator": None}, "accelerator"),
        (TABLE.replace("|  -1 |           tg128", "|  20 |           tg128"), {}, "line 5.*-ngl 99"),
        (TABLE.replace("120.60 ± 0.59", "fast"), {}, "line 5"),
        (TABLE.replace("|       size |", "|"), {}, "line 4.*cells"),
        (CSV.replace("119.915244", "nan"), {}, "line 3"),
        ("[" * 40 + "]" * 40, {}, "nested"),
        ('[{"n_prompt": 1', {}, "no valid JSON"),
        (json.dumps(VLLM | {"max_concurrency": None, "request_rate": 4.0}), {}, "max-concurrency"),
        (json.dumps({"completed": 1}), {}, "no serving result"),
        ("metric,value,colour\nx,1,2", {}, "colour"),
        ("metric,value\ndecode_tokens_per_s,many", {}, "line 2.*'many'"),
        ("hello", {}, "no tool"),
        ("x" * 8_000_001, {}, "at most"),
        (OLLAMA, {"format": "vllm"}, "JSON"),
        (OLLAMA, {"format": "nonsense"}, "One of"),
    ],
)
def test_errors_name_the_place_and_the_remedy(text: str, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(WillItRunError, match=f"(?s){what}"):
        read_benchmarks(text, **(WHO | changes))


@given(st.text(max_size=300), st.sampled_from(["llama-bench", "llama.cpp", "ollama", "vllm", "table"]))
def test_any_text_gives_rows_or_an_error_of_ours(text: str, format: str) -> None:
    try:
        assert read_benchmarks(text, format=format, **WHO)
    except WillItRunError:
        return


@given(st.sampled_from([CSV, TABLE, PERF, OLLAMA, json.dumps(VLLM), json.dumps([RESULT])]), st.data())
def test_damaged_output_gives_rows_or_an_error_of_ours(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    junk = data.draw(st.text(max_size=5))
    try:
        read_benchmarks(text[:cut] + junk + text[cut + len(junk) :], **WHO)
    except WillItRunError:
        return


TIMM_CSV = """model,infer_samples_per_sec,infer_step_time,infer_batch_size,infer_img_size,infer_gmacs,infer_macts,param_count
resnet50,2893.1,88.48,256,224,4.11,11.11,25.56
vit_base_patch16_224,1104.2,231.8,256,224,16.87,16.49,86.57
"""


def test_timm_csv_and_json_are_one() -> None:
    subject = {"accelerator": "nvidia-geforce-rtx-3090", "precision": "amp-fp16", "execution": "eager"}
    rows = read_benchmarks(TIMM_CSV, **subject)  # type: ignore[arg-type]
    assert [(row.model, row.value, row.batch_size, row.image_size) for row in rows] == [
        ("resnet50", 2893.1, 256, 224),
        ("vit_base_patch16_224", 1104.2, 256, 224),
    ]
    assert {(row.metric, row.runtime, row.precision, row.execution) for row in rows} == {
        ("images_per_s", "pytorch", "amp-fp16", "eager")
    }
    text = """Running inference benchmark on resnet50
--result
{"model": "resnet50", "infer_samples_per_sec": 2893.1, "infer_batch_size": 256, "infer_img_size": 224}
"""
    (row,) = read_benchmarks(text, **subject)  # type: ignore[arg-type]
    assert row.value == 2893.1


def test_a_run_of_timm_moves_the_prediction_of_its_device() -> None:
    from willitrun import Workload, calibrate, estimate_speed

    ask = {"batch_size": 256, "precision": "amp-fp16", "execution": "eager"}
    before = estimate_speed("resnet50", "rtx-3060-12gb", Workload(**ask)).images_per_s  # type: ignore[arg-type]
    measured = before.best * 1.2
    text = TIMM_CSV.replace("2893.1", f"{measured:.1f}").rpartition("vit_base")[0]
    rows = read_benchmarks(
        text, accelerator="nvidia-geforce-rtx-3060-12gb", precision="amp-fp16", execution="eager"
    )
    after = estimate_speed("resnet50", "rtx-3060-12gb", Workload(**ask), catalog=calibrate(rows)).images_per_s  # type: ignore[arg-type]
    assert before.best < after.best <= measured * 1.001


def test_a_failed_row_of_timm_is_left_out_and_a_broken_one_named() -> None:
    text = (
        '[{"model": "a", "error": "out of memory"}, {"model": "resnet50", "infer_samples_per_sec": "fast"}]'
    )
    with pytest.raises(WillItRunError, match="row 2: infer_samples_per_sec is 'fast'"):
        read_benchmarks(text, accelerator="rtx-3060-12gb")


def test_optimum_benchmark() -> None:
    text = """{"config": {"backend": {"name": "pytorch", "model": "microsoft/resnet-50", "task": "image-classification",
      "torch_dtype": "float16", "torch_compile": true}, "scenario": {"input_shapes": {"batch_size": 8, "height": 224}},
      "environment": {"gpu": ["NVIDIA A10G"]}},
      "report": {"forward": {"latency": {"mean": 0.01}, "throughput": {"unit": "samples/s", "value": 800.0}}}}"""
    (row,) = read_benchmarks(text)
    assert (row.metric, row.value, row.batch_size, row.image_size) == ("images_per_s", 800.0, 8, 224)
    assert (row.runtime, row.precision, row.execution) == ("pytorch", "fp16", "compile")
    assert (row.model, row.accelerator) == ("microsoft/resnet-50", "NVIDIA A10G")
    with pytest.raises(WillItRunError, match="no report"):
        read_benchmarks('{"config": {}}', format="optimum-benchmark")
