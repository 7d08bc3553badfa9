"""Names people type, made comparable."""

from __future__ import annotations

import re
from functools import cache

__all__ = [
    "name_and_size",
    "name_variants",
    "names_without_format",
    "normalise_name",
    "respelled",
    "spoken_names",
    "suggest",
]

_SEPARATORS = re.compile(r"[\s_\-()\[\],:®™]+")
_VENDOR = r"^(?:nvidia-geforce|nvidia-tesla|nvidia-quadro|nvidia|amd-radeon|amd-instinct|amd|intel|apple|geforce|radeon)-"
# What older drivers and most people leave out: "GeForce RTX 4060", "Radeon RX 7900 XTX", "Snapdragon X Elite".
_MAKER = r"^(?:nvidia|amd|intel|qualcomm)-"
_MAKERS = r"^(nvidia|amd|intel|apple|qualcomm)-"
_KIND = r"-(?:gpu|graphics)$"
_BRACKETS = r"(?i)\((?![^()]*(?:laptop|mobile|notebook|max-?q|mig|cpu|npu|half))[^()]*\)|\bwith (?=max-q)"
_MEMORY = r"-\d+gb$"
_FORM = r"-(?:sxm\d?|pcie|nvl|oam|\d+gpu|hbm\d?e?|per-gpu)$"
_FORM_INSIDE = r"-(?:sxm\d?|pcie|nvl)(?=-)"
_SERIES = r"^(?:rtx|gtx|rx)-(?=\d{4})"
_EDITION = (
    r"-(?:(?:max-q-)?(?:workstation|server)-edition|blackwell|generation|core-ultra-\w+|gpu|core|graphics)$"
)
_SHORTER = (
    *((pattern, "") for pattern in (_VENDOR, _MAKER, _MEMORY, _FORM, _FORM_INSIDE, _SERIES, _EDITION)),
    # "H100 SXM", "Ryzen AI Max 395"
    (r"-sxm\d(?=-|$)", "-sxm"),
    (r"\+(?=-)", ""),
)
# "RTX4090", "4070Ti": the letters and digits of a series, written in one word.
_RUN_TOGETHER = re.compile(r"(?<![a-z0-9])(rtx|gtx|rx)(?=\d{3})|(?<=\d{4})(?=(?:ti|super|xtx?|gre)(?:-|$))")
# What publishers append to the name of a model whose weights they store in another format, and that format;
# "" where the suffix names only a container. Seen on the Hub: bartowski, unsloth, RedHatAI, nvidia, amd,
# mlx-community, turboderp; q4_K_M after a colon in tags of Ollama and of `llama.cpp -hf`, after @ in LM Studio's; parts of
# a split file, and in brackets who stored the weights.
_FORMAT_SUFFIXES = (
    (r"(?:i1[-_])?gguf", ""),
    (r"i1|\d{5}-of-\d{5}|\([^()]*\)", ""),
    (r"((?:ud[-_])?(?:i?q|tq)\d(?:[-_](?:k|nl|xxs|xs|s|m|l|xl|0|1))+)", r"\1"),
    (r"(\d(?:\.\d+)?)bpw(?:[-_]h\d)?[-_](exl[23])", r"\2-\1"),
    (r"(?:int4[-_])?awq(?:[-_](?:int4|4bit|w4a16|gemm|gemv))?", "awq-int4"),
    (r"gptq[-_](?:int8|8bit)", "gptq-int8"),
    (r"gptq(?:[-_](?:int4|4bit))?(?:[-_](?:\d+g|g\d+))?", "gptq-int4"),
    (r"fp8(?:[-_](?:dynamic|block|static|kv|e4m3))*", "fp8"),
    (r"(?:unsloth[-_])?bnb[-_]4bit", "nf4"),
    (r"(?:unsloth[-_])?bnb[-_]8bit", "int8"),
    (r"(?:mlx[-_])?([34568])bit", r"mlx-\1bit"),
    (r"mlx", ""),
    (r"(?:quantized\.)?w4a16", "gptq-int4"),
    (r"(?:quantized\.)?w8a16", "gptq-int8"),
    (r"(?:quantized\.)?w8a8", "int8"),
    (r"(nvfp4|mxfp4|bf16|fp16|f16|f32)", r"\1"),
    (r"fp4", "nvfp4"),
)
# llama-bench writes what it loaded as "qwen2 14B Q4_K - Medium" and "IQ4_XS - 4.25 bpw" (`llama_model_ftype_name`).
_BENCH_TAIL = re.compile(r" - (?:(small|medium|large)|\d+(?:\.\d+)? bpw)$", re.IGNORECASE)
_SIZE_TAG = r"(.+):(\d{1,4}(?:\.\d{1,2})?)b$"
_TAG_VARIANT = r"(?i)-(?:instruct|chat|it)$"


def normalise_name(name: str) -> str:
    """Lower case, one hyphen for every run of separators.

    >>> normalise_name("NVIDIA GeForce  RTX_4090"), normalise_name("Llama 3.1:8b"), normalise_name("RTX4070Ti")
    ('nvidia-geforce-rtx-4090', 'llama-3.1-8b', 'rtx-4070-ti')
    """
    plain = _SEPARATORS.sub("-", name.strip().lower()).strip("-")
    return _RUN_TOGETHER.sub(lambda found: f"{found[0]}-", plain)


