"""What a question says in numbers and in words of the trade: a table of patterns, each read once and taken out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from willitrun.records.answers import Intent

__all__ = ["Reading", "read_question"]

_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_TOKENS = rf"(?P<n>{_NUMBER})\s*(?P<k>k|m)?"

# Field -> patterns; the first that matches is read and taken out of the text. ``n`` is the number, ``k`` its scale.
_QUANTITIES: tuple[tuple[str, str], ...] = (
    ("image_size", r"\b(?P<n>\d{2,4})\s*(?:x|×|by)\s*\d{2,4}\b(?:\s*(?:px|pixels|images?))?"),
    ("image_size", r"\b(?:at|size|resolution)\s*(?P<n>\d{2,4})\s*(?:px|pixels)\b"),
    ("image_size", r"\b(?P<n>\d{2,4})\s*(?:px|pixels)\b"),
    ("batch_size", r"\bbatch(?:[ -]?size)?(?:\s*(?:of|=|:))?\s*(?P<n>\d[\d,]*)\b"),
    ("batch_size", r"\b(?P<n>\d[\d,]*)\s*(?:images|pictures)\s*(?:at a time|per batch|at once)"),
    ("batch_size", r"\bbs\s*=?\s*(?P<n>\d+)\b"),
    ("concurrency", r"\b(?P<n>\d[\d,]*)\s*(?:concurrent|parallel|simultaneous)(?:\s+\w+)?"),
    ("concurrency", r"\b(?P<n>\d[\d,]*)\s*(?:users|people|clients|sessions|sequences|requests|slots)\b(?:\s*(?:at once|in flight))?"),
    ("concurrency", r"\bconcurrency(?:\s*(?:of|=))?\s*(?P<n>\d+)"),
    ("prompt_tokens", rf"\b{_TOKENS}[\s-]*(?:token|tok)?s?[\s-]*(?:long\s+)?prompts?\b"),
    ("prompt_tokens", rf"\bprompts?\s*(?:of|with)\s*{_TOKENS}(?:\s*tokens)?\b"),
    ("output_tokens", rf"\b(?:generat\w+|output|answer)\s*(?:of|with)?\s*{_TOKENS}\s*tokens\b"),
    ("steps", r"\b(?P<n>\d{1,3})\s*(?:denoising\s*)?steps\b"),
    ("frames", r"\b(?P<n>\d{1,4})[\s-]*frames?\b"),
    ("context_tokens", rf"\b(?:context|ctx|window|num_ctx|n_ctx)(?:\s*(?:length|size|window))?(?:\s*(?:of|=|:|at))?\s*{_TOKENS}\b(?:\s*tokens)?"),
    ("context_tokens", rf"\b{_TOKENS}[\s-]*(?:tokens?)?[\s-]*(?:of\s+)?(?:context|ctx|window)(?:\s*(?:length|window))?\b"),
    ("context_tokens", rf"\b(?:at|with|of|for|up to)\s+{_TOKENS}\s*tokens\b"),
    ("context_tokens", r"\b(?P<n>\d{1,4})\s*(?P<k>k)\b(?:\s*tokens)?"),
    ("context_tokens", r"\b(?P<n>1)\s*(?P<k>m)\s*(?:tokens|context)\b"),
)  # fmt: skip
_RAM = re.compile(
    r"\b(?P<n>\d{1,4})\s*(?:gb|gib|g)\s*(?:of\s*)?(?:system\s*)?(?:ram|ddr[45]|system memory)\b"
)
_VRAM = re.compile(
    r"\b(?P<n>\d{1,4})\s*(?:gb|gib|g)(?:\s*(?:of\s*)?(?:vram|gpu memory|video memory)|\s+(?:gpu|card|graphics card)\b)"
)
_BARE_MEMORY = re.compile(r"\b(?P<n>\d{1,4})\s*(?:gb|gib)\b")
_TARGET = re.compile(
    rf"\b(?:at\s+(?:least\s+)?)?(?P<n>{_NUMBER})\s*(?:tokens?/s|tok/s|t/s|tps|tokens per second)\b"
    # A bare number before these may be a card's: "on a 3060 images per second".
    rf"|\b(?:at least|at|get|reach|hit|do|achieve|sustain|above|over|than|of|need|want)\s+(?P<m>{_NUMBER})\s*"
    r"(?:fps|(?:images?|pictures|frames?|samples?|texts|documents)(?:/s| (?:per|a) second)\b|(?:x|times) (?:faster than )?real[ -]?time)"
)
# A job of so many items, and what may not follow: a rate, a batch.
_AMOUNT = re.compile(
    rf"\b(?P<n>{_NUMBER})\s*(?P<scale>thousand|million|billion|k|m|bn)?\s+(?:\|\s+)?(?:short |long |pdf |scanned )?"
    r"(?P<unit>hours?|minutes?|documents|docs|texts|passages|chunks|pages|sentences|articles|papers|e?mails|images|"
    r"pictures|photos|videos|clips|requests|prompts|queries|items|rows|records|samples)\b"
    r"(?:\s+of\s+(?:audio|speech|recordings?|podcasts?|calls?|meetings?|video|text)\b)?"
    r"(?!\s*(?:/|per\b|a second|at a time|at once|in flight|long\b))"
)
_ASKS_FOR_TIME = re.compile(
    r"\bhow (?:long|much time|many (?:hours|days|minutes))\b|\btakes?\b|\btime to (?!first)"
)
_SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "bn": 1e9, "billion": 1e9}

_SECONDS = rf"(?P<n>{_NUMBER})\s*(?P<unit>ms|milliseconds?|s|sec|seconds?)"
# Latency -> patterns of the longest that is asked for.
_LATENCIES: tuple[tuple[str, str], ...] = (
    ("time_to_first_token_s", rf"\b(?:first token|ttft)\b[^\d|]{{0,30}}{_SECONDS}\b"),
    ("time_to_first_token_s", rf"\b{_SECONDS}\s+(?:to|for|until)\s+(?:the\s+)?first token\b"),
    ("time_per_output_token_s", rf"\b{_SECONDS}\s*(?:per|a|/)\s*(?:output\s+)?token\b"),
    ("time_per_output_token_s", rf"\b(?:time per (?:output )?token|tpot)\b[^\d|]{{0,30}}{_SECONDS}\b"),
)

_QUANTIZATIONS = re.compile(
    r"\b(?:(?:ud-)?i?q\d(?:[_-](?:k|nl|xxs|xs|s|m|l|xl|[01]))+|q[2-8]|f(?:p)?(?:8|16|32)|bf16|nf4|mxfp4|nvfp4|awq|gptq|int[48]|"
    r"exl[23](?:-\d(?:\.\d)?)?|mlx-\dbit|(?P<bits>[2-8])[\s-]?bits?)\b"
)
_PLAIN_FORMATS = {
    "q2": "q2_k", "q3": "q3_k_m", "q4": "q4_k_m", "q5": "q5_k_m", "q6": "q6_k", "q8": "q8_0",
    "awq": "awq-int4", "gptq": "gptq-int4", "int4": "awq-int4", "fp16": "f16", "fp32": "f32", "fp8": "fp8",
}  # fmt: skip
_BITS = {"2": "q2_k", "3": "q3_k_m", "4": "q4_k_m", "5": "q5_k_m", "6": "q6_k", "8": "q8_0"}
_PRECISIONS = {"f16": "fp16", "f32": "fp32", "bf16": "bf16", "int8": "int8", "fp8": "fp8"}
_RUNTIMES = re.compile(
    r"\b(?:in|on|with|using|under|via|through)?\s*(llama\.?cpp|ollama|lm[ -]?studio|vllm|sglang|tensorrt-llm|exllama\w*|mlx|"
    r"transformers|pytorch|onnx ?runtime|openvino|diffusers|comfyui|whisper\.cpp|faster-whisper|tensorrt)\b"
)
_RUNTIME_NAMES = {
    "llamacpp": "llama.cpp",
    "lmstudio": "lm-studio",
    "lm studio": "lm-studio",
    "onnx runtime": "onnxruntime",
}
_MODES = (
    (r"\bqlora\b", "qlora"),
    (r"\blora\b", "lora"),
    (r"\b(?:fully? )?(?:fine-?tun\w*|train(?:ing)?)\b", "full-finetune"),
)

# The first pattern that matches says what is asked; the order is from the particular to the general.
_INTENTS: tuple[tuple[Intent, str], ...] = (
    ("largest-context", r"\b(?:largest|longest|max(?:imum)?|biggest|how (?:much|long|big|large)(?: of)?(?: an?| is the)?|what|which)\s+(?:\w+\s+)?(?:context|ctx)\b|\bhow many tokens (?:of context|fit|can)"),
    ("largest-batch", r"\b(?:largest|max(?:imum)?|biggest|what)\s+batch\b|\bhow (?:large|big) (?:a |can the )?batch\b"),
    ("largest-concurrency", r"\bmax(?:imum)?\s+(?:number of\s+)?(?:(?:concurrent|parallel|simultaneous)\s+)?(?:users|clients|requests|sequences|sessions)\b|\bhow many (?:\w+ )?(?:users|people|clients|requests|sequences|sessions|slots)\b"),
    ("best-runtime", r"\b(?:which|what|best)\s+(?:\w+\s+)?(?:runtime|engine|back ?end|inference server|software|program)\b"),
    ("best-quantization", r"\b(?:which|what|best)\s+(?:\w+\s+){0,2}(?:quant\w*|gguf|weight format|bit width)\b"),
    ("smallest-machine", r"\b(?:which|what|smallest|cheapest|minimum|what kind of)\s+(?:\w+\s+){0,2}(?:gpus?|cards?|graphics cards?|hardware|machine|mac)\b.*\b(?:need|run|runs|for|required?|fits?|buy|hold|serve)\b|^(?:(?:good|best|cheapest|smallest) )?(?:gpus?|graphics cards?|cards?|hardware) (?:for|to run)\b"),
    ("models", r"\b(?:what|which)\s+(?:\w+\s+)?(?:models?|llms?)\b|\bwhat can i run\b|\bbest (?:\w+ )?(?:model|llm)\b"),
    ("memory", r"\bhow much (?:\w+ )?(?:vram|memory|ram|gpu memory)\b|\b(?:min(?:imum)?|required|recommended|least) (?:v?ram|(?:gpu |system )?memory)\b|\b(?:v?ram|memory) (?:needed|required|requirements?|usage|use|for)\b|\bhow (?:big|large) is\b"),
    ("speed", r"\bhow fast\b|\bhow many (?:tokens|images|img|pictures|frames)\b|(?:tokens?|tok|images?|img)\s*(?:/|per|a)\s*s(?:ec(?:ond)?)?\b|\b(?:tps|t/s|fps|speed|throughput|latency|how long|time to first token|ttft|seconds per|s/image)\b"),
    ("comparison", r"\b(?:vs\.?|versus|faster than|better than|compare[ds]?)\b"),
    ("fit", r"\b(?:can|could|will|would|does|do|is|are|fits?|runs?|running|enough|possible|handle|load|able)\b"),
)  # fmt: skip


@dataclass(slots=True)
class Reading:
    """A question, read: what is asked, the numbers, and the text that is left for names."""

    intent: Intent
    rest: str
    fields: dict[str, Any] = field(default_factory=dict)
    quantization: str | None = None
    runtime: str | None = None
    runtimes: list[str] = field(default_factory=list)
    """All that are named; more than one are to be compared."""
    ram_gib: int | None = None
    vram_gib: int | None = None
    target_per_s: float | None = None
    latencies: dict[str, float] = field(default_factory=dict)
    """Longest times to the first token and per output token that are asked for [s]."""
    amount: float | None = None
    """Items of a job, or hours of audio."""
    amount_unit: str = ""
    first_token: bool = False
    prefill: bool = False
    here: bool = False
    cheap: bool = False
    """Money decides, not memory."""
    money: bool = False
    """What it costs is asked."""
    power: bool = False
    """What it draws is asked."""
    notes: list[str] = field(default_factory=list)


def intent_of(text: str) -> Intent:
    """What is asked; ``unclear`` where no word says it."""
    return next((intent for intent, pattern in _INTENTS if re.search(pattern, text)), "unclear")


def read_question(text: str, names: str) -> Reading:
    """Read a question.

    Parameters
    ----------
    text
        The question in lower case.
    names
        The same without the names of models: numbers in them are no quantities.
    """
    found = Reading(intent=intent_of(text), rest=names)
    found.first_token = bool(re.search(r"first token|ttft|time to first", text))
    found.prefill = bool(
        re.search(r"prefill|prompt processing|prompt eval|process(?:ing)? (?:a |the )?prompt", text)
    )
    found.here = bool(re.search(r"\b(?:this|my|here)\b(?: (?:machine|computer|pc|laptop|gpu|box))?", text))
    found.cheap = bool(re.search(r"\bcheap(?:est|er)?\b|least (?:money|expensive)", text))
    found.money = bool(
        re.search(r"\bcosts?\b|\bprice\b|per million tokens|electricity|\brent(?:ing)?\b", text)
    )
    match = _take(found, _TARGET)
    found.target_per_s = float((match["n"] or match["m"]).replace(",", "")) if match else None
    for name, pattern in _LATENCIES:
        if name not in found.latencies and (match := _take(found, re.compile(pattern))):
            scale = 1e-3 if match["unit"].startswith("m") else 1.0
            found.latencies[name] = float(match["n"].replace(",", "")) * scale
    found.power = bool(
        re.search(r"\bhow (?:much|many) (?:power|energy|watts?|electricity)\b|\bjoules?\b|power draw", text)
    )
    if _ASKS_FOR_TIME.search(text) and (match := _take(found, _AMOUNT)):
        found.amount = float(match["n"].replace(",", "")) * _SCALES.get(match["scale"] or "", 1.0)
        found.amount_unit = match["unit"].rstrip("s")
        if found.amount_unit == "minute":
            found.amount, found.amount_unit = found.amount / 60.0, "hour"
    match = _take(found, _RAM)
    found.ram_gib = int(match["n"]) if match else None
    match = _take(found, _VRAM)
    found.vram_gib = int(match["n"]) if match else None
    _read_runtime(found)
    _read_quantization(found)
    _read_mode(found)
    for name, pattern in _QUANTITIES:
        if name not in found.fields and (match := _take(found, re.compile(pattern))):
            found.fields[name] = _scaled(match)
    return found


def read_memory(found: Reading) -> int | None:
    """A size in GB that no name took: memory of the machine [GiB]."""
    match = _take(found, _BARE_MEMORY)
    return int(match["n"]) if match else None


def _take(found: Reading, pattern: re.Pattern[str]) -> re.Match[str] | None:
    match = pattern.search(found.rest)
    if match is not None:
        found.rest = f"{found.rest[: match.start()]} | {found.rest[match.end() :]}"
    return match


def _scaled(match: re.Match[str]) -> int:
    scale = {"k": 1024, "m": 1024**2}.get(match.groupdict().get("k") or "", 1)
    return round(float(match["n"].replace(",", "")) * scale)


def _read_runtime(found: Reading) -> None:
    while (match := _take(found, _RUNTIMES)) is not None:
        found.runtimes.append(_RUNTIME_NAMES.get(match[1], match[1]))
    found.runtime = found.runtimes[0] if found.runtimes else None


def _read_quantization(found: Reading) -> None:
    match = _take(found, _QUANTIZATIONS)
    if match is None:
        return
    if match["bits"]:
        found.quantization = _BITS.get(match["bits"])
        found.notes.append(f"{match[0]} was taken for {found.quantization}")
        return
    word = match[0].replace("-", "_") if match[0][0] in "qiu" and "_" not in match[0] else match[0]
    found.quantization = _PLAIN_FORMATS.get(word, word)
    if found.quantization != word:
        found.notes.append(f"{match[0]} was taken for {found.quantization}")


def _read_mode(found: Reading) -> None:
    for pattern, mode in _MODES:
        if _take(found, re.compile(pattern)):
            found.fields["mode"] = mode
            return


def precision_of(quantization: str | None) -> str | None:
    """The precision of an image model that a weight format stands for; None where it stands for none."""
    return _PRECISIONS.get(quantization or "")
