"""Parts of the sentences that answer: who, how much memory, how fast."""

from __future__ import annotations

from collections.abc import Mapping

from willitrun.answers.cases import Case, format_name
from willitrun.estimators.workloads import GRAPH_TASKS, LLM_TASKS
from willitrun.intervals import Interval
from willitrun.records.presentation import format_field
from willitrun.records.results import Verdict
from willitrun.units import format_bytes

__all__ = [
    "TIER_WORDS",
    "interval_text",
    "latency_text",
    "machine_name",
    "memory_text",
    "reason_text",
    "speed_text",
    "subject",
]

TIER_WORDS = {
    "comfortable": "Yes, comfortably",
    "tight": "Yes, but tightly",
    "offload": "Only with a part of it in host memory",
    "will-not-run": "No",
    "unknown": "That is undecided",
}


def interval_text(name: str, value: Interval) -> str:
    """A quantity with its interval, where it has one."""
    best = format_field(name, value.best)
    if value.is_exact:
        return best
    return f"{best} (90 % interval {format_field(name, value.low)} to {format_field(name, value.high)})"


def subject(case: Case, verdict: Verdict) -> str:
    """The model as it was judged: format and load."""
    weights = format_name(verdict.inputs.quantization)
    model = f"{case.model.name} at {weights}" if weights else case.model.name
    load = verdict.inputs.workload
    parts = [model]
    if load.get("context_tokens") and case.model.task in LLM_TASKS:
        parts.append(f"with {load['context_tokens']:,} tokens of context")
    if load.get("concurrency", 1) > 1:
        parts.append(f"for {load['concurrency']} sequences at once")
    if load.get("batch_size") and case.model.task in GRAPH_TASKS:
        parts.append(f"at batch {load['batch_size']}")
    return " ".join(parts)


def memory_text(verdict: Verdict) -> str:
    """What it needs of what is available."""
    if verdict.memory is None:
        return ""
    room = [device.available_bytes for device in verdict.memory.per_device]
    need = format_bytes(verdict.memory.total_bytes.best)
    if room and None not in room:
        return f"needs {need} of the {format_bytes(float(sum(filter(None, room))))} that are available"
    return f"needs {need}"


def speed_text(verdict: Verdict, case: Case) -> str:
    """How fast, what binds it, and whether that is fast enough for the use."""
    speed = verdict.speed
    if speed is None:
        return ""
    wanted = []
    if case.reading.first_token:
        wanted.append(("time_to_first_token_s", "the first token comes after"))
    if case.reading.prefill:
        wanted.append(("prefill_tokens_per_s", "it reads prompts at"))
    head = speed.headline()
    if head is not None and case.workload.concurrency > 1 and speed.time_per_output_token_s is not None:
        # What one of them gets, prompts of the others included: as many times it is what all get.
        wanted.append(("time_per_output_token_s", "each sequence gets a token every"))
    elif head is not None:
        wanted.append(_headline(head, case))
    if case.workload.concurrency > 1:
        wanted.append(("throughput_tokens_per_s", "all sequences together get"))
    lines = [
        f"{lead} {interval_text(name, value)}"
        for name, lead in wanted
        if (value := getattr(speed, name)) is not None
    ]
    if not lines:
        return ""
    told = "; ".join(lines)
    bound = f", bound by {speed.bound}" if speed.bound else ""
    return f" {told[0].upper()}{told[1:]}{bound}.{reason_text(verdict, 'below-practical-floor')}{reason_text(verdict, 'dataset-pass')}"


def latency_text(latencies: Mapping[str, float]) -> str:
    """What is asked of the latencies of a server; empty where nothing is."""
    words = {
        "time_to_first_token_s": "the first token within",
        "time_per_output_token_s": "each token after the first within",
    }
    return " and ".join(
        f"{lead} {format_field(name, latencies[name])}" for name, lead in words.items() if name in latencies
    )


def reason_text(verdict: Verdict, code: str) -> str:
    """What a verdict's reason says, as a further sentence; empty where it has none of that code."""
    return next((f" {reason.message}" for reason in verdict.reasons if reason.code == code), "")


def _headline(head: tuple[str, Interval], case: Case) -> tuple[str, str]:
    """The field that tells the speed, and the words before its value: below one picture a second, seconds a picture."""
    if head[0] == "images_per_s" and head[1].best < 1:
        return "seconds_per_image", "it takes per picture"
    verbs = {
        "decode_tokens_per_s": "it generates",
        "seconds_per_image": "it takes per video",
        "training_step_s": "a training step takes",
    }
    default = "it classifies" if case.model.task == "image-classification" else "it does"
    return head[0], verbs.get(head[0], default)


def machine_name(case: Case) -> str:
    """The machine as the answer calls it."""
    return case.machine.name if case.machine is not None else "this machine"