def name_variants(identifier: str) -> set[str]:
    """Shorter spellings of a device id that several devices may share.

    They only ever lead to a question ("which of these?") or to the one device that they fit.

    >>> sorted(name_variants("nvidia-a100-pcie-40gb"))
    ['a100', 'a100-40gb', 'a100-pcie', 'a100-pcie-40gb', 'nvidia-a100', 'nvidia-a100-40gb', 'nvidia-a100-pcie']
    """
    found: set[str] = set()
    queue = [identifier]
    while queue:
        name = queue.pop()
        for pattern, other in _SHORTER:
            shorter = re.sub(pattern, other, name)
            telling = any(char.isdigit() for char in shorter) or shorter.count("-") >= 2
            if shorter != name and shorter not in found and telling:
                found.add(shorter)
                queue.append(shorter)
    return found


def names_without_format(name: str) -> tuple[tuple[str, str], ...]:
    """Shorter names of a model without the weight format appended to it, each with that format.

    The longest comes first; the format is ``""`` where only a container is named. In a tag of Ollama the
    word of the tuned variant, which its plain tag stands for, is left out too.

    >>> names_without_format("unsloth/Qwen3-8B-GGUF")
    (('unsloth/Qwen3-8B', ''),)
    >>> names_without_format("llama3.1:8b-instruct-q4_K_M")
    (('llama3.1:8b-instruct', 'q4-k-m'), ('llama3.1:8b', 'q4-k-m'))
    >>> names_without_format("Llama 3.2 1B Instruct Q4_K - Medium")
    (('Llama 3.2 1B Instruct', 'q4-k-m'),)
    >>> names_without_format("gpt-oss-20b")
    ()
    """
    found: list[tuple[str, str]] = []
    weights = ""
    name = _BENCH_TAIL.sub(lambda tail: f"_{tail[1][0]}" if tail[1] else "", name)
    while hit := _strip_format(name):
        name, stated = hit
        weights = weights or stated
        found.append((name, weights))
        if ":" in name and (plain := re.sub(_TAG_VARIANT, "", name)) != name:
            found.append((plain, weights))
    return tuple(found)


@cache
def _format_suffixes() -> tuple[tuple[re.Pattern[str], str], ...]:
    # Most names end in no format: the patterns are compiled when one may.
    return tuple(
        (re.compile(f"[-_.:@ ](?:{pattern})$", re.IGNORECASE), stated) for pattern, stated in _FORMAT_SUFFIXES
    )


def _strip_format(name: str) -> tuple[str, str] | None:
    for pattern, stated in _format_suffixes():
        match = pattern.search(name)
        if match and match.start():
            return name[: match.start()], normalise_name(match.expand(stated))
    return None


def respelled(name: str) -> str | None:
    """A name whose dots somebody wrote otherwise, or with a slash at its end; None if it has nothing of the kind.

    Hyphens where names must not have dots, three underscores in the folders of ModelScope.

    >>> respelled("llama-3-3-70b"), respelled("Qwen2___5-7B-Instruct"), respelled("llama-3.3-70b")
    ('llama-3.3-70b', 'Qwen2.5-7B-Instruct', None)
    """
    other = re.sub(r"(?<=\d)-(?=\d(?:-|$))", ".", name.rstrip("/").replace("___", "."))
    return other if other != name else None


def spoken_names(name: str) -> tuple[tuple[str, str], ...]:
    """Names that a device may be meant by, each with the maker that was named; the fullest comes first.

    What is left out is said of a device and is no part of its name: the maker, brackets, what kind of thing it is.

    >>> spoken_names("NVIDIA RTX 3050 Laptop GPU")[1:]
    (('nvidia-rtx-3050-laptop', 'nvidia'), ('rtx-3050-laptop-gpu', 'nvidia'), ('rtx-3050-laptop', 'nvidia'))
    """
    plain = normalise_name(name)
    # Brackets that tell a part, a slice or a mobile version from the whole card stay.
    outside = normalise_name(re.sub(_BRACKETS, " ", name))
    makers = re.match(_MAKERS, plain)
    maker = makers[1] if makers else ""
    found: dict[str, None] = {}
    for text in (plain, outside):
        for whole in (text, re.sub(_MAKERS, "", text)):
            for shorter in (whole, re.sub(_KIND, "", whole)):
                found.setdefault(shorter)
    return tuple((text, maker) for text in found if text)


def name_and_size(name: str) -> tuple[str, float] | None:
    """A tag of Ollama that only states the size, as a name and billions of parameters.

    >>> name_and_size("phi4:14b"), name_and_size("phi4-mini:3.8b"), name_and_size("qwen3:30b-a3b")
    (('phi4', 14.0), ('phi4-mini', 3.8), None)
    """
    match = re.match(_SIZE_TAG, name.strip().lower())
    return (match[1], float(match[2])) if match else None


def suggest(name: str, known: list[str], most: int = 5) -> tuple[str, ...]:
    """Near spellings of a normalised name, best first."""
    from difflib import get_close_matches

    inside = [other for other in known if name and name in other]
    close = get_close_matches(name, known, n=most, cutoff=0.6)
    ranked = dict.fromkeys([*close, *sorted(inside, key=len)])
    return tuple(ranked)[:most]
