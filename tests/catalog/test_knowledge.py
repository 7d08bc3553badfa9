"""Glossary, troubleshooting, reasons, runtimes and workloads: complete, connected, honest about numbers."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from willitrun.catalog import Catalog, load_catalog
from willitrun.catalog.authoring import read_kind
from willitrun.catalog.layout import KINDS, record_class
from willitrun.diagnostics.evidence import PROBES
from willitrun.expressions import evaluate_expression, render_text
from willitrun.kernels.weights import BLOCK_LAYOUTS
from willitrun.records import accelerators, knowledge, machines, models, recipes, results
from willitrun.records.bases import Record
from willitrun.records.knowledge import GlossaryEntry, ReasonLinks, TroubleshootingEntry
from willitrun.records.models import Task
from willitrun.records.recipes import RuntimeProfile, Workload, WorkloadProfile
from willitrun.records.results import SpeedEstimate

CATEGORIES = {
    "attention", "computer-vision", "data-and-datasets", "diffusion", "embeddings-and-retrieval", "evaluation",
    "formats", "gpu-architecture", "hardware", "memory", "model-architecture", "operating-systems-and-drivers",
    "performance", "quantization", "runtimes", "serving", "speech", "training-and-fine-tuning",
}  # fmt: skip
LANGUAGE_TASKS = {
    "text-generation", "image-text-to-text", "text-to-speech", "feature-extraction", "text-ranking", "fill-mask",
}  # fmt: skip
VISION_TASKS = {
    "image-classification", "image-feature-extraction", "object-detection", "image-segmentation",
    "pose-estimation", "oriented-detection", "zero-shot-image-classification",
}  # fmt: skip
# Terms that say nothing to someone who classifies pictures.
LANGUAGE_TERMS = {
    "kv-cache", "kv-cache-quantization", "context-length", "paged-attention", "prefix-caching", "rope", "yarn",
    "grouped-query-attention", "tensor-parallelism", "parallel-slots", "chunked-prefill", "gguf", "gpu-layers",
}  # fmt: skip
REASON_CODES = [
    "fits-comfortably", "fits-tightly", "does-not-fit", "needs-offload", "offload-too-slow",
    "kv-cache-dominates", "weights-dominate", "context-above-trained-maximum",
    "format-not-supported-by-runtime", "runtime-not-on-vendor", "runtime-not-on-system",
    "task-not-supported-by-runtime", "tensor-parallel-does-not-divide", "no-cpu-offload-in-runtime",
    "launch-bound", "memory-bandwidth-bound", "compute-bound", "host-memory-bound", "interconnect-bound",
    "input-bound", "disk-bound", "below-practical-floor", "memory-held-by-others", "power-capped",
    "pcie-narrow", "mig-slice", "over-network", "cgroup-limit", "unified-memory-budget", "unknown-device-derived",
    "speed-not-modelled", "memory-not-modelled", "assumed-host", "assumed-runtime", "assumed-quantization",
    "assumed-context", "out-of-host-memory", "kv-pool-too-small", "serving-saturated", "disk-too-small",
    "no-accelerator", "accelerator-not-driven", "dataset-pass", "dataset-accuracy",
]  # fmt: skip
EXPRESSION = re.compile(r"\{\{\s*(.+?)\s*\}\}")


def authored(kind: str) -> dict[str, Any]:
    """Validated records of one kind, straight from the files."""
    rows = read_kind(load_catalog().root, KINDS[kind])
    cls = record_class(kind)
    return {
        row.get("id") or row["code"]: cls.model_validate(row) for records in rows.values() for row in records
    }


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


@pytest.fixture(scope="module")
def glossary() -> dict[str, GlossaryEntry]:
    return authored("glossary")


@pytest.fixture(scope="module")
def troubleshooting() -> dict[str, TroubleshootingEntry]:
    return authored("troubleshooting")


@pytest.fixture(scope="module")
def reasons() -> dict[str, ReasonLinks]:
    return authored("reason")


@pytest.fixture(scope="module")
def runtimes() -> dict[str, RuntimeProfile]:
    return authored("runtime")


@pytest.fixture(scope="module")
def workloads() -> dict[str, WorkloadProfile]:
    return authored("workload")


def prose(entry: GlossaryEntry | TroubleshootingEntry) -> list[str]:
    if isinstance(entry, GlossaryEntry):
        return [entry.definition, entry.explanation, entry.example, entry.workflow]
    texts = [entry.summary, *entry.dead_ends]
    texts += [text for cause in entry.causes for text in (cause.cause, cause.check)]
    return texts + [text for fix in entry.fixes for text in (fix.fix, fix.effect)]


def test_counts_hold(
    glossary: dict[str, GlossaryEntry], troubleshooting: dict[str, TroubleshootingEntry]
) -> None:
    assert len(glossary) >= 250
    assert len(troubleshooting) >= 80
    per_category = Counter(entry.category for entry in glossary.values())
    assert set(per_category) == CATEGORIES
    assert min(per_category.values()) >= 5


def test_terms_are_complete(
    glossary: dict[str, GlossaryEntry], troubleshooting: dict[str, TroubleshootingEntry]
) -> None:
    for entry in glossary.values():
        assert entry.definition.endswith("."), entry.id
        assert len(entry.explanation) > 30, entry.id
        assert entry.example, entry.id
        assert len(entry.workflow) > 30, entry.id
        assert entry.related, entry.id
        assert set(entry.related) <= set(glossary) - {entry.id}, entry.id
        assert set(entry.goes_wrong) <= set(troubleshooting), entry.id
        assert entry.cite, entry.id


def test_api_fields_exist(glossary: dict[str, GlossaryEntry]) -> None:
    records: dict[str, type[Record]] = {
        name: value
        for module in (accelerators, knowledge, machines, models, recipes, results)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Record)
    }
    for entry in glossary.values():
        for field in entry.fields:
            owner, _, name = field.partition(".")
            assert name in records[owner].model_fields, (entry.id, field)


def test_failures_are_complete(troubleshooting: dict[str, TroubleshootingEntry]) -> None:
    for entry in troubleshooting.values():
        assert entry.causes, entry.id
        assert entry.fixes, entry.id
        assert entry.dead_ends, entry.id
        assert set(entry.related) <= set(troubleshooting) - {entry.id}, entry.id
        assert entry.tasks == () or set(entry.tasks) <= set(get_args(Task)), entry.id
        for cause in entry.causes:
            assert cause.fixes, (entry.id, cause.cause)
            assert max(cause.fixes) < len(entry.fixes), (entry.id, cause.cause)
            assert cause.check or cause.command or cause.probe, (entry.id, cause.cause)
            assert not cause.probe or cause.probe in PROBES, (entry.id, cause.probe)


def test_runtimes_named_by_failures_exist(
    troubleshooting: dict[str, TroubleshootingEntry], runtimes: dict[str, RuntimeProfile]
) -> None:
    for entry in troubleshooting.values():
        assert set(entry.runtimes) <= set(runtimes), entry.id
        assert set(entry.reasons) <= set(REASON_CODES), entry.id


def test_every_reason_is_explained(
    reasons: dict[str, ReasonLinks],
    glossary: dict[str, GlossaryEntry],
    troubleshooting: dict[str, TroubleshootingEntry],
) -> None:
    for code in REASON_CODES:
        row = reasons[code]
        assert row.explanation, code
        assert row.glossary or row.troubleshooting, code
        assert set(row.glossary) <= set(glossary), code
        assert set(row.troubleshooting) <= set(troubleshooting), code


def test_entries_link_back_to_the_reasons_they_explain(
    reasons: dict[str, ReasonLinks], troubleshooting: dict[str, TroubleshootingEntry]
) -> None:
    claimed = {(code, entry.id) for entry in troubleshooting.values() for code in entry.reasons}
    linked = {(row.code, name) for row in reasons.values() for name in row.troubleshooting}
    codes = {code for code, _ in claimed}
    assert codes <= {code for code, _ in linked}


@pytest.mark.parametrize("task", sorted(VISION_TASKS))
def test_no_picture_verdict_links_to_language_entries(
    task: str, reasons: dict[str, ReasonLinks], troubleshooting: dict[str, TroubleshootingEntry]
) -> None:
    for row in reasons.values():
        if row.tasks and task not in row.tasks:
            assert set(row.tasks) <= LANGUAGE_TASKS, row.code
            continue
        kept = [
            troubleshooting[name]
            for name in row.troubleshooting
            if not troubleshooting[name].tasks or task in troubleshooting[name].tasks
        ]
        assert kept or row.glossary, row.code
        assert not set(row.glossary) & LANGUAGE_TERMS, row.code


def test_links_differ_when_the_constraint_differs(reasons: dict[str, ReasonLinks]) -> None:
    bounds = [code for code in REASON_CODES if code.endswith("-bound")]
    sets = [(frozenset(reasons[code].glossary), frozenset(reasons[code].troubleshooting)) for code in bounds]
    assert len(set(sets)) == len(bounds)


def test_runtimes_are_described(runtimes: dict[str, RuntimeProfile]) -> None:
    assert len(runtimes) >= 18
    for runtime in runtimes.values():
        assert set(runtime.tasks) <= set(get_args(Task)), runtime.id
        assert set(runtime.command_of) <= set(runtime.tasks), runtime.id
        # What else stands in braces is filled in `tests/test_commands.py`.
        flags = set(re.findall(r"\{(\w+)_flag\}", " ".join((runtime.command, *runtime.command_of.values()))))
        assert flags - {"rpc"} <= set(runtime.flags_of), runtime.id
        assert runtime.install, runtime.id
        assert runtime.homepage.startswith("https://"), runtime.id
        if runtime.kv_policy == "pages":
            assert runtime.preallocates, runtime.id


def test_workloads_can_be_asked(workloads: dict[str, WorkloadProfile]) -> None:
    for profile in workloads.values():
        Workload(task=profile.task, **profile.fields)
        assert profile.task in get_args(Task), profile.id
        assert profile.floor, profile.id
        assert set(profile.floor) <= set(SpeedEstimate.model_fields), profile.id


def test_every_task_has_a_default_workload(workloads: dict[str, WorkloadProfile]) -> None:
    names = set(workloads) | {alias for profile in workloads.values() for alias in profile.aliases}
    assert set(get_args(Task)) <= names


def expression_roots(text: str) -> list[tuple[str, list[Any]]]:
    """Function names with their positional arguments; fails on anything but the small grammar."""
    calls = []
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name), text
            assert all(isinstance(word.value, ast.Constant) for word in node.keywords), text
            calls.append((node.func.id, [ast.literal_eval(argument) for argument in node.args]))
        else:
            assert isinstance(
                node,
                ast.Expression
                | ast.Attribute
                | ast.Subscript
                | ast.Name
                | ast.Constant
                | ast.keyword
                | ast.Load,
            ), (text, node)
    return calls


def test_numbers_of_the_engine_are_expressions_of_the_small_grammar(
    catalog: Catalog, glossary: dict[str, GlossaryEntry], troubleshooting: dict[str, TroubleshootingEntry]
) -> None:
    found = 0
    for entry in [*glossary.values(), *troubleshooting.values()]:
        for text in prose(entry):
            assert text.count("{{") == len(EXPRESSION.findall(text)), entry.id
            for expression in EXPRESSION.findall(text):
                found += 1
                ((name, arguments),) = expression_roots(expression)
                if name in ("accelerator", "dataset"):
                    catalog.resolve(name, *arguments)
                    continue
                assert name in ("assess", "memory", "speed", "model"), expression
                catalog.resolve("model", arguments[0])
                for machine in arguments[1:]:
                    catalog.resolve("accelerator", machine)
    assert found >= 180


def test_the_engines_units_are_not_written_by_hand(
    glossary: dict[str, GlossaryEntry], troubleshooting: dict[str, TroubleshootingEntry]
) -> None:
    """A speed beside a card's name would drift; it has to be an expression."""
    card = re.compile(r"\b(?:RTX|GTX|RX|H100|A100|M[1-5] (?:Max|Pro|Ultra))\b")
    speed = re.compile(r"\b\d[\d.,]* ?(?:tokens/s|tokens per second|images per second|images/s|it/s)\b")
    for entry in [*glossary.values(), *troubleshooting.values()]:
        for text in prose(entry):
            for sentence in re.split(r"(?<=[.;])\s", EXPRESSION.sub("", text)):
                assert not (card.search(sentence) and speed.search(sentence)), (entry.id, sentence)


