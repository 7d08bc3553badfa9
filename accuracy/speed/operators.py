"""What serving engines' operators take alone, as prior knowledge of the fit: sums of a coefficient's logarithms.

Nearly all models that servers are measured with have experts in every layer, so that those rows do not tell what a
layer takes from what its experts add, nor what a dense product costs from what a grouped one does. Tables of single
operators on A100, H100 and B200 do (NVIDIA aiconfigurator, ``aic-core/src/aiconfigurator_core/systems/data``).
"""

from __future__ import annotations

__all__ = ["COMBINATIONS", "Combination"]

#: What a coefficient is for one class of programs, whatever it is for others: (coefficient, levels, value, width of the
#: logarithm).
Combination = tuple[str, tuple[tuple[str, str], ...], float, float]

_ENGINES = {"vllm": (("engine", "vllm:cuda"),), "sglang": (), "tensorrt-llm": ()}
#: The four products of a dense layer take 3 to 8 us each where they are tiny, attention 5 to 15, and element-wise kernels
#: 2 to 3. Prompts of two thousand tokens and more are attended to at 0.35 to 0.6 of the 16-bit peak. Engines plan a step
#: while the one before runs: a sequence costs some 5 us (METHOD 2).
_ALWAYS = (
    ("layer", 4e-5, 0.15),
    ("prefill_attention", 2.2, 0.3),
    ("sequence", 5e-6, 0.7),
)
#: Large dense products reach 0.4 to 0.65 of the peak in FP8 and 0.3 to 0.45 in NVFP4; the higher the peak is above what a
#: compute unit issues, the less of it, and the rest of a layer's kernels takes its share.
_PRODUCTS = (("prefill_linear", 1.15, 0.3), ("prefill_issue", 4e-5, 0.4), ("prefill_power", 5e-14, 0.6))
#: The fused kernel of few tokens' experts takes 20 to 25 us more than its reading on B200, 27 to 38 on H100 and 36 to 62
#: on A100; the router's some 15, for which the dense layer's own 10 to 15 fall away.
_EXPERTS = (("blackwell", 3e-5), ("hopper", 4e-5), ("ampere", 6e-5))
#: Narrow weights go to matrix units as they are: next to nothing is left to unpack. Experts are read at 0.8 to 0.9 of the
#: sheet's bandwidth on H100 and B200, which takes loads of 40 bytes a cycle and compute unit.
_READING = (("unpack", 4e-3, 0.5), ("fetch", 0.025, 0.4))
_NARROW = (("fp8", "hopper"), ("fp8", "blackwell"), ("nvfp4", "blackwell"))


def _combine() -> tuple[Combination, ...]:
    found: list[Combination] = []
    for runtime, engine in _ENGINES.items():
        for era in ("2025", "since-2026"):
            levels = (
                ("stack", "server"), ("runtime", runtime), ("backend", "cuda"), ("vendor", "nvidia"),
                ("system", "linux"), ("era", era), *engine,
            )  # fmt: skip
            found += [(name, levels, value, width) for name, value, width in _ALWAYS]
            found += [
                ("moe_layer", (*levels, ("generation", generation)), value, 0.4)
                for generation, value in _EXPERTS
            ]
            found += [
                (name, (*levels, ("format", format), ("generation", generation)), value, width)
                for format, generation in _NARROW
                for name, value, width in (*_PRODUCTS, *_READING)
            ]
    return tuple(found)


COMBINATIONS = _combine()
