"""Predicted memory against real PyTorch: models with random weights, run here on the CPU in eager mode.

Run ``python -m accuracy.memory.torch_truth`` (``make truth-torch``). Language models and encoders are built by
transformers from a config, and the library describes them by that same config; timm's and diffusers' modules
are predicted from the library's own operator trace on the meta device. What is measured is the peak of live
tensor storage: every storage that an operator makes is counted until it is freed.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from accuracy.vision.trace_timm import stand_in_for_torchvision

__all__ = ["Measured", "main", "measure"]

OWED_MEDIAN = 0.06
"""METHOD's figure for the peak of transformers; the run fails above it."""


@dataclass(frozen=True)
class Measured:
    """One run: bytes by part as predicted and as counted."""

    name: str
    part: str
    predicted_bytes: int
    counted_bytes: int

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted_bytes / self.counted_bytes - 1


def measure(run: Callable[[], Any]) -> tuple[int, Any]:
    """Peak bytes of the storages that operators make while ``run`` runs, and its result."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Counter(TorchDispatchMode):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.live: dict[int, int] = {}
            self.now = self.peak = 0

        def free(self, key: int) -> None:
            self.now -= self.live.pop(key, 0)

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            before = {
                leaf.untyped_storage()._cdata
                for leaf in tree_leaves((args, kwargs))
                if hasattr(leaf, "untyped_storage")
            }
            output = func(*args, **(kwargs or {}))
            for leaf in tree_leaves(output):
                if not hasattr(leaf, "untyped_storage"):
                    continue
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key in before or key in self.live:
                    continue
                self.live[key] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self.free, key)
            self.peak = max(self.peak, self.now)
            return output

    counter = Counter()
    with counter:
        result = run()
    return counter.peak, result


def _configs() -> Iterator[tuple[str, Any, dict[str, Any], int, int]]:
    """Name, config class, its fields, sequences, prompt tokens."""
    import transformers as hf

    base: dict[str, Any] = {
        "hidden_size": 768,
        "num_hidden_layers": 8,
        "num_attention_heads": 12,
        "vocab_size": 32000,
    }
    base |= {"max_position_embeddings": 4096}
    gated = base | {"intermediate_size": 2048, "num_key_value_heads": 4}
    yield "llama, grouped", hf.LlamaConfig, gated, 4, 512
    yield "llama, one sequence", hf.LlamaConfig, gated | {"vocab_size": 128256}, 1, 1024
    yield "qwen3, tied", hf.Qwen3Config, gated | {"head_dim": 64, "tie_word_embeddings": True}, 2, 512
    yield "mistral, no window", hf.MistralConfig, gated | {"sliding_window": None}, 2, 768
    yield "phi3, fused projections", hf.Phi3Config, gated | {"pad_token_id": 0}, 2, 512
    yield "gpt2", hf.GPT2Config, {"n_embd": 768, "n_layer": 8, "n_head": 12, "vocab_size": 32000}, 2, 512
    yield "olmo2, post-norms", hf.Olmo2Config, gated, 2, 512
    mixed = gated | {
        "moe_intermediate_size": 512,
        "num_experts": 16,
        "num_experts_per_tok": 4,
        "head_dim": 64,
    }
    yield "qwen3_moe", hf.Qwen3MoeConfig, mixed, 2, 512
    yield "bert", hf.BertConfig, base | {"intermediate_size": 3072, "max_position_embeddings": 512}, 8, 512
    yield (
        "roberta",
        hf.RobertaConfig,
        # One token type, as RoBERTa's published configs say.
        base | {"intermediate_size": 3072, "max_position_embeddings": 514, "type_vocab_size": 1},
        8,
        500,
    )


ENCODERS = ("bert", "roberta")


def language(threads: int) -> Iterator[Measured]:
    """Weights, cache and peak of one forward pass over a prompt."""
    import torch
    import transformers as hf

    from willitrun import Runtime, Workload, describe_machine, describe_model, estimate_memory

    torch.set_num_threads(threads)
    machine = describe_machine("a100-sxm4-80gb")
    for name, kind, fields, sequences, prompt in _configs():
        config = kind(**fields)
        encoder = config.model_type in ENCODERS
        builder = hf.AutoModel if encoder else hf.AutoModelForCausalLM
        with torch.device("cpu"):
            # Texts are embedded from hidden states: no pooler.
            extra = {"add_pooling_layer": False} if encoder else {}
            model = builder.from_config(
                config, dtype=torch.bfloat16, attn_implementation="sdpa", **extra
            ).eval()
        load = {"batch_size": sequences} if encoder else {"concurrency": sequences, "output_tokens": 1}
        # `architectures` says what the class is; a bare config would be taken for its family's usual head.
        mapping = config.to_dict() | {"architectures": [type(model).__name__]}
        said = estimate_memory(
            describe_model(mapping),
            machine,
            Workload(prompt_tokens=prompt, context_tokens=None if encoder else prompt + 1, **load),
            quantization="bf16",
            runtime=Runtime(name="transformers"),
        )
        held = {p.untyped_storage()._cdata: p.untyped_storage().nbytes() for p in model.parameters()}
        yield Measured(name, "weights", round(said.weights_bytes.best), sum(held.values()))
        tokens = torch.randint(0, 1000, (sequences, prompt))
        kwargs = {} if encoder else {"use_cache": True, "logits_to_keep": 1}
        with torch.no_grad():
            peak, _ = measure(lambda: model(tokens, **kwargs))  # noqa: B023
        parts = said.kv_cache_bytes.best + said.state_bytes.best + said.activation_bytes.best
        whole = sum(held.values())
        yield Measured(name, "peak", round(said.weights_bytes.best + parts), whole + peak)
        yield Measured(name, "cache and activations", round(parts), peak)


def towers(threads: int) -> Iterator[Measured]:
    """Peak of image encoders over two pictures, in bf16."""
    import torch
    import transformers as hf
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

    from willitrun.estimators.inventory_vision import tower_copies, tower_width
    from willitrun.kernels.activations import image_encoder_peak
    from willitrun.records.models import VisionTower

    torch.set_num_threads(threads)
    plain = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 4, "num_attention_heads": 12}
    qwen = {"hidden_size": 768, "depth": 4, "num_heads": 12, "out_hidden_size": 2048}

    def pixels(side: int) -> Any:
        return torch.randn(2, 3, side, side, dtype=torch.bfloat16)

    def patches(patch: int) -> Any:
        return torch.randn(2 * 1024, 3 * 2 * patch * patch, dtype=torch.bfloat16)

    grid = torch.tensor([[1, 32, 32]] * 2)
    cases: list[tuple[str, int, int, Any, Any, dict[str, Any]]] = [
        ("siglip_vision_model", 3072, 1024,
         hf.SiglipVisionModel(hf.SiglipVisionConfig(**plain, image_size=448, patch_size=14)), pixels(448), {}),
        ("clip_vision_model", 3072, 576,
         hf.CLIPVisionModel(hf.CLIPVisionConfig(**plain, image_size=336, patch_size=14)), pixels(336), {}),
        ("qwen2_5_vl", 2048, 1024,
         Qwen2_5_VisionTransformerPretrainedModel(
             Qwen2_5_VLVisionConfig(**qwen, intermediate_size=2048, fullatt_block_indexes=[1, 3])),
         patches(14), {"grid_thw": grid}),
        ("qwen3_vl", 3072, 1024,
         Qwen3VLVisionModel(
             Qwen3VLVisionConfig(**qwen, intermediate_size=3072, deepstack_visual_indexes=[1, 2], patch_size=16)),
         patches(16), {"grid_thw": grid}),
        ("pixtral", 2048, 1024,
         hf.PixtralVisionModel(
             hf.PixtralVisionConfig(**(plain | {"intermediate_size": 2048}), image_size=448, patch_size=14)),
         pixels(448), {"image_sizes": torch.tensor([[448, 448]] * 2)}),
    ]  # fmt: skip
    for kind, inner, each, module, given, kwargs in cases:
        tower = VisionTower(model_type=kind, hidden_size=768, intermediate_size=inner, num_attention_heads=12)
        said = image_encoder_peak(
            each,
            images=2,
            hidden=768,
            held_width=tower_width(tower),
            attention_copies=tower_copies(tower),
            heads=12,
        ).item()
        module = module.to(torch.bfloat16).eval()
        with torch.no_grad():
            peak, _ = measure(lambda: module(given, **kwargs))  # noqa: B023
        yield Measured(f"image encoder {kind}", "image encoder", said, peak)


def _modules() -> Iterator[
    tuple[str, Callable[[], Any], Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]]
]:
    import timm
    import torch
    from diffusers import AutoencoderKL, PixArtTransformer2DModel, UNet2DConditionModel

    def image(size: int) -> Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]:
        return lambda: ((torch.randn(1, 3, size, size),), {})

    for arch in ("resnet50", "vit_base_patch16_224", "convnext_tiny", "efficientnet_b0", "swin_tiny_patch4_window7_224",
                 "mobilenetv3_large_100", "regnety_032"):  # fmt: skip
        yield f"timm {arch}", lambda arch=arch: timm.create_model(arch, pretrained=False), image(224)
    small = {"block_out_channels": (160, 320, 640, 640), "cross_attention_dim": 768, "attention_head_dim": 8}
    yield (
        "diffusers UNet, 256 px",
        lambda: UNet2DConditionModel(sample_size=32, **small),
        lambda: ((torch.randn(1, 4, 32, 32), torch.tensor(1.0), torch.randn(1, 77, 768)), {}),
    )
    yield (
        "diffusers DiT, 512 px",
        lambda: PixArtTransformer2DModel(
            num_attention_heads=8, attention_head_dim=72, in_channels=4, out_channels=8, num_layers=6,
            cross_attention_dim=576, attention_bias=True, sample_size=64, patch_size=2,
            activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_single",
            norm_elementwise_affine=False, caption_channels=512, use_additional_conditions=False,
        ),
        lambda: (
            (),
            {
                "hidden_states": torch.randn(1, 4, 64, 64),
                "encoder_hidden_states": torch.randn(1, 120, 512),
                "timestep": torch.tensor([1.0]),
                "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
            },
        ),
    )  # fmt: skip
    decoder = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}

    class Decoder(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.vae = AutoencoderKL(**decoder, **blocks)

        def forward(self, latent: Any) -> Any:
            return self.vae.decode(latent).sample

    yield "diffusers VAE decode, 256 px", Decoder, lambda: ((torch.randn(1, 4, 32, 32),), {})


def graphs(threads: int) -> Iterator[Measured]:
    """Live activations of pictures' models, traced on meta and counted on the CPU, in fp32."""
    stand_in_for_torchvision()
    import torch

    from willitrun.interop.tracing import trace_module
    from willitrun.kernels.activations import vision_peak

    torch.set_num_threads(threads)
    for name, build, inputs in _modules():
        args, kwargs = inputs()
        with torch.device("meta"):
            traced = trace_module(build(), *args, **kwargs)
        model = build().eval()
        predicted = vision_peak(traced.peak_elements, batch=1, element_bytes=4).item()
        with torch.no_grad():
            peak, _ = measure(lambda: model(*args, **kwargs))  # noqa: B023
        # The trace holds its inputs as live; here they were made before counting began.
        given = sum(
            leaf.numel() * leaf.element_size() for leaf in (*args, *kwargs.values()) if hasattr(leaf, "numel")
        )
        yield Measured(name, "activations", predicted, peak + given)


def main() -> None:
    """Print the table; fail where the median of the peaks misses what METHOD owes."""
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    rows = [*language(arguments.threads), *towers(arguments.threads), *graphs(arguments.threads)]
    print("| model | part | predicted | counted | error |\n|---|---|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.name} | {row.part} | {row.predicted_bytes / 2**20:.1f} MiB | {row.counted_bytes / 2**20:.1f} MiB "
            f"| {100 * row.error:+.1f} % |"
        )
    failed = False
    for part in ("weights", "peak", "cache and activations", "image encoder", "activations"):
        errors = np.abs([row.error for row in rows if row.part == part])
        print(
            f"{part}: n = {len(errors)}, median {100 * np.median(errors):.1f} %, worst {100 * errors.max():.1f} %"
        )
        failed |= part in ("peak", "image encoder", "activations") and float(np.median(errors)) > OWED_MEDIAN
        failed |= part == "weights" and float(errors.max()) > 0
    if failed:
        raise SystemExit(f"truth: a median above {100 * OWED_MEDIAN:.0f} %, or weights that are not exact")


if __name__ == "__main__":
    main()