QUANTITIES: list[dict[str, str]] = tomllib.loads(
    (Path(__file__).parents[1] / "fixtures" / "quantities.toml").read_text("utf-8")
)["quantity"]
# Names of cards and widths of numbers are names, not amounts.
NAME = re.compile(r"\b(?:RTX|GTX) \d{4}(?: Ti| Super)? \d+ GB|\b[\d.]+ bits\b")
AMOUNT = re.compile(
    r"(?<![\w.-])\d[\d,.]* ?(?:(?:images|pictures|tokens|samples) per second|(?:tokens|images|samples|it)/s|[KMGT]i?B/s"
    r"|[KMGT]i?B|Gbit/s|T?FLOPS?|bytes|seconds|minutes|hours|ms|times|watts|W|s)\b"
)


def held_by_the_catalog(text: str, catalog: Catalog) -> list[float]:
    """Numbers of the record, or of the field, that an ``engine`` line names."""
    if match := re.fullmatch(r'workload\("(.+)"\)', text):
        return list(catalog.resolve("workload", match[1]).floor.values())
    if match := re.fullmatch(r'format\("(.+)"\)', text):
        return [BLOCK_LAYOUTS[match[1]].block_bytes]
    value, _ = evaluate_expression(text, catalog)
    assert isinstance(value, int | float), text
    return [value, value / 1e9, value / 2**30]


