"""What a checkpoint's weights are stored in, as one of the library's format names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from willitrun.checkpoints.config_fields import ConfigFields
from willitrun.checkpoints.json_reading import shown
from willitrun.errors import UnsupportedFormatError

__all__ = ["DTYPE_NAMES", "stored_dtype", "stored_quantization"]

DTYPE_NAMES = {
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "f16",
    "half": "f16",
    "fp16": "f16",
    "float32": "f32",
    "float": "f32",
    "fp32": "f32",
    "float8_e4m3fn": "fp8",
}

# Algorithms of NVIDIA ModelOpt, as engines that load them name them (SGLang's modelopt_quant.py, TensorRT-LLM).
_MODELOPT = {
    **dict.fromkeys(("FP8", "FP8_PB_WO", "FP8_BLOCK_SCALES", "FP8_PER_CHANNEL_PER_TOKEN"), "fp8"),
    **dict.fromkeys(("NVFP4", "NVFP4_AWQ", "W4A16_NVFP4"), "nvfp4"),
    **dict.fromkeys(("W4A8_AWQ", "W4A16_AWQ", "INT4_AWQ"), "awq-int4"),
    "W4A8_MXFP4_FP8": "mxfp4",
}


def stored_quantization(config: Mapping[str, object], what: str) -> tuple[str, str] | None:
    """The format that ``quantization_config`` names, and a doubt about it; None where there is none.

    Raises
    ------
    UnsupportedFormatError
        A quantization method that is not known: its bytes would be a guess.
    """
    fields = ConfigFields(config, what=what)
    for key in ("quantization_config", "quantization"):
        block = fields.block(key) if not isinstance(fields.raw(key), str) else None
        if block:
            inner = ConfigFields(block, what=f"{what}: {key}")
            if producer := inner.block("producer"):
                # hf_quant_config.json of ModelOpt: who made it beside what was made.
                inner = ConfigFields(
                    {"quant_method": producer.get("name"), **(inner.block("quantization") or {})},
                    what=inner.what,
                )
            name = _quantized(inner)
            return name, _doubt(inner, name)
    return None


def stored_dtype(config: Mapping[str, object]) -> str | None:
    """The format that ``dtype`` or ``torch_dtype`` names; None where neither does."""
    for key in ("dtype", "torch_dtype"):
        word = config.get(key)
        if isinstance(word, str):
            return DTYPE_NAMES.get(word.removeprefix("torch."))
    return None


def _quantized(fields: ConfigFields) -> str:
    method = (fields.word("quant_method") or "").lower()
    if method in ("exl2", "exl3") and (ratio := fields.ratio("bits")):
        # Mixed widths: a rate with one or two digits, 4.0 or 4.25.
        return f"{method}-{ratio:.1f}" if round(ratio, 1) == ratio else f"{method}-{ratio:.4g}"
    bits = fields.positive("bits", most=64) or fields.positive("w_bit", most=64)
    if method == "awq":
        return f"awq-int{bits or 4}"
    if method in ("gptq", "gptqmodel", "auto-round", "intel/auto-round"):
        return f"gptq-int{bits or 4}"
    if method in ("fp8", "fbgemm_fp8", "finegrained_fp8"):
        return "fp8"
    if method == "mxfp4":
        return "mxfp4"
    if method in ("bitsandbytes", "") and (fields.flag("load_in_4bit") or fields.flag("_load_in_4bit")):
        return fields.word("bnb_4bit_quant_type") or "fp4"
    if method in ("bitsandbytes", "") and (fields.flag("load_in_8bit") or fields.flag("_load_in_8bit")):
        return "int8"
    if method in ("compressed-tensors", "compressed_tensors"):
        return _compressed(fields)
    if method.startswith("modelopt") or (not method and fields.states("quant_algo")):
        return _modelopt(fields)
    if not method and bits and fields.positive("group_size"):
        return f"mlx-{bits}bit"
    raise UnsupportedFormatError(
        f"{fields.what} uses the method {method or 'of no name'!r}, whose layout is not known."
    )


def _modelopt(fields: ConfigFields) -> str:
    algorithm = (fields.word("quant_algo") or "").upper()
    if algorithm in _MODELOPT:
        return _MODELOPT[algorithm]
    counted = Counter(
        _MODELOPT.get(name, "")
        for layer in (fields.block("quantized_layers") or {}).values()
        if isinstance(layer, Mapping) and isinstance(name := layer.get("quant_algo"), str)
    )
    if counted and all(counted):
        return counted.most_common(1)[0][0]
    return _compressed(fields)


def _doubt(fields: ConfigFields, name: str) -> str:
    if (fields.word("quant_algo") or "").upper() == "MIXED_PRECISION":
        return f"quantization: several formats, layer by layer; {name} has the most layers and is counted for all"
    if name not in ("awq-int4", "gptq-int4", "gptq-int8"):
        return ""
    sizes = [fields.raw("group_size"), fields.raw("q_group_size")]
    sizes += [weights.raw("group_size") for weights in _weight_groups(fields)]
    stated = next((size for size in sizes if type(size) is int), None)
    if stated in (None, 128):
        return ""
    return f"quantization: groups of {shown(stated)} weights; {name} is counted in groups of 128"


def _weight_groups(fields: ConfigFields) -> Iterator[ConfigFields]:
    for group in (fields.block("config_groups") or {}).values():
        weights = (
            ConfigFields(group, what=fields.what).block("weights") if isinstance(group, Mapping) else None
        )
        if weights:
            yield ConfigFields(weights, what=fields.what)


def _compressed(fields: ConfigFields) -> str:
    layout = (fields.word("format") or "").lower()
    if "nvfp4" in layout:
        return "nvfp4"
    if "mxfp4" in layout:
        return "mxfp4"
    for weights in _weight_groups(fields):
        bits, kind = weights.positive("num_bits", most=64), weights.word("type")
        if kind == "float" and bits == 8:
            return "fp8"
        if kind == "int" and bits == 8:
            return "int8"
        if kind == "int" and bits == 4:
            # Packed 4-bit groups with 16-bit scales: the layout of GPTQ without its group index.
            return "gptq-int4"
        if kind == "float" and bits == 4:
            return "nvfp4"
    if layout in ("float-quantized", "naive-quantized"):
        return "fp8"
    if layout == "int-quantized":
        return "int8"
    raise UnsupportedFormatError(f"{fields.what} gives no weight format that is known.")
