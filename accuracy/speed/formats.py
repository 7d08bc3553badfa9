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


#: Bits per weight of llama.cpp's formats with a codebook, as its program lists them (tools/quantize/quantize.cpp).
_CODEBOOK_BITS = {
    "iq1_s": 1.56, "iq1_m": 1.75, "iq2_xxs": 2.06, "iq2_xs": 2.31, "iq2_s": 2.5, "iq2_m": 2.7, "iq3_xxs": 3.06,
    "iq3_xs": 3.3, "iq3_s": 3.44, "iq3_m": 3.66, "iq4_xs": 4.25, "iq4_nl": 4.5,
}  # fmt: skip
#: A publisher's own mix that states the bits per weight of the whole file.
_STATED_BITS = re.compile(r"^iq\d_\w+-(\d\.\d+)bpw$")


@lru_cache(maxsize=4096)
def quantization_of(text: str) -> str | None:
    """A quantization id of the catalog for a spelling found in the data, None where there is none.

    >>> quantization_of("UD-Q4_K_XL"), quantization_of("fp16/bf16"), quantization_of("INT4-MIXED")
    ('ud-q4_k_xl', 'f16', 'awq-int4')
    >>> quantization_of("IQ3_S-2.81bpw"), quantization_of("IQ4_XS-3.60bpw")
    ('iq2_m', 'iq3_m')
    """
    catalog = load_catalog()
    lowered = text.strip().lower().replace(" ", "")
    for name in (lowered, lowered.replace("-", "_"), lowered.split("/")[0]):
        if name != "int4" and catalog.quantizations.named(name):
            return catalog.quantizations.named(name)[0]
    spelt = text.strip().lower().removeprefix("gguf ").removeprefix("gguf-")
    stated = _STATED_BITS.match(spelt)
    if stated:
        bits = float(stated.group(1))
        return min(_CODEBOOK_BITS, key=lambda name: abs(_CODEBOOK_BITS[name] - bits))
    for pattern, identifier in _SPELLINGS:
        if re.search(pattern, spelt):
            known = catalog.quantizations.named(identifier) if identifier else ()
            return known[0] if known else None
    return None


def is_gguf(quantization: str) -> bool:
    """Whether a format of the catalog comes in GGUF files."""
    return "gguf" in load_catalog().quantizations[quantization].container