def test_bare_amounts_are_listed_with_what_they_rest_on(
    catalog: Catalog, glossary: dict[str, GlossaryEntry], troubleshooting: dict[str, TroubleshootingEntry]
) -> None:
    listed = {(row["entry"], row["text"]): row for row in QUANTITIES}
    used = set()
    for entry in [*glossary.values(), *troubleshooting.values()]:
        for text in prose(entry):
            for amount in AMOUNT.findall(NAME.sub("", EXPRESSION.sub("", text))):
                assert (entry.id, amount) in listed, (entry.id, amount, text)
                used.add((entry.id, amount))
    assert used == set(listed)
    for (name, text), row in listed.items():
        number = float(re.sub(r"[^\d.]", "", text.split()[0]))
        if "cite" in row:
            entries: dict[str, Any] = {**glossary, **troubleshooting}
            sources = {citation.source for rows in entries[name].cite.values() for citation in rows}
            assert row["cite"] in sources, (name, text)
        elif "equals" in row:
            right, _ = evaluate_expression(row["equals"], catalog)
            assert number == pytest.approx(right, rel=0.02), (name, text, right)
        elif "engine" in row:
            held = held_by_the_catalog(row["engine"], catalog)
            assert any(number == pytest.approx(value, rel=0.001) for value in held), (name, text, held)
        else:
            assert row["example"], (name, text)


