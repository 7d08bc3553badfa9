"""Malformed input raises an error that names the thing and the remedy; what can't run is a verdict."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from willitrun import (
    AmbiguousNameError,
    InvalidWorkloadError,
    MissingExtraError,
    Placement,
    Runtime,
    UnknownIdError,
    UnsupportedArchitectureError,
    WillItRunError,
    Workload,
    ask,
    assess,
    describe_model,
    diagnose,
    load_catalog,
    plan,
    plan_rows,
    scan,
    smallest_machine,
)

CARD = "rtx-4090"
CHAT = "llama-3.1-8b"


@pytest.mark.parametrize(
    ("call", "near"),
    [
        (lambda: assess("lama-3.1-8b", CARD), "llama-3.1-8b"),
        (lambda: assess(CHAT, "rtx-490"), "rtx-4090"),
        (lambda: assess(CHAT, CARD, runtime="vlm"), "vllm"),
        (lambda: assess(CHAT, CARD, Workload(use="chatt")), "chat"),
        (lambda: assess("resnet-50", CARD, Workload(dataset="imagnet")), "imagenet"),
        (lambda: load_catalog().glossary.resolve("kv-cach"), "kv-cache"),
    ],
)
def test_misspelt_ids_get_suggestions(call: Callable[[], object], near: str) -> None:
    with pytest.raises(UnknownIdError) as caught:
        call()
    assert near in caught.value.suggestions
    assert near in str(caught.value)
    assert isinstance(caught.value, LookupError)
    assert type(caught.value).__module__ == "willitrun"


def test_a_misspelt_format_is_suggested_by_a_name_that_works() -> None:
    with pytest.raises(UnknownIdError) as caught:
        assess(CHAT, CARD, quantization="q4_k_x")
    assert caught.value.suggestions
    for name in caught.value.suggestions:
        assert load_catalog().resolve("quantization", name).id


def test_ambiguous_names_list_candidates() -> None:
    with pytest.raises(AmbiguousNameError) as caught:
        assess(CHAT, "h200")
    assert set(caught.value.candidates) >= {"nvidia-h200-sxm-141gb", "nvidia-h200-nvl-141gb"}
    for candidate in caught.value.candidates:
        assert candidate in str(caught.value)
        assert assess(CHAT, candidate, quantization="q4_k_m").tier


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Workload(batch_size=0), r"Workload\.batch_size: Input should be greater than 0 \(got 0\)"),
        (lambda: Workload(context_tokens=-1), r"Workload\.context_tokens"),
        (lambda: Workload(context_tokens="long"), r"Workload\.context_tokens.*'long'"),
        (lambda: Workload(concurrency=0), r"Workload\.concurrency"),
        (lambda: Workload(acceptance=1.5), r"Workload\.acceptance"),
        (lambda: Workload(contxt_tokens=8192), r"Did you mean 'context_tokens'"),
        (lambda: Workload(batchsize=8), r"Did you mean 'batch_size'"),
        (lambda: Runtime(name="llama.cpp", kv_dtype="q8_0"), r"Did you mean .*'kv_dtype_"),
        (lambda: Runtime(name="vllm", gpu_memory_utilization=1.5), r"Runtime\.gpu_memory_utilization"),
        (lambda: Placement(tp=0), r"Placement\.tp"),
        (lambda: assess(CHAT, CARD, placement="tensr"), r"Placement\.strategy.*'tensor'"),
        (lambda: assess(CHAT, CARD, Workload(batch_size=4)), r"'batch_size'.*'concurrency'"),
        (lambda: assess(CHAT, CARD, Workload(image_size=224)), r"'image_size'.*takes no images"),
        (lambda: assess(CHAT, CARD, Workload(images=2)), r"'images'.*takes no images"),
        (lambda: assess(CHAT, CARD, Workload(steps=20)), r"'steps'"),
        (lambda: assess("resnet-50", CARD, Workload(concurrency=4)), r"'concurrency'.*'batch_size'"),
        (lambda: assess("resnet-50", CARD, Workload(context_tokens=4096)), r"'context_tokens'"),
        (lambda: assess("resnet-50", CARD, Workload(images=2)), r"'images'.*'batch_size'"),
        (lambda: assess(CHAT, CARD, Workload(task="image-classification")), r"does text-generation"),
        (lambda: assess(CHAT, CARD, Workload(dataset="imagenet-1k")), r"for image-classification"),
        (lambda: assess("resnet-50", CARD, Workload(split="validation")), r"no dataset is named"),
        (
            lambda: assess("resnet-50", "rtx-3060-12gb", Workload(dataset="imagenet-1k", split="trian")),
            r"no split 'trian'.*train, validation, test",
        ),
        (
            lambda: assess(CHAT, CARD, Workload(prompt_tokens=9000, context_tokens=8192)),
            r"exceed the context of 8192.*Raise context_tokens",
        ),
        (
            lambda: assess(CHAT, CARD, Workload(cached_tokens=8000, prompt_tokens=200, context_tokens=8192)),
            r"exceed the context",
        ),
        (lambda: assess(CHAT, CARD, runtime="llama.cpp:cudda"), r"Runtime\.backend.*'cuda'"),
        (
            lambda: assess(
                CHAT, CARD, quantization="q4_k_m", runtime=Runtime(name="llama.cpp", kv_dtype_k="q9")
            ),
            r"no KV cache of q9.*q8_0",
        ),
        (lambda: assess(CHAT, CARD, memory="all"), r"'free', 'idle' or 'nameplate'"),
    ],
)
def test_contradictions_name_the_field_and_the_remedy(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidWorkloadError, match=message) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert caught.value.code == "invalid-workload"
    assert "\n" not in str(caught.value)
    back = pickle.loads(pickle.dumps(caught.value))
    assert str(back) == str(caught.value)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: assess(CHAT, CARD, Workload(context_tokens=200_000), quantization="q4_k_m"), "context-above-trained-maximum"),
        (lambda: assess("llama-3.3-70b", ["h100-sxm"] * 3, runtime="vllm", placement=Placement(tp=3)), "tensor-parallel-does-not-divide"),
        (lambda: assess(CHAT, CARD, quantization="q4_k_m", runtime="vllm"), "format-not-supported-by-runtime"),
        (lambda: assess("resnet-50", CARD, quantization="q4_k_m"), "format-not-supported-by-runtime"),
        (lambda: assess(CHAT, CARD, quantization="mlx-4bit", runtime="vllm"), "format-not-supported-by-runtime"),
        (lambda: assess(CHAT, CARD, quantization="nf4", runtime="mlc-llm"), "format-not-supported-by-runtime"),
        (lambda: assess("phi-4", ["h100-sxm"] * 4, runtime="vllm", placement=Placement(tp=4)), "tensor-parallel-does-not-divide"),
        (lambda: assess(CHAT, [CARD] * 2, runtime="vllm", placement=Placement(tp=4)), "more-ranks-than-devices"),
        (lambda: assess(CHAT, [CARD] * 2, runtime="vllm", placement=Placement(tp=2, pp=2)), "more-ranks-than-devices"),
        (
            lambda: assess(CHAT, [CARD] * 2, quantization="q4_k_m", placement=Placement(split=(1, 1, 2))),
            "more-ranks-than-devices",
        ),
        (lambda: assess(CHAT, [CARD] * 2, runtime="vllm", placement=Placement(ep=2)), "expert-parallel-without-experts"),
        (lambda: assess(CHAT, CARD, runtime="vllm", placement=Placement(gpu_layers=20)), "placement-not-supported-by-runtime"),
        (lambda: assess(CHAT, CARD, quantization="q4_k_m", runtime="ollama", placement=Placement(cpu_moe_layers=4)), "placement-not-supported-by-runtime"),
        (lambda: assess(CHAT, [CARD] * 2, quantization="q4_k_m", runtime="ollama", placement=Placement(tp=2)), "placement-not-supported-by-runtime"),
        (lambda: assess(CHAT, CARD, quantization="exl3-4.0", runtime="exllamav3", placement="cpu"), "placement-not-supported-by-runtime"),
        (lambda: assess(CHAT, CARD, runtime="vllm:metal"), "runtime-not-on-vendor"),
        (lambda: assess(CHAT, CARD, quantization="mlx-4bit", runtime="mlx"), "runtime-not-on-system"),
        (lambda: assess("resnet-50", "rtx-3060-12gb", runtime="llama.cpp"), "task-not-supported-by-runtime"),
        (lambda: assess(CHAT, "ddr5-5600-dual", quantization="bf16", runtime="tensorrt-llm"), "no-accelerator"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_a_verdict(call: Callable[[], Any], code: str) -> None:
    verdict = call()
    assert verdict.tier == "will-not-run"
    assert verdict.practical is False
    assert verdict.speed is None
    assert verdict.commands == ()
    assert verdict.reasons[0].code == code
    assert not {"fits-comfortably", "fits-tightly", "needs-offload"} & {
        reason.code for reason in verdict.reasons[1:]
    }


def test_devices_that_are_left_out_are_named() -> None:
    verdict = assess(CHAT, [CARD] * 3, runtime="vllm")
    left = next(reason for reason in verdict.reasons if reason.code == "devices-left-out")
    assert left.numbers == {"devices": 2, "devices_present": 3}
    assert "(2 of 3 devices)" in verdict.sentence()
    assert verdict.memory is not None
    assert len(verdict.memory.per_device) == 2
    whole = assess(CHAT, [CARD] * 2, runtime="vllm")
    assert "devices-left-out" not in {reason.code for reason in whole.reasons}
    assert "devices)" not in whole.sentence()


def test_llamacpp_cuts_rows_over_any_number_of_devices() -> None:
    verdict = assess(CHAT, [CARD] * 3, quantization="q4_k_m", runtime="llama.cpp", placement="tensor")
    assert verdict.feasible
    assert "tensor-parallel-does-not-divide" not in {reason.code for reason in verdict.reasons}


def test_a_placement_that_cannot_work_is_left_to_the_runtime() -> None:
    verdict = assess(CHAT, [CARD] * 3, runtime="vllm", placement=Placement(tp=3))
    remedy = verdict.remedies[0]
    assert (remedy.kind, remedy.arguments) == ("placement", {"placement": None})
    again = assess(CHAT, [CARD] * 3, runtime="vllm", **remedy.arguments)
    assert again.tier == remedy.tier
    assert again.memory is not None
    assert again.memory.total_bytes == remedy.total_bytes


def test_one_bad_row_never_ends_a_sweep() -> None:
    table = plan(
        models=["llama-3.3-70b"],
        machines=[["h100-sxm"] * 3, ["h100-sxm"] * 4],
        workloads=Workload.grid(contexts=[8192, 200_000]),
        quantizations=["bf16"],
        runtimes=["vllm"],
        placements=[None],
    )
    assert (
        table.filter(context_tokens=200_000)["blocked_by"].tolist() == ["context-above-trained-maximum"] * 2
    )
    assert len(table) == 4


def test_unknown_architectures_fail_closed() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="totally_new"):
        describe_model(
            {"architectures": ["TotallyNewForCausalLM"], "model_type": "totally_new", "hidden_size": 64}
        )


@pytest.mark.parametrize("subject", [3, None, 2.5, object()])
def test_subjects_of_a_foreign_type(subject: object) -> None:
    with pytest.raises(WillItRunError, match="a model is"):
        assess(subject, CARD)


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_the_command_says_which_extra_is_missing(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; sys.argv = ['willitrun', 'demo']\nfrom willitrun.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'willitrun-engine[cli]'" in done.stderr


def test_tracing_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from willitrun.interop import tracing

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"willitrun-engine\[torch\]") as caught:
        tracing.trace_module(object())  # type: ignore[arg-type]
    assert caught.value.extra == "torch"
    assert isinstance(caught.value, ImportError)


def test_the_library_prints_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assess(CHAT, CARD, quantization="q4_k_m")
    for call in (lambda: assess("nonsense-model", CARD), lambda: describe_model(str(tmp_path))):
        with pytest.raises(WillItRunError):
            call()
    out = capfd.readouterr()
    assert out.out == ""
    assert out.err == ""


SERVER_CHIPS = ["google-tpu-v5e", "aws-inferentia2", "amazon-trainium2"]


@pytest.mark.parametrize("chip", SERVER_CHIPS)
def test_a_chip_that_no_runtime_drives_is_not_its_hosts_processor(chip: str) -> None:
    """It was said to run comfortably on a TPU, at the speed of dual-channel memory."""
    for model in (CHAT, "resnet-50"):
        verdict = assess(model, chip)
        assert verdict.tier == "will-not-run"
        assert verdict.reasons[0].code == "runtime-not-on-vendor"
        assert "cuda" not in verdict.reasons[0].message


@pytest.mark.parametrize(
    ("model", "machine", "runtime"),
    [
        (CHAT, "qualcomm-snapdragon-x-elite", "llama.cpp"),
        (CHAT, {"accelerators": [{"name": "a card", "memory": "16 GiB"}]}, None),
        ("whisper-large-v3", "arc-b580", "faster-whisper"),
    ],
)
def test_a_desktop_whose_card_is_left_aside_says_so(model: str, machine: Any, runtime: str | None) -> None:
    verdict = assess(model, machine, runtime=runtime)
    assert verdict.feasible
    assert verdict.inputs.runtime["backend"] == "cpu"
    left = next(reason for reason in verdict.reasons if reason.code == "accelerator-not-driven")
    assert "processor" in left.message
    assert "(on its processor)" in verdict.sentence()
    asked = assess(model, machine, runtime=f"{verdict.inputs.runtime['name']}:cpu")
    assert "accelerator-not-driven" not in {reason.code for reason in asked.reasons}


def test_what_will_not_run_is_told_by_what_stands_in_the_way() -> None:
    """ "11.4 GiB of 11.6 GiB available" is no reason: the host has no room for the rest."""
    verdict = assess("llama-3.3-70b", "rtx-3060-12gb", quantization="q8_0")
    assert verdict.tier == "will-not-run"
    assert verdict.sentence().endswith(verdict.reasons[0].message)
    assert "host" in verdict.sentence()


def test_suggestions_are_written_as_ids_are() -> None:
    with pytest.raises(UnknownIdError) as caught:
        assess(CHAT, "rtx-4090", quantization="q4_k_mm")
    assert caught.value.suggestions[0] == "q4_k_m"
    assert len(caught.value.suggestions) == len(set(caught.value.suggestions))


def test_an_unknown_term_is_an_entry() -> None:
    with pytest.raises(UnknownIdError, match="no glossary entry is known as"):
        load_catalog().glossary["no-such-term"]


@pytest.mark.parametrize(
    ("model", "runtime", "mode"),
    [
        (CHAT, "ollama", "lora"),
        (CHAT, "vllm", "qlora"),
        (CHAT, "exllamav2", "lora"),
        ("resnet-50", "tensorrt", "full-finetune"),
    ],
)
def test_what_only_runs_models_does_not_train_them(model: str, runtime: str, mode: str) -> None:
    """Ollama was said to fine-tune comfortably."""
    load = Workload(mode=mode, batch_size=1)
    verdict = assess(model, "nvidia-b200-sxm-180gb", load, runtime=runtime)
    assert verdict.tier == "will-not-run"
    assert verdict.reasons[0].code == "task-not-supported-by-runtime"
    codes = {reason.code for reason in verdict.reasons}
    assert "memory-suffices" in codes
    assert not codes & {"fits-comfortably", "fits-tightly"}
    if model == CHAT:
        assert verdict.remedies[0].arguments == {"runtime": "transformers"}
    table = plan(models=[model], machines=["nvidia-b200-sxm-180gb"], workloads=load, runtimes=[runtime])
    assert table["tier"].tolist() == ["will-not-run"]
    assert table["blocked_by"].tolist() == ["task-not-supported-by-runtime"]
    # The table keeps what memory alone would say.
    assert table["fit_reason"].tolist() == ["fits-comfortably"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workload": {"context_tokens": 8192}}, "Workload"),
        ({"runtime": ["llama.cpp"]}, "Runtime"),
        ({"placement": {"tp": 2}}, "Placement"),
        ({"quantization": 4}, "a name"),
    ],
)
def test_a_mapping_is_no_recipe(options: dict[str, Any], said: str) -> None:
    """It was "'dict' object has no attribute 'mode'"."""
    with pytest.raises(InvalidWorkloadError, match=said):
        assess(CHAT, CARD, **options)


def test_a_question_is_text() -> None:
    with pytest.raises(InvalidWorkloadError, match="a question is text"):
        ask(["can a 4090 run it"])  # type: ignore[arg-type]


def test_the_smallest_of_several_kinds_of_machine() -> None:
    """Unified memory counts as what is installed, several cards by their own name, and none is an error."""
    asked: dict[str, Any] = {"quantization": "q4_k_m"}
    machines: list[Any] = ["m3-max-40gpu:128 GiB", ["rtx-3090", "rtx-3090"], "rtx-4090"]
    assert smallest_machine("llama-3.1-8b", machines, **asked) == "nvidia-geforce-rtx-4090"
    assert smallest_machine("llama-3.3-70b", machines, tier="tight", **asked) == "2 x NVIDIA GeForce RTX 3090"
    # Each by its own back end, whichever comes first.
    assert smallest_machine("gpt-oss-120b", machines) == "apple-m3-max-40gpu"
    assert (
        smallest_machine("llama-3.1-8b", ["rx-7900-xtx", "rtx-4090:24 GiB"][:1], **asked)
        == "amd-radeon-rx-7900-xtx"
    )
    assert (
        smallest_machine("llama-3.1-8b", ["rtx-3050-6gb", "rx-7900-xtx"], **asked) == "amd-radeon-rx-7900-xtx"
    )
    with pytest.raises(InvalidWorkloadError, match="no machine"):
        smallest_machine("llama-3.1-8b", [], **asked)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: diagnose(None), "a log is text.*got NoneType.*pathlib"),  # type: ignore[arg-type]
        (lambda: diagnose(3), "a log is text.*got int"),  # type: ignore[arg-type]
        (lambda: diagnose(["CUDA", 3]), "line 2 of the log is no text but int"),  # type: ignore[list-item]
        (lambda: diagnose("CUDA", machine=3), "a machine is.*got int"),
        (lambda: scan(3), "a machine is.*got int.*Pass a name such as 'rtx-4090'"),
        (lambda: scan([3]), "an accelerator is.*got int.*Pass a name such as 'rtx-4090'"),
        (lambda: scan(CARD, "chat"), "workload is a Workload, got str"),  # type: ignore[arg-type]
        (lambda: scan(CARD, {"context_tokens": 8192}), "workload is a Workload, got dict"),  # type: ignore[arg-type]
        (lambda: scan(CARD, models=CHAT), "models is a list, got str.*llama-3.1-8b"),
        (lambda: scan(CARD, models=3), "models is a list, got int"),  # type: ignore[arg-type]
        (lambda: scan(CARD, models=[3]), "a model is.*got int"),
        (lambda: scan(CARD, models=[CHAT], quantizations="q4_k_m"), "quantizations is a list, got str"),
        (lambda: scan(CARD, models=[CHAT], quantizations=[3]), "quantization is a name, got int"),  # type: ignore[list-item]
        (lambda: scan(CARD, models=[CHAT], runtime={}), "runtime is .*got dict"),  # type: ignore[arg-type]
        (lambda: scan(CARD, models=[CHAT], memory=3), "memory is"),  # type: ignore[arg-type]
        (lambda: scan(CARD, task=3), "task is a list, got int"),  # type: ignore[arg-type]
        (lambda: scan(CARD, task=[3]), "a task is a name, got int"),  # type: ignore[list-item]
        (lambda: scan(CARD, models=[CHAT], prior=3), "prior is a mapping or a function"),  # type: ignore[arg-type]
        (lambda: plan_rows(None), "a table of scenarios has rows, got NoneType"),
        (lambda: plan_rows(3), "a table of scenarios has rows, got int"),
        (lambda: plan_rows("model"), "a table of scenarios has rows, got str"),
        (lambda: plan_rows([{"model": CHAT, "machine": CARD}, 3]), "row 1 is no mapping but int"),
        (lambda: plan_rows({"model": CHAT, "machine": CARD}), "column 'model' is no list but str"),
        (lambda: plan_rows({"model": [CHAT], "machine": [CARD, CARD]}), "model 1, machine 2"),
        (lambda: plan_rows([{"model": 3, "machine": CARD}]), "a model is.*got int"),
        (lambda: plan_rows([{"model": CHAT, "machine": 3}]), "a machine is.*got int"),
        (lambda: plan_rows([{"model": CHAT, "machine": CARD, "quantization": []}]), "quantization"),
        (lambda: plan(models=3, machines=[CARD], workloads=None), "models is a list"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_arguments_of_a_foreign_type(call: Callable[[], object], told: str) -> None:
    """What was wrong, where, and what to write; never an error of the language."""
    with pytest.raises(WillItRunError, match=told):
        call()


def test_a_scan_takes_whatever_describes_a_model() -> None:
    found = scan(CARD, models=[describe_model(CHAT), CHAT])
    assert len(found.ranked) == 2
