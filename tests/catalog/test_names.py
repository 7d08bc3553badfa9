"""Names of models as publishers, Ollama and quantizers write them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from willitrun import AmbiguousNameError, UnknownIdError, describe_machine, load_catalog
from willitrun.catalog.names import names_without_format, normalise_name


@pytest.mark.parametrize(
    ("name", "model", "quantization"),
    [
        ("unsloth/Qwen3-8B-GGUF", "qwen3-8b", "bf16"),
        ("mradermacher/Qwen3-8B-i1-GGUF", "qwen3-8b", "bf16"),
        ("Qwen/Qwen3-8B-AWQ", "qwen3-8b", "awq-int4"),
        ("someone/Qwen3-8B-GPTQ", "qwen3-8b", "gptq-int4"),
        ("JunHowie/Qwen3-8B-GPTQ-Int4", "qwen3-8b", "gptq-int4"),
        ("JunHowie/Qwen3-8B-GPTQ-Int8", "qwen3-8b", "gptq-int8"),
        ("Qwen/Qwen3-8B-FP8", "qwen3-8b", "fp8"),
        ("RedHatAI/Qwen3-8B-FP8-dynamic", "qwen3-8b", "fp8"),
        ("unsloth/Qwen3-8B-bnb-4bit", "qwen3-8b", "nf4"),
        ("unsloth/Qwen3-8B-unsloth-bnb-4bit", "qwen3-8b", "nf4"),
        ("lmstudio-community/Qwen3-8B-MLX-4bit", "qwen3-8b", "mlx-4bit"),
        ("mlx-community/Qwen3-8B-8bit", "qwen3-8b", "mlx-8bit"),
        ("RedHatAI/Qwen3-8B-quantized.w4a16", "qwen3-8b", "gptq-int4"),
        ("RedHatAI/Qwen3-8B-quantized.w8a8", "qwen3-8b", "int8"),
        ("nvidia/Qwen3-8B-NVFP4", "qwen3-8b", "nvfp4"),
        ("nvidia/Qwen3-8B-FP4", "qwen3-8b", "nvfp4"),
        ("amd/Qwen3-8B-mxfp4", "qwen3-8b", "mxfp4"),
        ("turboderp/Qwen3-8B-4.0bpw-exl2", "qwen3-8b", "exl2-4.0"),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", "llama-3.1-8b", "bf16"),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q6_K", "llama-3.1-8b", "q6_k"),
        ("Qwen3-8B-Q4_K_M-GGUF", "qwen3-8b", "q4_k_m"),
        ("unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL", "qwen3-8b", "ud-q4_k_xl"),
        ("llama3.1:8b-instruct-q4_K_M", "llama-3.1-8b", "q4_k_m"),
        ("llama3.1:8b-instruct-q8_0", "llama-3.1-8b", "q8_0"),
        ("llama3.1:8b-instruct-fp16", "llama-3.1-8b", "f16"),
        ("qwen3:8b-q4_K_M", "qwen3-8b", "q4_k_m"),
        ("unsloth/gpt-oss-20b-GGUF", "gpt-oss-20b", "mxfp4"),
        # What llama-bench, LM Studio, split files and lists of results write.
        ("Llama 3.2 1B Instruct Q4_K - Medium", "llama-3.2-1b", "q4_k_m"),
        ("Meta Llama 3.1 8B Instruct IQ4_XS - 4.25 bpw", "llama-3.1-8b", "iq4_xs"),
        ("LLaMA 3 8B F16", "llama-3-8b", "f16"),
        ("qwen3-coder-30b-a3b-instruct@q8_0", "qwen3-coder-30b-a3b", "q8_0"),
        ("Qwen3-8B.i1-Q4_K_M", "qwen3-8b", "q4_k_m"),
        ("Qwen3-235B-A22B-Instruct-2507-UD-Q3_K_XL-00001-of-00003", "qwen3-235b-a22b-2507", "ud-q3_k_xl"),
        ("Qwen3-8B (unsloth)", "qwen3-8b", "bf16"),
        ("llama-3-3-70b", "llama-3.3-70b", "bf16"),
        ("Qwen2___5-7B-Instruct/", "qwen2.5-7b", "bf16"),
    ],
)
def test_formats_in_names(name: str, model: str, quantization: str) -> None:
    found = load_catalog().resolve("model", name)
    assert (found.id, found.quantization) == (model, quantization)


@pytest.mark.parametrize(
    "name",
    [
        "acme/Nonesuch-8B-GGUF",
        "nonesuch:8b-instruct-q4_K_M",
        "Qwen3-8B-9.9bpw-exl2",  # a format that the catalog does not have
        "Qwen3-8B-GGUF-fix",
        "gguf",
        "-AWQ",
        "",
    ],
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(UnknownIdError):
        load_catalog().resolve("model", name)


def test_suggestions_survive_the_suffix() -> None:
    with pytest.raises(UnknownIdError) as unknown:
        load_catalog().resolve("model", "Qwen3-88B-AWQ")
    assert unknown.value.suggestions


def test_a_listed_checkpoint_comes_before_its_suffix() -> None:
    catalog = load_catalog()
    for checkpoint in list(catalog.checkpoints.values())[:400]:
        if checkpoint.repository and len(catalog.checkpoints.named(checkpoint.repository)) == 1:
            assert catalog.resolve("model", checkpoint.repository).id == checkpoint.model or (
                catalog.models.named(checkpoint.repository)
            )


def test_every_shipped_name_still_leads_to_its_model() -> None:
    catalog = load_catalog()
    for identifier in catalog.models:
        assert catalog.resolve("model", identifier).id == identifier


def test_suffixes_are_taken_from_the_end_only() -> None:
    assert names_without_format("fp8-of-something") == ()
    assert names_without_format("a/B-7B-Q8_0-GGUF") == (("a/B-7B-Q8_0", ""), ("a/B-7B", "q8-0"))
    assert normalise_name("q4_K_M") == "q4-k-m"


COMMON = list(csv.DictReader((Path(__file__).parent / "common_names.csv").read_text("utf-8").splitlines()))


@pytest.mark.parametrize("row", COMMON, ids=[f"{row['kind']}:{row['name']}" for row in COMMON])
def test_names_that_people_type(row: dict[str, str]) -> None:
    """Hub ids, tags of Ollama, names of LM Studio, timm and torchvision, plain speech; devices as people call them."""
    expected = row["expected"]
    try:
        if row["kind"] == "model":
            model = load_catalog().resolve("model", row["name"])
            found, weights = model.id, model.quantization
        else:
            machine = describe_machine(row["name"])
            found = (
                machine.accelerators[0].accelerator.id if machine.accelerators else f"host:{machine.host.cpu}"
            )
            weights = ""
    except AmbiguousNameError as error:
        found, weights = "one of " + " ".join(error.candidates), ""
    except UnknownIdError:
        found, weights = "unknown", ""
    assert (found, weights) == (expected, row["quantization"])


def test_the_table_of_common_names_covers_what_people_use() -> None:
    models = [row for row in COMMON if row["kind"] == "model"]
    assert len(models) >= 200
    assert len(COMMON) - len(models) >= 90
    answered = [row for row in models if row["expected"] != "unknown"]
    assert len(answered) >= 200


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("NVIDIA RTX 4090", "nvidia-geforce-rtx-4090"),
        ("nvidia-rtx-3090", "nvidia-geforce-rtx-3090"),
        ("NVIDIA H100 SXM 80GB", "nvidia-h100-sxm5-80gb"),
        ("amd-mi300x", "amd-instinct-mi300x"),
        ("AMD RX 7900 XTX", "amd-radeon-rx-7900-xtx"),
        ("Intel Arc B580 Graphics", "intel-arc-b580"),
        ("NVIDIA DGX Spark (GB10)", "nvidia-gb10-dgx-spark"),
        ("AMD Ryzen AI Max+ 395 (Strix Halo)", "amd-radeon-8060s"),
        ("amd-ryzen-ai-max-395", "amd-radeon-8060s"),
        ("NVIDIA GeForce RTX 4090 (Laptop)", "nvidia-geforce-rtx-4090-laptop"),
        ("RTX 4090 (Mobile)", "nvidia-geforce-rtx-4090-laptop"),
    ],
)
def test_devices_as_people_write_them(name: str, device: str) -> None:
    assert load_catalog().resolve("accelerator", name).id == device


@pytest.mark.parametrize(
    "name",
    ["AMD RTX 4090", "A100-SXM4-80GB (1g.10gb MIG)", "NVIDIA RTX 9999", "RTX 4090 48GB"],
)
def test_another_device_is_not_meant(name: str) -> None:
    with pytest.raises(UnknownIdError):
        load_catalog().resolve("accelerator", name)