def test_every_expression_has_a_value(
    catalog: Catalog, glossary: dict[str, GlossaryEntry], troubleshooting: dict[str, TroubleshootingEntry]
) -> None:
    for entry in [*glossary.values(), *troubleshooting.values()]:
        for text in prose(entry):
            if "{{" in text:
                shown = render_text(text, catalog)
                assert "unknown" not in shown.replace("unknown device", ""), (entry.id, shown)
                assert "e+" not in shown, (entry.id, shown)


def test_imagenet_is_the_model_entry(glossary: dict[str, GlossaryEntry]) -> None:
    entry = glossary["imagenet"]
    text = " ".join(prose(entry))
    for fact in (
        "1,281,167",
        "50,000",
        "1,000 classes",
        "14,197,122",
        "21,841",
        "150 GB",
        "1.3 TB",
        "38,000",
    ):
        assert fact in text, fact
    assert text.count("images_per_s") >= 3
    assert entry.workflow
    assert {"launch-bound-small-batch", "data-loader-starved"} <= set(entry.goes_wrong)


def test_no_two_entries_say_the_same_sentence(
    glossary: dict[str, GlossaryEntry], troubleshooting: dict[str, TroubleshootingEntry]
) -> None:
    owner: dict[str, str] = {}
    for entry in [*glossary.values(), *troubleshooting.values()]:
        for text in prose(entry)[:2]:
            for sentence in re.split(r"(?<=[.!?])\s+", text):
                if len(sentence) > 60:
                    assert owner.setdefault(sentence, entry.id) == entry.id, sentence


