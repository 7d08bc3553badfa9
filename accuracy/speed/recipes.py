"""How the measurements of loaded servers were taken, where their table does not say it: InferenceX's recipes.

Scripts are those of its repository (https://github.com/SemiAnalysisAI/InferenceX, ``benchmarks/``; before 2026
``benchmarks/*_b200_*.sh``) of the time of the measurement.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["held_steps", "is_drafted", "is_inferencex", "mean_length"]

#: Its three shapes of load, prompt and output [tokens]; no other source of the table has them.
_SHAPES = frozenset({(1024, 1024), (1024, 8192), (8192, 1024)})
#: ``random-range-ratio`` of its workflow: lengths are drawn evenly from this share of the named one up to it.
_SHORTEST = 0.8
#: Steps between two looks at the queue (``--scheduler-recv-interval``) of SGLang's recipes, below 16 requests in flight and
#: from there on. Those of GLM-5 do not set it.
_POLLS = {
    "deepseek-ai/DeepSeek-R1": (10, 30),
    "deepseek-ai/DeepSeek-V3": (10, 30),
    "Qwen/Qwen3.5-397B-A17B": (10, 30),
}
#: Steps for which TensorRT-LLM's recipe of the dense model collects short prompts (``batch_wait_timeout_iters``), on fewer
#: than eight ranks, and its recipes of attention data parallelism until each rank has one (``timeout_iters``).
_COLLECTS, _BALANCES = 20, 60
#: What InferenceX ran with speculative decoding (its perf-changelog.yaml: `dsr1-*-b200-trt-mtp` from pull request 392 on,
#: `dsr1-fp8-b200-sglang-mtp` 626, `qwen3.5-fp8-b200-sglang-mtp` 898; their search spaces in its nvidia-master.yaml), by
#: engine, model, format and attention ranks, and the days of those runs where the recipes without share the rest. The
#: table of its measurements does not say which is which.
_DRAFTED: dict[tuple[str, str, str], tuple[frozenset[int], frozenset[str]]] = {
    ("trtllm", "deepseek-ai/DeepSeek-R1", "fp4"): (frozenset(), frozenset({"2026-01-14", "2026-02-06"})),
    ("trtllm", "deepseek-ai/DeepSeek-R1", "fp8"): (frozenset(), frozenset({"2026-01-14", "2026-02-05"})),
    ("sglang", "deepseek-ai/DeepSeek-R1", "fp8"): (frozenset({8}), frozenset({"2026-03-25"})),
    ("sglang", "Qwen/Qwen3.5-397B-A17B", "fp8"): (frozenset({4}), frozenset({"2026-03-20", ""})),
}


def is_drafted(record: Mapping[str, str], tensor: int, moe_expert: int) -> bool:
    """Whether a row was measured with speculative decoding."""
    ranks, days = _DRAFTED.get(
        (record["backend"], record["model_path"], record["precision"]), (frozenset(), frozenset())
    )
    return record["measured"] in days and (not ranks or (tensor in ranks and moe_expert == 1))


def is_inferencex(prompt: int, output: int) -> bool:
    """Whether a row has one of InferenceX's shapes of load.

    >>> is_inferencex(1024, 8192), is_inferencex(512, 128)
    (True, False)
    """
    return (prompt, output) in _SHAPES


def mean_length(named: int) -> int:
    """Mean length of the prompts or answers of a load that is named by its longest [tokens].

    >>> mean_length(1024), mean_length(8192)
    (922, 7373)
    """
    return round(0.5 * (1.0 + _SHORTEST) * named)


def held_steps(record: Mapping[str, str], tensor: int, data: int, concurrency: int) -> float:
    """Decode steps for which a request waits because the server was told so, on average.

    A poll every n steps finds a request n / 2 steps old. Where the first request starts the wait and those that come
    meanwhile share it, they wait between all of it and half of it.
    """
    if record["backend"] == "sglang":
        few, many = _POLLS.get(record["model_path"], (0, 0))
        return 0.5 * (many if concurrency >= 16 else few)
    if record["backend"] != "trtllm":
        return 0.0
    output = mean_length(int(float(record["osl"])))
    longest = 0
    if data > 1:
        longest = _BALANCES
    elif (
        "llama" in record["model_path"].lower()
        and tensor < 8
        and (record["isl"], record["osl"]) == ("1024", "1024")
    ):
        longest = _COLLECTS
    together = 1.0 + longest * concurrency / output
    return 0.5 * longest * (1.0 + 1.0 / together)
