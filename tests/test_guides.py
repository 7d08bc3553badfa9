"""Buyer guides are computed from records; prompt kits are workloads with counted tokens."""

from __future__ import annotations

from datetime import date

import pytest

from willitrun import InvalidWorkloadError, Workload, assess, load_catalog
from willitrun.guides import answer_guide, kit_workload
from willitrun.records.guides import Guide, GuideReport

CATALOG = load_catalog()


@pytest.mark.parametrize("name", ["best-gpu", "best-laptop", "best-mac"])
def test_a_guide_answers_from_the_engine(name: str) -> None:
    report = answer_guide(name, today=date(2026, 1, 1))
    guide = CATALOG.guides[name]
    assert len(report.rows_) == len(guide.machines) * len(guide.workloads)
    assert len({row.machine for row in report.rows_}) == len(guide.machines)
    assert len(report.least) >= 6
    for workload, machine in report.least.items():
        row = next(row for row in report.rows_ if (row.workload, row.machine) == (workload, machine))
        assert row.tier == "comfortable"
        assert row.practical
    assert report.day == date(2026, 1, 1)
    assert report.assumptions
    assert GuideReport.model_validate_json(report.model_dump_json()) == report


def test_a_row_is_the_verdict() -> None:
    report = answer_guide("best-gpu")
    row = next(r for r in report.rows_ if r.accelerator.endswith("rtx-4090") and "7B" in r.workload)
    profile = next(w for w in CATALOG.workloads.values() if w.name == row.workload)
    assert profile.reference is not None
    verdict = assess(
        profile.reference,
        "rtx-4090",
        Workload(use=profile.id, **profile.fields),
        quantization=profile.reference_quantization,
    )
    assert verdict.tier == row.tier
    assert verdict.speed is not None
    assert verdict.speed.decode_tokens_per_s == row.speed


def test_a_guide_of_ones_own() -> None:
    guide = Guide.model_validate(
        {
            "id": "mine", "name": "Mine", "question": "?", "introduction": "", "machines": ["rtx-3090", "rtx-4090"],
            "workloads": ["chat-7b"], "cite": {"*": [{"source": "workload-floors", "basis": "derived", "rule": "mine"}]},
        }
    )  # fmt: skip
    assert answer_guide(guide).least == {"Chat with a 7B model": "NVIDIA GeForce RTX 4090"}


def test_kits_are_workloads() -> None:
    assert len(CATALOG.prompt_kits) >= 7
    for kit in CATALOG.prompt_kits.values():
        assert kit.use in CATALOG.workloads
        for tokenizer, counts in kit.tokens.items():
            assert len(counts) == len(kit.prompts), (kit.id, tokenizer)
            for prompt, count in zip(kit.prompts, counts, strict=True):
                # No tokenizer makes more tokens than characters or fewer than a twelfth of them.
                assert len(kit.system + prompt) / 12 < count < len(kit.system + prompt), kit.id
            load = kit_workload(kit, tokenizer=tokenizer)
            assert load.prompt_tokens == max(counts)
            assert (load.context_tokens or 0) >= max(counts) + kit.output_tokens
        verdict = assess("llama-3.1-8b", "rtx-3060-12gb", kit_workload(kit), quantization="q4_k_m")
        assert verdict.speed is not None
        assert verdict.speed.time_to_first_token_s is not None


def test_an_unknown_tokenizer_is_said() -> None:
    with pytest.raises(InvalidWorkloadError, match="was not counted"):
        kit_workload("review-code", tokenizer="gpt-9")
