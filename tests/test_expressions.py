"""Numbers in prose: a small grammar and nothing else."""

from __future__ import annotations

import time

import pytest

from willitrun import CatalogError, UnknownIdError, diagnose, estimate_memory, load_catalog
from willitrun.expressions import evaluate_expression, render_text, rendered_data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4 - 1", 19),
        ("7 / 2", 3.5),
        ('accelerator("rtx-4090").memory_bandwidth / accelerator("rtx-4090").memory_bandwidth', 1.0),
        ('dataset("imagenet-1k").splits["validation"]', 50_000),
    ],
)
def test_values(text: str, value: float) -> None:
    assert evaluate_expression(text, load_catalog())[0] == value


def test_the_engine_answers() -> None:
    catalog = load_catalog()
    text = 'memory("llama-3.1-8b", quantization="q4_k_m", context_tokens=8192).kv_cache_bytes'
    found = estimate_memory("llama-3.1-8b", quantization="q4_k_m")
    value, unit = evaluate_expression(text, catalog)
    assert value == found.kv_cache_bytes
    assert unit == "kv_cache_bytes"
    assert render_text(f"It takes {{{{ {text} }}}}.", catalog) == "It takes 1 GiB."
    assert render_text("Plain { braces } stay.", catalog) == "Plain { braces } stay."


@pytest.mark.parametrize(
    "text",
    [
        '__import__("os").system("true")',
        'open("/etc/passwd")',
        'eval("1")',
        "().__class__",
        '"a".__class__.__mro__',
        'accelerator("rtx-4090").__class__',
        'accelerator("rtx-4090").__dict__',
        'accelerator("rtx-4090").model_dump',
        'accelerator("rtx-4090").model_dump()',
        'accelerator("rtx-4090").model_fields',
        'memory("llama-3.1-8b").kv_cache_bytes.scale',
        'memory("llama-3.1-8b").kv_cache_bytes.__init__',
        "[x for x in [1, 2]]",
        "{x: 1 for x in [1]}",
        "lambda: 1",
        "1 if True else 2",
        "9 ** 9 ** 9",
        "1 << 100000",
        "7 // 2",
        "7 % 2",
        "-1",
        "not 1",
        "1 < 2",
        "1 and 2",
        'f"{1}"',
        "x",
        "x := 3",
        "{1, 2}",
        '"a" * 1000000',
        '"a" + "b"',
        "True + 1",
        'accelerator(*["rtx-4090"])',
        'dataset("imagenet-1k").splits[0:1]',
        "b'bytes'",
        "1j",
        "...",
        "1; 2",
        "import os",
        "",
        "(",
    ],
)
def test_nothing_else_is_evaluated(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(CatalogError):
        evaluate_expression(text, load_catalog())
    assert time.perf_counter() - start < 5.0


@pytest.mark.parametrize(
    "text",
    [
        "1 / 0",
        'dataset("imagenet-1k").splits["nowhere"]',
        'accelerator("rtx-4090").aliases[99]',
        'accelerator(name="rtx-4090", size=3)',
        "accelerator()",
        "(" * 400 + "1" + ")" * 400,
        "1" + " + 1" * 5000,
        'accelerator(**{"name": "rtx-4090"})',
        'accelerator("rtx-4090\x00")' + "\x00",
    ],
)
def test_what_goes_wrong_is_an_error_of_the_catalog(text: str) -> None:
    with pytest.raises(CatalogError):
        evaluate_expression(text, load_catalog())


def test_unknown_records_are_named() -> None:
    with pytest.raises(UnknownIdError, match="rtx-490"):
        render_text('{{ accelerator("rtx-490").memory }}', load_catalog())


def test_rendering_does_not_evaluate_its_own_output() -> None:
    catalog = load_catalog()
    assert (
        render_text('{{ dataset("imagenet-1k").name }} has {{ 2 * 500 }} classes', catalog)
        == "ImageNet-1k has 1,000 classes"
    )


def test_what_a_log_says_is_no_expression_of_ours() -> None:
    hostile = "{{ memory('nonesuch').total_bytes }}"
    found = diagnose("CUDA out of memory. Tried to allocate 2.00 GiB.")[0].model_copy(
        update={"details": {"path": hostile}}
    )
    shown = rendered_data(found, load_catalog(), ("fixes",))
    assert shown["details"]["path"] == hostile
    assert any("{{" in fix.effect for fix in found.fixes)
    assert "{{" not in str(shown["fixes"])