def test_every_citation_leads_to_a_source(
    catalog: Catalog,
    glossary: dict[str, GlossaryEntry],
    troubleshooting: dict[str, TroubleshootingEntry],
    runtimes: dict[str, RuntimeProfile],
    workloads: dict[str, WorkloadProfile],
) -> None:
    sources = authored("source")
    for entry in [*glossary.values(), *troubleshooting.values(), *runtimes.values(), *workloads.values()]:
        assert entry.facts(), entry.id
        for citations in entry.cite.values():
            for citation in citations:
                assert citation.source in sources, (entry.id, citation.source)
        assert all(entry.citations(name) for name in entry.facts()), entry.id


PRINTED: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parents[1] / "fixtures" / "printed.toml").read_text("utf-8")
)["printed"]


def test_versions_are_those_that_were_looked_through(
    troubleshooting: dict[str, TroubleshootingEntry],
) -> None:
    """An entry names only versions of packages in whose source one of its messages stands."""
    found = {(row["entry"], row["program"], version) for row in PRINTED for version in row["versions"]}
    for entry in troubleshooting.values():
        for part in filter(None, entry.verified_with.split("; ")):
            program, _, versions = part.partition(" ")
            for version in re.split(r", | and ", versions):
                assert (entry.id, program, version) in found, (entry.id, part)


def unread_statements(entry: TroubleshootingEntry) -> list[str]:
    """Summary, causes, fixes and dead ends without a citation of their own that names a place."""
    keys = ["summary"]
    for name in ("causes", "fixes", "dead_ends"):
        keys += [f"{name}.{number}" for number in range(len(getattr(entry, name)))]
    return [key for key in keys if not any(citation.at for citation in entry.cite.get(key, ()))]


def test_every_statement_of_a_failure_was_read_at_a_place(
    troubleshooting: dict[str, TroubleshootingEntry],
) -> None:
    """Each statement, with its command and its range of versions, cites the place it was read at."""
    unread = {entry.id: unread_statements(entry) for entry in troubleshooting.values()}
    assert unread, "no failure was found"
    assert {name: keys for name, keys in unread.items() if keys} == {}


def test_citations_of_statements_name_statements(troubleshooting: dict[str, TroubleshootingEntry]) -> None:
    for entry in troubleshooting.values():
        for key in entry.cite:
            name, _, number = key.partition(".")
            if number:
                assert int(number) < len(getattr(entry, name)), (entry.id, key)


def test_every_statement_has_a_source(
    glossary: dict[str, GlossaryEntry], troubleshooting: dict[str, TroubleshootingEntry]
) -> None:
    """Definitions, explanations, causes, fixes, ...: none stands without a citation of its field or of its entry."""
    statements = {
        GlossaryEntry: ("definition", "explanation", "example", "workflow"),
        TroubleshootingEntry: ("summary", "causes", "fixes", "dead_ends", "verified_with"),
    }
    uncited = [
        f"{entry.id}.{name}"
        for entry in (*glossary.values(), *troubleshooting.values())
        for name in statements[type(entry)]
        if getattr(entry, name) and not entry.citations(name)
    ]
    assert uncited == []


def test_small_models_tie_their_tables_and_large_ones_do_not(catalog: Catalog) -> None:
    """What the term on tied embeddings says of this catalog."""
    sizes: dict[str, list[bool]] = {"small": [], "large": []}
    for model in catalog.models.values():
        if model.task == "text-generation" and model.transformer and model.parameters:
            size = "small" if model.parameters < 3e9 else "large" if model.parameters > 13e9 else None
            if size:
                sizes[size].append(model.transformer.tie_word_embeddings)
    assert sum(sizes["small"]) > len(sizes["small"]) / 2
    assert sum(sizes["large"]) < len(sizes["large"]) / 2


def test_statements_of_the_glossary_were_read_at_a_place(glossary: dict[str, GlossaryEntry]) -> None:
    """As many definitions, explanations and examples cite a place of their own as the page of facts says."""
    page = (Path(__file__).parents[2] / "accuracy" / "facts.md").read_text("utf-8")
    match = re.search(r"glossary's (\d+) definitions, explanations and examples at least (\d+) cite", page)
    assert match
    parts = ("definition", "explanation", "example")
    stated = sum(bool(getattr(entry, part)) for entry in glossary.values() for part in parts)
    located = sum(
        any(citation.at for citation in entry.cite.get(part, ()))
        for entry in glossary.values()
        for part in parts
    )
    assert int(match[1]) == stated
    assert int(match[2]) <= located
