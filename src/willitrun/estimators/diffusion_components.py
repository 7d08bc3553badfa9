"""A diffusion request as rows: bytes of its components, live activations, and work of its stages."""

from __future__ import annotations

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError, UnsupportedFormatError
from willitrun.estimators.graph_traces import trace_work
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen
from willitrun.kernels.diffusion_memory import component_bytes, largest_layer_range, live_bytes_per_pixel
from willitrun.kernels.operator_work import MATMUL_KINDS, OperatorWork
from willitrun.records.models import DiffusionComponent, DiffusionConfig
from willitrun.records.recipes import Quantization
from willitrun.records.traces import OperatorTrace

__all__ = ["Pipeline", "Stages", "StoredComponent", "pipeline_of", "stages_of"]

_ROLES = ("text-encoder", "denoiser", "vae")


@frozen
class StoredComponent:
    """One network and the bytes that it takes in memory."""

    role: str
    name: str
    parameters: int
    bytes: int
    format: str


@frozen
class Pipeline:
    """What the memory of a pipeline is made of [bytes]; ``pixels`` are those of all frames of an output."""

    components: tuple[StoredComponent, ...]
    pixels: int
    frames: int
    batch: int
    guidance: bool
    element_bytes: int
    denoiser_bytes_per_pixel: float
    vae_bytes_per_pixel: float
    traced: bool
    largest_layer: tuple[int, int, int] | None

    def stored(self, role: str) -> int:
        """Bytes of all components of a role."""
        return sum(part.bytes for part in self.components if part.role == role)

    def held(self, role: str) -> tuple[StoredComponent, ...]:
        """Components that lie on the accelerator together while a role works: of denoisers the largest, by turns."""
        parts = [part for part in self.components if part.role == role]
        return (max(parts, key=lambda part: part.bytes),) if role == "denoiser" else tuple(parts)


@frozen
class Stages:
    """Work of one pass of each stage."""

    encoders: tuple[OperatorWork, ...]
    denoiser: OperatorWork
    decoder: OperatorWork
    steps: int
    scaled_from: int | None


def pipeline_of(request: Request) -> Pipeline:
    """Components and activations of a request.

    Raises
    ------
    MissingDataError
        A component has no sourced size: the sum would be too small.
    UnsupportedFormatError
        No rule gives the bytes of the format.
    """
    config = _complete(request)
    workload = request.workload
    size, frames = _shape(request, config)
    width = 4 if workload.precision in ("fp32", "fp32-strict", "tf32") else 2
    trace = _trace(request.catalog, config, "denoiser", size, frames)
    coefficients = request.catalog.calibrations["memory"].coefficients
    stored = _store(request, config)
    per_pixel = coefficients["diffusion.denoiser_bytes_per_pixel"] * width / 2
    decoded = coefficients["diffusion.vae_bytes_per_pixel"] * width / 2
    pixels = size * size * frames
    if config.frames is not None:
        # Decoders of videos differ by far more than those of images: only their own trace tells what they hold.
        decoder = _trace(request.catalog, config, "vae", size, frames)
        if trace is None or decoder is None:
            raise MissingDataError(
                f"{request.model.name}: no operator trace of its denoiser and decoder; its weights alone take "
                f"{sum(part.bytes for part in stored):,} bytes.",
                hint="Trace them with willitrun.interop.tracing.",
            )
        whole = any(part.role == "vae" and part.precision == "fp32" for part in config.components)
        decoded = float(live_bytes_per_pixel(decoder.peak_elements, pixels, 4 if whole else width))
    layer = None
    if trace is not None:
        per_pixel = float(live_bytes_per_pixel(trace.peak_elements, pixels, width))
        matrices = sum(
            round(row["kernels"]) for name, row in trace.classes.items() if _is_weighted_matrix(name, row)
        )
        low, best, high = largest_layer_range(_of_role(stored, "denoiser"), matrices)
        layer = (int(low), int(best), int(high))
    return Pipeline(
        components=stored,
        pixels=pixels,
        frames=frames,
        batch=workload.batch_size or 1,
        guidance=config.guidance,
        element_bytes=width,
        denoiser_bytes_per_pixel=per_pixel,
        vae_bytes_per_pixel=decoded,
        traced=trace is not None,
        largest_layer=layer,
    )


