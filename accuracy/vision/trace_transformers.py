"""Networks of pipelines since 2025, for `accuracy.vision.trace_diffusion`: their classes' defaults are the published configuration.

That they are is held by their parameters, which are those of the catalog's records to the last one. Prompts fill `PROMPT`
tokens where a pipeline passes on as many as there are, and its whole window where it pads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from willitrun import load_catalog

__all__ = ["Built", "Case", "newer_cases"]

Built = tuple[Any, tuple[Any, ...], dict[str, Any]]
"""A module with the arguments of one call."""
Case = tuple[str, str, int, int, str, Callable[[], Built]]
"""Architecture, part, image size, text tokens, source of the configuration, and builder."""

DIFFUSERS = "https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/models/"
TRANSFORMERS = "https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/"
PROMPT = 128
"""Tokens of a prompt with its template: a paragraph."""
SIZES = (512, 768, 1024)


def _qwen_image(size: int, pictures: int) -> Built:
    import torch
    from diffusers import QwenImageTransformer2DModel

    side = size // 16
    named = {
        # A picture to edit lies beside the one that is made, patch by patch.
        "hidden_states": torch.empty(1, pictures * side * side, 64),
        "encoder_hidden_states": torch.empty(1, PROMPT, 3584),
        "timestep": torch.empty(1),
        "img_shapes": [[(1, side, side)] * pictures],
    }
    return QwenImageTransformer2DModel(), (), named


def _z_image(size: int) -> Built:
    import torch
    from diffusers import ZImageTransformer2DModel

    latents = [torch.empty(16, 1, size // 8, size // 8)]
    return ZImageTransformer2DModel(), (latents, torch.empty(1), [torch.empty(PROMPT, 2560)]), {}


def _chroma(size: int) -> Built:
    import torch
    from diffusers import ChromaTransformer2DModel

    patches = (size // 16) ** 2
    named = {
        "hidden_states": torch.empty(1, patches, 64), "encoder_hidden_states": torch.empty(1, 512, 4096),
        "timestep": torch.empty(1), "img_ids": torch.empty(patches, 3), "txt_ids": torch.empty(512, 3),
        "attention_mask": torch.empty(1, 512 + patches),
    }  # fmt: skip
    return ChromaTransformer2DModel(), (), named


def _flux2(size: int) -> Built:
    import torch
    from diffusers import Flux2Transformer2DModel

    patches = (size // 16) ** 2
    named = {
        "hidden_states": torch.empty(1, patches, 128), "encoder_hidden_states": torch.empty(1, 512, 15360),
        "timestep": torch.empty(1), "guidance": torch.empty(1), "img_ids": torch.empty(patches, 4),
        "txt_ids": torch.empty(512, 4),
    }  # fmt: skip
    return Flux2Transformer2DModel(), (), named


def _refiner(size: int) -> Built:
    import torch
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=128, block_out_channels=(384, 768, 1536, 1536), cross_attention_dim=1280,
        attention_head_dim=[6, 12, 24, 24], transformer_layers_per_block=4, use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2560,
    )  # fmt: skip
    added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 5)}
    call = (torch.empty(1, 4, size // 8, size // 8), torch.tensor(1.0), torch.empty(1, 77, 1280))
    return model, call, {"added_cond_kwargs": added}


def _decoder(vae: str, latents: tuple[int, ...]) -> Built:
    import diffusers
    import torch

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vae = getattr(diffusers, vae)()

        def forward(self, latents: Any) -> Any:
            return self.vae.decode(latents, return_dict=False)[0]

    return Decoder(), (torch.empty(1, *latents),), {}


def _language(model: str, kind: str, tokens: int) -> Built:
    """The language model whose hidden states a denoiser reads, as its record describes it."""
    import torch
    import transformers

    config = load_catalog().models[model].transformer
    assert config is not None
    fields = {
        name: getattr(config, name)
        for name in (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
        )
    }  # fmt: skip
    built = getattr(transformers, f"{kind}Config")(**fields, attn_implementation="sdpa")
    network = getattr(transformers, f"{kind}Model")(built)
    # With a mask of its own a model looks for none, which needs values.
    mask = torch.zeros(1, 1, tokens, tokens)
    return network, (torch.zeros(1, tokens, dtype=torch.long),), {"attention_mask": mask, "use_cache": False}


def newer_cases() -> Iterator[Case]:
    """Denoisers and decoders at each size, and the language models that read their prompts."""
    networks = DIFFUSERS + "transformers/transformer_"
    refiner = "https://huggingface.co/stabilityai/stable-diffusion-xl-refiner-1.0/blob/main/unet/config.json"
    for size in SIZES:
        qwen, latent = networks + "qwenimage.py", (size // 8, size // 8)
        yield "qwen-image", "denoiser", size, PROMPT, qwen, lambda s=size: _qwen_image(s, 1)
        yield "qwen-image-edit", "denoiser", size, PROMPT, qwen, lambda s=size: _qwen_image(s, 2)
        yield "z-image", "denoiser", size, PROMPT, networks + "z_image.py", lambda s=size: _z_image(s)
        yield "chroma", "denoiser", size, 512, networks + "chroma.py", lambda s=size: _chroma(s)
        yield "flux.2-dev", "denoiser", size, 512, networks + "flux2.py", lambda s=size: _flux2(s)
        yield "sdxl-refiner", "denoiser", size, 77, refiner, lambda s=size: _refiner(s)
        for name, vae, shape in (
            ("vae-qwen-image", "AutoencoderKLQwenImage", (16, 1, *latent)),
            ("vae-flux.2", "AutoencoderKLFlux2", (32, *latent)),
        ):
            source = f"{DIFFUSERS}autoencoders/autoencoder_kl_{'qwenimage' if 'qwen' in name else 'flux2'}.py"
            yield name, "decoder", size, 0, source, lambda v=vae, s=shape: _decoder(v, s)
    for name, model, kind, folder, tokens in (
        ("qwen3-4b", "qwen3-4b", "Qwen3", "qwen3/modeling_qwen3.py", 512),
        ("qwen2.5-vl-7b", "qwen2.5-vl-7b", "Qwen2", "qwen2/modeling_qwen2.py", PROMPT),
        (
            "mistral-small-3.x-24b",
            "mistral-small-3.1-24b-2503",
            "Mistral",
            "mistral/modeling_mistral.py",
            512,
        ),
    ):
        yield (
            name, "text-encoder", 0, tokens, TRANSFORMERS + folder,
            lambda m=model, k=kind, t=tokens: _language(m, k, t),
        )  # fmt: skip
