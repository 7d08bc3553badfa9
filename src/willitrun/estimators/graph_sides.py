"""Networks, devices and passes as rows of numbers, and the block where they meet: one row of each, or a grid."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.estimators.datasets import decode_rate
from willitrun.estimators.graph_rates import PRECISION_BYTES, graph_coefficients
from willitrun.estimators.graph_totals import TOTALS, totals_peak
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.overheads import allocator_slack, runtime_overhead
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen
from willitrun.kernels.columns import Columns
from willitrun.kernels.graph_block import GraphBlock, GraphMemory, assess_graphs, graph_load
from willitrun.kernels.operator_inputs import PROFILES, DeviceRates
from willitrun.kernels.operator_work import OperatorWork
from willitrun.records.recipes import Workload
from willitrun.records.traces import OperatorTrace

__all__ = [
    "DeviceRow",
    "NetworkRow",
    "PassRow",
    "device_row",
    "meet",
    "network_row",
    "pass_row",
    "stack_rates",
]


@frozen
class NetworkRow:
    """A network at one image size, as a runtime keeps it in memory."""

    parameters: int
    buffers: int
    peak_elements: int
    peak_autocast_bytes: int
    image_size: int
    peak_low: float
    activation_high_share: float
    from_totals: bool


@frozen
class DeviceRow:
    """The device that a request runs on: room, what the runtime itself takes, and how fast images come."""

    available: int
    host_available: int
    unified: bool
    overhead_low: int
    overhead: int
    overhead_high: int
    decode_images_per_s: float


@frozen
class PassRow:
    """One pass: how many images in which precision, executed how."""

    batch: int
    profile: int
    act_bytes: int
    wide_bytes: int
    weight_bytes: int
    autocast: bool


def network_row(request: Request, trace: OperatorTrace) -> NetworkRow:
    """The row of the request's network."""
    from_totals = trace.tool == TOTALS
    low, spread = totals_peak(request.catalog) if from_totals else (1.0, 1.0)
    return NetworkRow(
        parameters=trace.parameters,
        buffers=trace.buffers,
        peak_elements=trace.peak_elements,
        peak_autocast_bytes=trace.peak_autocast_bytes,
        image_size=trace.image_size,
        peak_low=low,
        activation_high_share=(1.0 + allocator_slack(request)[1]) * spread - 1.0,
        from_totals=from_totals,
    )


def device_row(request: Request, view: MachineView) -> DeviceRow:
    """The row of the device that the request runs on, whatever the network."""
    low, best, high = runtime_overhead(request, host=view.row.on_host)
    return DeviceRow(
        available=max(view.available),
        host_available=view.row.host_available,
        unified=view.row.unified,
        overhead_low=low,
        overhead=best,
        overhead_high=high,
        decode_images_per_s=decode_rate(request),
    )


def pass_row(load: Workload, profile: str) -> PassRow:
    """The row of a complete workload, executed as a profile says."""
    precision = load.precision or "fp32"
    act, wide, weight = PRECISION_BYTES[precision]
    return PassRow(
        load.batch_size or 1, PROFILES.index(profile), act, wide, weight, precision.startswith("amp")
    )


def stack_rates(rates: list[DeviceRates]) -> DeviceRates:
    """Rates of single devices as one line."""
    return DeviceRates(
        *(np.concatenate([getattr(one, field.name) for one in rates]) for field in fields(DeviceRates))
    )


def meet(
    networks: Columns,
    work: OperatorWork,
    devices: Columns,
    rates: DeviceRates,
    passes: Columns,
    log_residual: NDArray[np.float64],
    catalog: Catalog,
) -> GraphBlock:
    """Judge networks on devices under passes: lines of rows, or sides of a grid that broadcast."""
    memory = GraphMemory(
        parameters=networks["parameters"],
        buffers=networks["buffers"],
        weight_bytes=passes["weight_bytes"],
        activation_bytes=passes["act_bytes"],
        peak_elements=networks["peak_elements"],
        peak_autocast_bytes=networks["peak_autocast_bytes"],
        autocast=passes["autocast"],
        batch=passes["batch"],
        overhead=devices["overhead"],
        overhead_low=devices["overhead_low"],
        overhead_high=devices["overhead_high"],
        peak_low=networks["peak_low"],
        activation_high_share=networks["activation_high_share"],
    )
    load = graph_load(
        batch=passes["batch"],
        profile=passes["profile"],
        act_bytes=passes["act_bytes"],
        wide_bytes=passes["wide_bytes"],
        weight_bytes=passes["weight_bytes"],
        autocast=passes["autocast"],
        image_size=networks["image_size"],
        decode_images_per_s=devices["decode_images_per_s"],
        log_residual=log_residual,
    )
    return assess_graphs(
        memory,
        devices["available"],
        devices["host_available"],
        devices["unified"],
        work,
        rates,
        load,
        graph_coefficients(catalog),
    )
