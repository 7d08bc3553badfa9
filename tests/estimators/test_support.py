"""What is known near a request is looked up once for all lengths of its texts."""

from __future__ import annotations

from typing import Any

import pytest

from willitrun import Workload, estimate_speed
from willitrun.estimators.requests import complete_request
from willitrun.estimators.support import _support_of, support_of

LANGUAGE = ("llama-3.1-8b", "nvidia-geforce-rtx-4090", "q4_k_m", "llm-speed")
MEASURED = ("qwen2.5-coder-7b", "nvidia-gb10-dgx-spark", "q8_0", "llm-speed")
IMAGES = ("resnet-50", "nvidia-geforce-rtx-3090", None, "vision-speed")
# A tuple that the catalog has a measurement of.
TIMM = {
    "batch_size": 1024,
    "image_size": 160,
    "precision": "amp-fp16",
    "execution": "eager",
    "layout": "nchw",
}
TRAINING = {"mode": "full-finetune"}


@pytest.mark.parametrize(
    ("case", "base", "changed"),
    [
        (LANGUAGE, {}, {"context_tokens": 32768}),
        (LANGUAGE, {}, {"prompt_tokens": 4096}),
        (LANGUAGE, {}, {"cached_tokens": 512}),
        (LANGUAGE, {}, {"output_tokens": 1024}),
        (MEASURED, {}, {"concurrency": 64}),
        (LANGUAGE, {}, {"draft_tokens": 4, "acceptance": 0.7}),
        (IMAGES, TIMM, {"batch_size": 256}),
        (IMAGES, {"batch_size": 64}, {"image_size": 384}),
        (IMAGES, {"batch_size": 64, "precision": "fp32"}, {"precision": "amp-fp16"}),
        (IMAGES, {"batch_size": 64, "execution": "eager"}, {"execution": "compile"}),
        (IMAGES, {"batch_size": 64, "layout": "nchw"}, {"layout": "nhwc"}),
        (IMAGES, {"batch_size": 64}, TRAINING),
        (IMAGES, {"batch_size": 64} | TRAINING, {"optimizer": "sgd"}),
        (IMAGES, {"batch_size": 64} | TRAINING, {"gradient_checkpointing": "full"}),
        (IMAGES, {"batch_size": 64}, {"dataset": "imagenet-1k"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_was_looked_up_is_of_this_request(
    case: tuple[str, str, str | None, str], base: dict[str, Any], changed: dict[str, Any]
) -> None:
    model, machine, quantization, calibration = case

    def request(fields: dict[str, Any]) -> Any:
        return complete_request(model, machine, Workload(**fields), quantization=quantization)

    before, after = request(base), request(base | changed)
    support_of(before, (machine,), calibration)
    kept, fresh = support_of(after, (machine,), calibration), _support_of(after, (machine,), calibration)
    assert (kept.level, kept.evidence, kept.cites, kept.nearest, kept.keys) == (
        fresh.level,
        fresh.evidence,
        fresh.cites,
        fresh.nearest,
        fresh.keys,
    )


def test_one_sequence_waits_as_surely_as_its_prompt_is_read() -> None:
    # Published waits are of loaded servers, whose queues nobody knows; alone, the first token waits for the prompt only.
    alone, loaded = (
        estimate_speed("llama-3.1-8b", "rtx-4090", Workload(concurrency=count), quantization="q4_k_m")
        for count in (1, 8)
    )
    assert alone.time_to_first_token_s is not None
    assert alone.prefill_tokens_per_s is not None
    assert loaded.time_to_first_token_s is not None
    wait, prefill = alone.time_to_first_token_s, alone.prefill_tokens_per_s
    assert wait.high / wait.best == pytest.approx(prefill.best / prefill.low)
    assert wait.high / wait.low < loaded.time_to_first_token_s.high / loaded.time_to_first_token_s.low
