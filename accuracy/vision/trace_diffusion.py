"""Write operator traces of diffusion denoisers, decoders and text encoders to ``catalogs/traces/diffusion*.csv``.

Usage: ``python -m accuracy.vision.trace_diffusion``; needs torch, diffusers and transformers (any CPU build).
Every architecture is built from the published configuration on the meta device; one call at batch 1, so
classifier-free guidance is two of them. Configuration values are those of each repository's ``config.json``.
"""

from __future__ import annotations

import warnings
from typing import Any

from accuracy.vision.trace_tables import COUNTS, class_rows, counts, write_tables
from accuracy.vision.trace_transformers import Built, Case, newer_cases

MODEL_COLUMNS = ("arch", "part", "image_size", "text_tokens", *COUNTS, "source", "tool")
HUB = "https://huggingface.co/"
T5_XXL: dict[str, Any] = {
    "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
"""Widths of T5 v1.1 XXL, which its multilingual relatives share."""


def _unet(size: int, context: int, tokens: int, *, xl: bool = False, linear: bool = False) -> Built:
    import torch
    from diffusers import UNet2DConditionModel

    kwargs: dict[str, Any] = {"sample_size": size // 8, "cross_attention_dim": context}
    named: dict[str, Any] = {}
    if xl:
        kwargs |= {
            "attention_head_dim": [5, 10, 20], "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        }  # fmt: skip
        named["added_cond_kwargs"] = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
    else:
        kwargs["attention_head_dim"] = [5, 10, 20, 20] if linear else 8
        kwargs["use_linear_projection"] = linear
    model = UNet2DConditionModel(**kwargs)
    return (
        model,
        (torch.empty(1, 4, size // 8, size // 8), torch.tensor(1.0), torch.empty(1, tokens, context)),
        named,
    )


def _sd3(
    size: int, layers: int, heads: int, dual: tuple[int, ...], positions: int, norm: str | None
) -> Built:
    import torch
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, num_layers=layers, attention_head_dim=64,
        num_attention_heads=heads, joint_attention_dim=4096, caption_projection_dim=64 * heads,
        pooled_projection_dim=2048, out_channels=16, pos_embed_max_size=positions, dual_attention_layers=dual,
        qk_norm=norm,
    )  # fmt: skip
    named = {
        "hidden_states": torch.empty(1, 16, size // 8, size // 8), "encoder_hidden_states": torch.empty(1, 333, 4096),
        "pooled_projections": torch.empty(1, 2048), "timestep": torch.empty(1),
    }  # fmt: skip
    return model, (), named


def _flux(size: int, tokens: int) -> Built:
    import torch
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=19, num_single_layers=38, attention_head_dim=128,
        num_attention_heads=24, joint_attention_dim=4096, pooled_projection_dim=768, guidance_embeds=True,
    )  # fmt: skip
    pixels = (size // 16) ** 2
    named = {
        "hidden_states": torch.empty(1, pixels, 64), "encoder_hidden_states": torch.empty(1, tokens, 4096),
        "pooled_projections": torch.empty(1, 768), "timestep": torch.empty(1), "guidance": torch.empty(1),
        "img_ids": torch.empty(pixels, 3), "txt_ids": torch.empty(tokens, 3),
    }  # fmt: skip
    return model, (), named


def _pixart(size: int) -> Built:
    import torch
    from diffusers import PixArtTransformer2DModel

    model = PixArtTransformer2DModel(
        num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8, num_layers=28,
        cross_attention_dim=1152, attention_bias=True, sample_size=size // 8, patch_size=2,
        activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_single",
        norm_elementwise_affine=False, caption_channels=4096,
    )  # fmt: skip
    named = {
        "hidden_states": torch.empty(1, 4, size // 8, size // 8), "encoder_hidden_states": torch.empty(1, 120, 4096),
        "timestep": torch.empty(1),
        "added_cond_kwargs": {"resolution": torch.empty(1, 2), "aspect_ratio": torch.empty(1, 1)},
    }  # fmt: skip
    return model, (), named


def _vae(size: int, latent: int) -> Built:
    import torch
    from diffusers import AutoencoderKL

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            vae = AutoencoderKL(
                latent_channels=latent, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                use_post_quant_conv=latent == 4, use_quant_conv=latent == 4,
            )  # fmt: skip
            self.decoder = vae.decoder

        def forward(self, latents: Any) -> Any:
            return self.decoder(latents)

    return Decoder(), (torch.empty(1, latent, size // 8, size // 8),), {}


def _clip(width: int, layers: int, heads: int) -> Built:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
        projection_dim=width, attn_implementation="sdpa",
    )  # fmt: skip
    return CLIPTextModel(config), (torch.zeros(1, 77, dtype=torch.long),), {}


def _t5(tokens: int) -> Built:
    import torch
    from transformers import T5Config, T5EncoderModel

    return (
        T5EncoderModel(T5Config(**T5_XXL, vocab_size=32128)),
        (torch.zeros(1, tokens, dtype=torch.long),),
        {},
    )


def cases() -> list[Case]:
    """Architectures with part, image size, text tokens, source of the configuration and builder."""
    sd15 = HUB + "stable-diffusion-v1-5/stable-diffusion-v1-5/blob/main/unet/config.json"
    sd21 = HUB + "stabilityai/stable-diffusion-2-1/blob/main/unet/config.json"
    sdxl = HUB + "stabilityai/stable-diffusion-xl-base-1.0/blob/main/"
    sd3 = HUB + "stabilityai/stable-diffusion-3-medium-diffusers/blob/main/transformer/config.json"
    sd35 = HUB + "stabilityai/stable-diffusion-3.5-large/blob/main/transformer/config.json"
    flux = HUB + "black-forest-labs/FLUX.1-dev/blob/main/"
    pixart = HUB + "PixArt-alpha/PixArt-XL-2-1024-MS/blob/main/transformer/config.json"
    medium = HUB + "stabilityai/stable-diffusion-3.5-medium/blob/main/transformer/config.json"
    found: list[Case] = list(newer_cases())
    for size in (512, 768, 1024):
        found.append(("sd-v1-5", "denoiser", size, 77, sd15, lambda s=size: _unet(s, 768, 77)))
        found.append(("sd-v2-1", "denoiser", size, 77, sd21, lambda s=size: _unet(s, 1024, 77, linear=True)))
        found.append(
            (
                "sdxl-base",
                "denoiser",
                size,
                77,
                sdxl + "unet/config.json",
                lambda s=size: _unet(s, 2048, 77, xl=True),
            )
        )
        found.append(
            ("sd3-medium", "denoiser", size, 333, sd3, lambda s=size: _sd3(s, 24, 24, (), 192, None))
        )
        found.append(
            ("sd3.5-large", "denoiser", size, 333, sd35, lambda s=size: _sd3(s, 38, 38, (), 192, "rms_norm"))
        )
        found.append(
            (
                "sd3.5-medium",
                "denoiser",
                size,
                333,
                medium,
                lambda s=size: _sd3(s, 24, 24, tuple(range(13)), 384, "rms_norm"),
            )
        )
        found.append(
            (
                "flux.1-dev",
                "denoiser",
                size,
                512,
                flux + "transformer/config.json",
                lambda s=size: _flux(s, 512),
            )
        )
        found.append(("vae-4", "decoder", size, 0, sdxl + "vae/config.json", lambda s=size: _vae(s, 4)))
        found.append(("vae-16", "decoder", size, 0, flux + "vae/config.json", lambda s=size: _vae(s, 16)))
    found.append(("pixart-alpha-1024", "denoiser", 1024, 120, pixart, lambda: _pixart(1024)))
    found.append(
        ("clip-l", "text-encoder", 0, 77, flux + "text_encoder/config.json", lambda: _clip(768, 12, 12))
    )
    found.append(("clip-h", "text-encoder", 0, 77, sd21, lambda: _clip(1024, 23, 16)))
    found.append(
        ("clip-bigg", "text-encoder", 0, 77, sdxl + "text_encoder_2/config.json", lambda: _clip(1280, 32, 20))
    )
    for tokens in (120, 256, 512):
        found += [
            (
                "t5-xxl",
                "text-encoder",
                0,
                tokens,
                flux + "text_encoder_2/config.json",
                lambda t=tokens: _t5(t),
            )
        ]
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    import diffusers
    import torch

    from willitrun.interop.tracing import trace_module

    heads, table = [], []
    for arch, part, size, tokens, source, builder in cases():
        with torch.device("meta"):
            model, args, named = builder()
        result = trace_module(model, *args, **named)
        name = f"{arch}-{tokens}" if arch == "t5-xxl" else arch
        key = {"arch": name, "image_size": size}
        heads.append({
            **key, "part": part, "text_tokens": tokens, **counts(result), "source": source,
            "tool": f"diffusers {diffusers.__version__}",
        })  # fmt: skip
        print(name, size, result.parameters, f"{result.macs * 2e-12:.4f} TFLOP", result.n_ops, flush=True)
        table += class_rows(result, key)
    write_tables("diffusion", MODEL_COLUMNS, heads, table)


if __name__ == "__main__":
    main()
