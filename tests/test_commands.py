"""Command lines: what they say is what was judged, or there is none."""

from __future__ import annotations

from typing import Any

import pytest

from willitrun import Runtime, Workload, assess, load_catalog


def command(*subjects: Any, **options: Any) -> str:
    return "\n".join(assess(*subjects, **options).commands)


def test_every_template_is_filled_for_every_task() -> None:
    """A model of each task that a runtime has, on a machine that it runs on."""
    catalog = load_catalog()
    models: dict[str, str] = {}
    for identifier in catalog.models:
        models.setdefault(catalog.models.raw(identifier)["task"], identifier)
    seen = 0
    for profile in catalog.runtimes.values():
        machine = "m3-max-40gpu:128 GiB" if profile.vendors == ("apple",) else "nvidia-h100-sxm5-80gb"
        for task in profile.tasks:
            if task not in models:
                continue
            for line in assess(models[task], machine, runtime=profile.id).commands:
                seen += 1
                assert "{" not in line.replace("{'", ""), line
                assert "None" not in line
                assert "  " not in line.strip()
    assert seen > 30


def test_speech_is_transcribed_and_not_chatted_with() -> None:
    line = command("whisper-large-v3", "rtx-4090")
    assert "automatic-speech-recognition" in line
    assert "float16" in line
    assert "chat" not in line
    for runtime in ("transformers", "faster-whisper"):
        for load in (Workload(batch_size=16), Workload(concurrency=16)):
            assert "batch_size=16)" in command("whisper-large-v3", "rtx-4090", load, runtime=runtime)
    # Nothing of Transformers loads it.
    assert command("kokoro-82m", "rtx-4090") == ""


def test_a_pipeline_is_loaded_in_the_format_and_where_the_verdict_has_it() -> None:
    whole = command("sdxl", "rtx-4090", Workload(steps=20, image_size=768))
    assert "torch.float16" in whole
    assert "p.to('cuda')" in whole
    assert "num_inference_steps=20, height=768" in whole
    host = {"name": "desk", "accelerators": ["rtx-4090"], "host": {"ram": "64 GiB"}}
    moved = assess("sd-3.5-large", host)
    assert moved.tier == "offload"
    assert "enable_model_cpu_offload()" in moved.commands[0]
    assert "p.to(" not in moved.commands[0]
    assert "enable_sequential_cpu_offload()" in command(
        "flux.1-dev", host, runtime=Runtime(name="diffusers", offload="sequential", vae_tiling=True)
    )
    # Its text encoders are in another format than the pipeline: no single option says that.
    assert command("flux.1-dev", host, quantization="nf4") == ""
    assert "export_to_video" in command("wan2.1-t2v-1.3b", "rtx-5090")


def test_weights_are_named_in_the_format_that_was_judged() -> None:
    cards = ["rtx-3090"] * 4
    assert "meta-llama/Llama-3.3-70B-Instruct " in command("llama-3.3-70b", ["nvidia-b200-sxm-180gb"], quantization="bf16", runtime="vllm")  # fmt: skip
    assert " llama-3.3-70b-awq-int4 " in command(
        "llama-3.3-70b", cards, quantization="awq-int4", runtime="vllm"
    )
    published = next(
        record
        for record in load_catalog().checkpoints.values()
        if record.quantization == "nvfp4" and record.model == "llama-3.3-70b"
    )
    assert published.repository is not None
    assert published.repository in command(
        "llama-3.3-70b", "nvidia-b200-sxm-180gb", quantization="nvfp4", runtime="vllm"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_ubatch": 2048, "n_batch": 4096}, "-b 4096 -ub 2048"),
        ({"flash_attention": True}, "-fa on"),
        ({"swa_full": True}, "--swa-full"),
    ],
)
def test_options_that_change_memory_are_said(options: dict[str, Any], said: str) -> None:
    runtime = Runtime(name="llama.cpp", **options)
    assert said in command("gemma-3-12b", "rtx-4090", quantization="q4_k_m", runtime=runtime)
    assert said not in command("gemma-3-12b", "rtx-4090", quantization="q4_k_m")


