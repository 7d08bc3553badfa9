"""A diffusion request as rows: bytes of its components, live activations, and work of its stages."""

from __future__ import annotations

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError, UnsupportedFormatError
from willitrun.estimators.graph_rates import trace_work
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen
from willitrun.kernels.diffusion_memory import component_bytes, largest_layer_range, live_bytes_per_pixel
from willitrun.kernels.operator_work import MATMUL_KINDS, OperatorWork
from willitrun.records.models import DiffusionComponent, DiffusionConfig
from willitrun.records.recipes import Quantization
from willitrun.records.traces import OperatorTrace

__all__ = ["Pipeline", "Stages", "StoredComponent", "pipeline_of", "stages_of"]

_ROLES = ("text-encoder", "denoiser", "vae")
_HALF = ("f16", "bf16")


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
    """What the memory of a pipeline is made of [bytes]."""

    components: tuple[StoredComponent, ...]
    pixels: int
    batch: int
    guidance: bool
    element_bytes: int
    denoiser_bytes_per_pixel: float
    traced: bool
    largest_layer: tuple[int, int, int] | None

    def stored(self, role: str) -> int:
        """Bytes of all components of a role."""
        return sum(part.bytes for part in self.components if part.role == role)


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
    if workload.frames is not None and workload.frames > 1:
        raise MissingDataError(
            f"{request.model.name}: activations of video decoders are not modelled; its weights alone take "
            f"{sum(part.bytes for part in _store(request, config)):,} bytes.",
            hint="Ask for one frame, or for an image model.",
        )
    size = workload.image_size or config.image_size
    width = 4 if workload.precision in ("fp32", "fp32-strict", "tf32") else 2
    trace = _denoiser_trace(request.catalog, config, size)
    coefficients = request.catalog.calibrations["memory"].coefficients
    stored = _store(request, config)
    per_pixel = coefficients["diffusion.denoiser_bytes_per_pixel"] * width / 2
    layer = None
    if trace is not None:
        per_pixel = float(live_bytes_per_pixel(trace.peak_elements, size, width))
        matrices = sum(
            round(row["kernels"]) for name, row in trace.classes.items() if _is_weighted_matrix(name, row)
        )
        low, best, high = largest_layer_range(_of_role(stored, "denoiser"), matrices)
        layer = (int(low), int(best), int(high))
    return Pipeline(
        components=stored,
        pixels=size * size,
        batch=workload.batch_size or 1,
        guidance=config.guidance,
        element_bytes=width,
        denoiser_bytes_per_pixel=per_pixel,
        traced=trace is not None,
        largest_layer=layer,
    )


def stages_of(request: Request) -> Stages | None:
    """Work of the stages, None where the denoiser or the decoder has no trace."""
    config = request.model.diffusion
    assert config is not None
    catalog, workload = request.catalog, request.workload
    size = workload.image_size or config.image_size
    trace = _denoiser_trace(catalog, config, size)
    decoder = next((trace_work(catalog, c.name, size) for c in config.components if c.role == "vae"), None)
    encoders = [trace_work(catalog, c.name, 0) for c in config.components if c.role == "text-encoder"]
    if trace is None or decoder is None or any(work is None for work in encoders):
        return None
    denoiser = OperatorWork.from_summary(trace.classes)
    return Stages(
        encoders=tuple(work for work in encoders if work is not None),
        denoiser=denoiser,
        decoder=decoder,
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


def _denoiser_trace(catalog: Catalog, config: DiffusionConfig, size: int) -> OperatorTrace | None:
    name = next(c.name for c in config.components if c.role == "denoiser")
    return catalog.traces.find(name, size)


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
    return tuple(_stored(component, formats.get(component.role, whole)) for component in config.components)


def _stored(component: DiffusionComponent, format: Quantization) -> StoredComponent:
    if format.block_weights is None or format.block_bytes is None:
        raise UnsupportedFormatError(
            f"{format.id} mixes formats by rules for language models; no rule gives the bytes of {component.name}."
        )
    size = component_bytes(component.parameters, format.block_weights, format.block_bytes)
    return StoredComponent(component.role, component.name, component.parameters, int(size), format.id)
