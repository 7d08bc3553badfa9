"""Weight formats as measurements spell them -> quantization ids of the catalog."""

from __future__ import annotations

import re
from functools import lru_cache

from willitrun import load_catalog

#: Pattern on the lower-case spelling -> catalog id; the first match counts.
_SPELLINGS: tuple[tuple[str, str], ...] = (
    (r"^(all )?f(p)?32", "f32"),
    (r"mlx.*(8|q8)", "mlx-8bit"),
    (r"mlx-q6", "mlx-6bit"),
    (r"mlx-bf16|^(gguf-)?bf16", "bf16"),
    (r"^(gguf-)?(f16|fp16)", "f16"),
    (r"mlx-q[235]", ""),
    (r"mlx", "mlx-4bit"),
    (r"mxfp4", "mxfp4"),
    (r"nvfp4|^fp4", "nvfp4"),
    (r"fp8", "fp8"),
    (r"iq4_nl", "iq4_nl"),
    (r"iq4", "iq4_xs"),
    (r"iq3", "iq3_s"),
    (r"iq2|2bit", "iq2_s"),
    (r"iq1|w2", "iq1_s"),
    (r"q8_(k|0)|q8_k_xl", "q8_0"),
    (r"q6_k", "q6_k"),
    (r"q5_k", "q5_k_m"),
    (r"q5_[01]", "q5_0"),
    (r"q4_k_s|q4_k - small", "q4_k_s"),
    (r"q4_k", "q4_k_m"),
    (r"q4_0", "q4_0"),
    (r"q4_1", "q4_1"),
    (r"q3_k_l|q3_k_xl|q3_k - large", "q3_k_l"),
    (r"q3_k", "q3_k_m"),
    (r"q2_k", "q2_k"),
    (r"exl2 4|^exl2$", "exl2-4.0"),
    (r"exl2|int3", ""),
    (r"w8a8|int8-cw|^int8|8bit", "int8"),
    (r"gptq", "gptq-int4"),
    (r"int4|w4|awq|q4f16|4.?bit", "awq-int4"),
)


@lru_cache(maxsize=4096)
def quantization_of(text: str) -> str | None:
    """A quantization id of the catalog for a spelling found in the data, None where there is none.

    >>> quantization_of("UD-Q4_K_XL"), quantization_of("fp16/bf16"), quantization_of("INT4-MIXED")
    ('ud-q4_k_xl', 'f16', 'awq-int4')
    """
    catalog = load_catalog()
    lowered = text.strip().lower().replace(" ", "")
    for name in (lowered, lowered.replace("-", "_"), lowered.split("/")[0]):
        if name != "int4" and catalog.quantizations.named(name):
            return catalog.quantizations.named(name)[0]
    spelt = text.strip().lower().removeprefix("gguf ").removeprefix("gguf-")
    for pattern, identifier in _SPELLINGS:
        if re.search(pattern, spelt):
            known = catalog.quantizations.named(identifier) if identifier else ()
            return known[0] if known else None
    return None


def is_gguf(quantization: str) -> bool:
    """Whether a format of the catalog comes in GGUF files."""
    return "gguf" in load_catalog().quantizations[quantization].container