def test_serving_options_are_said() -> None:
    runtime = Runtime(name="vllm", kv_dtype_k="fp8", kv_dtype_v="fp8", enforce_eager=True, max_num_seqs=256)
    line = command("llama-3.1-8b", "nvidia-h100-sxm5-80gb", quantization="bf16", runtime=runtime)
    assert "--kv-cache-dtype fp8" in line
    assert "--enforce-eager" in line
    assert "--max-num-seqs 256" in line


def test_pictures_need_their_projector() -> None:
    assert "--mmproj" in command("gemma-3-12b", "rtx-4090", quantization="q4_k_m")
    assert "--mmproj" not in command("llama-3.1-8b", "rtx-4090", quantization="q4_k_m")


def test_training_and_foreign_benchmarks_have_no_line() -> None:
    assert command("resnet-50", "rtx-4090", Workload(mode="full-finetune", batch_size=8)) == ""
    # The benchmark script of timm knows its own models only.
    assert command("yolo11n", "rtx-4090") == ""


@pytest.mark.parametrize(
    ("name", "machine", "begins"),
    [
        ("TheBloke/Llama-2-13B-chat-AWQ", "rtx-4090", "vllm serve TheBloke/Llama-2-13B-chat-AWQ "),
        ("RedHatAI/Qwen3-32B-FP8-dynamic", "h100-sxm", "vllm serve RedHatAI/Qwen3-32B-FP8-dynamic "),
        ("unsloth/Qwen3-8B-bnb-4bit", "rtx-4090", "transformers serve unsloth/Qwen3-8B-bnb-4bit"),
        ("mlx-community/Qwen3-30B-A3B-4bit", "m3-max-40gpu:64 GiB", "mlx_lm.server --model mlx-community/Qwen3-30B-A3B-4bit"),
        ("bartowski/Qwen2.5-32B-Instruct-GGUF", "h100-sxm", "llama-server -hf bartowski/Qwen2.5-32B-Instruct-GGUF:Q8_0 "),
        ("unsloth/Qwen3-8B-GGUF:Q4_K_M", "rtx-4090", "llama-server -hf unsloth/Qwen3-8B-GGUF:Q4_K_M "),
        ("unsloth/gpt-oss-20b-GGUF", "h100-sxm", "llama-server -hf unsloth/gpt-oss-20b-GGUF:MXFP4 "),
        ("unsloth/DeepSeek-R1-GGUF", "m3-ultra-80gpu:512 GiB", "llama-server -hf unsloth/DeepSeek-R1-GGUF:"),
    ],
)  # fmt: skip
def test_a_repository_that_is_named_is_the_one_that_is_loaded(name: str, machine: str, begins: str) -> None:
    """The line loaded the model's own weights in 16 bits, of another tuning, where four bits had been judged."""
    assert command(name, machine).startswith(begins)


def test_another_format_than_the_repository_holds_is_looked_for_elsewhere() -> None:
    named = "TheBloke/Llama-2-13B-chat-AWQ"
    assert named not in command(named, "rtx-4090", quantization="gptq-int4", runtime="vllm")
    assert "vllm serve meta-llama/Llama-3.1-8B-Instruct " in command(
        "meta-llama/Llama-3.1-8B-Instruct", "h100-sxm", runtime="vllm"
    )
    assert "--model timm/resnet50.a1_in1k " in command("timm/resnet50.a1_in1k", "rtx-4090")
    assert "microsoft" not in command("microsoft/resnet-50", "rtx-4090")
    # The projector of a repository comes along with -hf; of a file it has to be named.
    assert "--mmproj" not in command("bartowski/Qwen2.5-VL-7B-Instruct-GGUF", "rtx-4090")
    assert "--mmproj mmproj-qwen2.5-vl-7b.gguf" in command("qwen2.5-vl-7b", "rtx-4090")