def stages_of(request: Request) -> Stages | None:
    """Work of the stages, None where the denoiser or the decoder has no trace."""
    config = request.model.diffusion
    assert config is not None
    catalog, workload = request.catalog, request.workload
    size, frames = _shape(request, config)
    trace = _trace(catalog, config, "denoiser", size, frames)
    decoder = _trace(catalog, config, "vae", size, frames)
    encoders = [trace_work(catalog, c.name, 0) for c in config.components if c.role == "text-encoder"]
    if trace is None or decoder is None or any(work is None for work in encoders):
        return None
    denoiser = OperatorWork.from_summary(trace.classes)
    return Stages(
        encoders=tuple(work for work in encoders if work is not None),
        denoiser=denoiser,
        decoder=OperatorWork.from_summary(decoder.classes),
        steps=workload.steps or config.steps or 1,
        scaled_from=trace.scaled_from,
    )


def _complete(request: Request) -> DiffusionConfig:
    model = request.model
    config = model.diffusion
    if config is None:
        raise MissingDataError(f"{model.name}: no source lists its components.")
    gaps = [f.removeprefix("diffusion.components: ") for f in model.flags if "has no sourced size" in f]
    present = {component.role for component in config.components}
    gaps += [f"the {role} is not listed" for role in _ROLES if role not in present and not gaps]
    if gaps:
        raise MissingDataError(
            f"{model.name}: {'; '.join(gaps)}, so its memory would be underestimated.",
            hint="Add the component to the catalog by an overlay.",
        )
    return config


def _shape(request: Request, config: DiffusionConfig) -> tuple[int, int]:
    """Image size [pixels] and frames asked for."""
    workload = request.workload
    return workload.image_size or config.image_size, workload.frames or 1


def _trace(
    catalog: Catalog, config: DiffusionConfig, role: str, size: int, frames: int
) -> OperatorTrace | None:
    """Trace of the first component of a role; denoisers that take turns are alike."""
    name = next((c.name for c in config.components if c.role == role), None)
    return None if name is None else catalog.traces.find(name, size, frames)


def _is_weighted_matrix(name: str, row: dict[str, float]) -> bool:
    return name.partition(".")[0] in MATMUL_KINDS and row["weight_elements"] > 0


def _of_role(stored: tuple[StoredComponent, ...], role: str) -> int:
    return sum(part.bytes for part in stored if part.role == role)


def _store(request: Request, config: DiffusionConfig) -> tuple[StoredComponent, ...]:
    """The denoiser in the format asked for; encoders and VAE stay at 16 bits, or at 32 where everything does.

    ``Runtime(text_encoder_quantization=...)`` stores the text encoders in a format of their own.
    """
    chosen = request.quantization
    assert chosen is not None
    whole = chosen if chosen.kind == "float" else request.catalog.quantizations["bf16"]
    asked = request.runtime.text_encoder_quantization
    formats = {
        "denoiser": chosen,
        "text-encoder": whole if asked is None else request.catalog.resolve("quantization", asked),
    }
    own = request.catalog.quantizations["f32"]
    return tuple(
        _stored(component, own if component.precision == "fp32" else formats.get(component.role, whole))
        for component in config.components
    )


def _stored(component: DiffusionComponent, format: Quantization) -> StoredComponent:
    if format.block_weights is None or format.block_bytes is None:
        raise UnsupportedFormatError(
            f"{format.id} mixes formats by rules for language models; no rule gives the bytes of {component.name}."
        )
    size = component_bytes(component.parameters, format.block_weights, format.block_bytes)
    return StoredComponent(component.role, component.name, component.parameters, int(size), format.id)
