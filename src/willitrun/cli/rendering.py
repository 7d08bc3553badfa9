"""Results as text for a terminal: one clear sentence first, then tables."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from willitrun.checkups import DoctorReport
from willitrun.intervals import Interval
from willitrun.records.explanations import Explanation
from willitrun.records.machines import Machine
from willitrun.records.presentation import format_field, format_interval
from willitrun.records.results import MemoryEstimate, SpeedEstimate, Verdict
from willitrun.units import format_bytes, format_rate

__all__ = [
    "console",
    "render_doctor",
    "render_explanation",
    "render_machine",
    "render_verdict",
    "report_error",
]

_COLOURS = {
    "comfortable": "green",
    "tight": "yellow",
    "offload": "yellow",
    "will-not-run": "red",
    "unknown": "magenta",
}
_LABELS = {
    "weights_bytes": "weights",
    "kv_cache_bytes": "KV cache",
    "state_bytes": "recurrent state",
    "activation_bytes": "activations, compute buffers",
    "gradient_bytes": "gradients",
    "optimizer_bytes": "optimizer states",
    "overhead_bytes": "runtime overhead",
    "total_bytes": "total on the accelerator",
    "host_bytes": "in host memory",
    "disk_bytes": "on disk",
    "decode_tokens_per_s": "decode",
    "prefill_tokens_per_s": "prefill",
    "time_to_first_token_s": "time to first token",
    "time_per_output_token_s": "time per output token, with prompts in between",
    "throughput_tokens_per_s": "throughput, all sequences",
    "images_per_s": "images",
    "seconds_per_image": "per image or video",
    "iterations_per_s": "denoiser iterations",
    "real_time_factor": "audio seconds per second",
    "training_step_s": "training step",
    "samples_per_s": "samples",
    "energy_j_per_unit": "energy per token, image or second",
}


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    return table


def _quantities(title: str, estimate: MemoryEstimate | SpeedEstimate) -> Table:
    table = _table(title)
    for name, label in _LABELS.items():
        value = getattr(estimate, name, None)
        if name == "time_per_output_token_s" and not _interrupted(estimate):
            continue
        if isinstance(value, Interval) and value.high > 0:
            table.add_row(label, format_interval(name, value))
    return table


def _interrupted(estimate: MemoryEstimate | SpeedEstimate) -> bool:
    """Whether prompts of others take time from writing: else the time per token is the rate once more."""
    if not isinstance(estimate, SpeedEstimate):
        return False
    rate, gap = estimate.decode_tokens_per_s, estimate.time_per_output_token_s
    return rate is not None and gap is not None and gap.best * rate.best > 1.0 + 1e-6


def render_verdict(verdict: Verdict) -> RenderableType:
    """Sentence, memory, speed, reasons, remedies, links, commands."""
    colour = _COLOURS[verdict.tier]
    parts: list[RenderableType] = [Text(verdict.sentence(), style=f"bold {colour}")]
    if verdict.memory is not None:
        parts.append(_quantities("Memory", verdict.memory))
        if len(verdict.memory.per_device) > 1:
            devices = _table("By device")
            for device in verdict.memory.per_device:
                room = (
                    format_bytes(device.available_bytes) if device.available_bytes is not None else "unknown"
                )
                devices.add_row(device.device, f"{format_bytes(device.total_bytes.best)} of {room}")
            parts.append(devices)
    if verdict.speed is not None and verdict.speed.headline() is not None:
        parts.append(_quantities(f"Speed (90 % intervals, {verdict.evidence})", verdict.speed))
        if verdict.speed.load_s is not None:
            loading = _table("Loading (bounds, not calibrated)")
            loading.add_row("from a cold disk", format_interval("load_s", verdict.speed.load_s))
            parts.append(loading)
    if verdict.reasons:
        table = _table("Why")
        for reason in verdict.reasons:
            table.add_row(reason.code, escape(reason.message))
        parts.append(table)
    if verdict.remedies:
        table = _table("What would help, cheapest first")
        for number, remedy in enumerate(verdict.remedies, 1):
            table.add_row(str(number), escape(remedy.message))
        parts.append(table)
    if verdict.links:
        table = _table("Read more (willitrun glossary ID)")
        for link in verdict.links:
            table.add_row(link.ref, escape(link.why))
        parts.append(table)
    if verdict.commands:
        table = _table("Run it")
        for command in verdict.commands:
            table.add_row("$", escape(command))
        parts.append(table)
    return Group(*parts)


def render_machine(machine: Machine) -> RenderableType:
    """What was found, what not, and why."""
    parts: list[RenderableType] = [Text(machine.summary(), style="bold")]
    for number, device in enumerate(machine.accelerators):
        table = _table(f"Accelerator {number}: {device.accelerator.name} (by {device.identity})")
        for label, value in (
            ("memory", _optional(device.memory_total_bytes or device.accelerator.memory)),
            ("free now", _optional(device.memory_free_bytes)),
            ("reserved by driver", _optional(device.memory_reserved_bytes)),
            (
                "bandwidth",
                _rate(device.memory_bandwidth_bytes_per_s or device.accelerator.memory_bandwidth, "B/s"),
            ),
            ("power limit", format_field("power_w", device.power_limit_w) if device.power_limit_w else None),
            ("PCIe", f"{device.pcie_generation}.0 x{device.pcie_lanes}" if device.pcie_generation else None),
        ):
            if value is not None:
                table.add_row(label, value)
        parts.append(table)
    host = machine.host
    table = _table("Host")
    for label, value in (
        ("CPU", host.cpu),
        (
            "cores",
            f"{host.cores} physical, {host.usable_cores:g} usable"
            if host.cores and host.usable_cores
            else None,
        ),
        ("RAM", _optional(host.ram_total_bytes)),
        ("available now", _optional(host.ram_available_bytes)),
        ("cgroup limit", _optional(host.memory_limit_bytes)),
        ("RAM bandwidth", _rate(host.memory_bandwidth_bytes_per_s, "B/s")),
        ("disk free", _optional(host.disk_free_bytes)),
        ("system", " ".join(filter(None, (host.system, host.system_version, host.virtualization))) or None),
    ):
        if value is not None:
            table.add_row(label, escape(value))
    parts.append(table)
    if machine.probes:
        table = _table("Probes")
        for probe in machine.probes:
            table.add_row(probe.probe, escape(f"{probe.status}{': ' + probe.reason if probe.reason else ''}"))
        parts.append(table)
    for text in machine.assumptions:
        parts.append(Text(f"Assumed: {text}", style="dim"))
    return Group(*parts)


def _optional(value: int | None) -> str | None:
    return None if value is None else format_bytes(value)


def _rate(value: float | None, unit: str) -> str | None:
    return None if value is None else format_rate(value, unit)


_SEVERITIES = (
    ("problem", "Needs attention", "red"),
    ("note", "Worth knowing", "yellow"),
    ("good", "Found", "green"),
)


def render_doctor(report: DoctorReport) -> RenderableType:
    """What needs attention first, each finding with the entry that helps; what was found last."""
    parts: list[RenderableType] = [Text(report.summary(), style="bold")]
    for severity, title, colour in _SEVERITIES:
        findings = [finding for finding in report.findings if finding.severity == severity]
        if not findings:
            continue
        parts.append(Text(f"\n{title}", style=f"bold {colour}"))
        for finding in findings:
            parts.append(Text.assemble((f"  {finding.title}: ", "bold"), finding.message))
            if finding.see:
                helps = ", ".join(f"willitrun glossary {ref}" for ref in finding.see)
                parts.append(Text(f"    {helps}", style="dim"))
    return Group(*parts)


def render_explanation(explanation: Explanation) -> RenderableType:
    """Steps with their equations, then the sources."""
    parts: list[RenderableType] = [Text(explanation.title, style="bold")]
    for step in explanation.steps:
        parts.append(Text.assemble((f"{step.title}: ", "bold"), step.text))
        if step.equation:
            parts.append(Text(f"    {step.equation}", style="cyan"))
    if explanation.sensitivities:
        table = _table("What would change it, most first")
        for effect in explanation.sensitivities:
            change, _, effect_text = effect.sentence().partition(": ")
            table.add_row(escape(change), escape(effect_text))
        parts.append(table)
    if explanation.citations:
        table = _table("Sources")
        for key, text in explanation.citations.items():
            table.add_row(f"[{key}]".replace("[", r"\["), escape(text))
        parts.append(table)
    return Group(*parts)


def report_error(message: object) -> None:
    """One line on standard error, whatever the terminal's width: scripts read it."""
    console(stderr=True).print(f"[red]willitrun:[/red] {escape(str(message))}", soft_wrap=True)


def console(*, stderr: bool = False) -> Console:
    """A console that does not wrap when its output is piped."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=110)
