"""Prompt kits: texts, token counts, and the workload that they make."""

from __future__ import annotations

from collections.abc import Iterator

from generators.markup import Page, Section, page, source_links, table
from willitrun import Catalog, assess
from willitrun.guides import kit_workload

SECTION = Section("Prompt kits", "prompts", "Prompts per task with measured token counts, as workloads")


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page."""
    lines = [
        "# Prompt kits",
        "",
        "Small packs of prompts, each counted with real tokenizers. `willitrun.guides.kit_workload` makes a workload of one.",
        "",
    ]
    for kit in catalog.prompt_kits.values():
        verdict = assess(
            "llama-3.1-8b",
            "rtx-3060-12gb",
            kit_workload(kit, catalog=catalog),
            quantization="q4_k_m",
            catalog=catalog,
        )
        lines += [f"## {kit.name}", "", f"{kit.note} Id `{kit.id}`.", ""]
        counts = [
            [name, ", ".join(map(str, numbers)), kit.output_tokens] for name, numbers in kit.tokens.items()
        ]
        lines += [*table(["tokenizer", "tokens of each prompt", "tokens of an answer"], counts), ""]
        lines += [
            f"Llama 3.1 8B Q4\\_K\\_M on an RTX 3060 12 GB: {verdict.sentence().partition(': ')[2].replace('_', chr(92) + '_')}",
            "",
        ]
        if kit.system:
            lines += ["```text", f"[system] {kit.system}", "```", ""]
        for prompt in kit.prompts:
            lines += ["```text", prompt, "```", ""]
        lines += [f"Sources: {source_links(kit, catalog)}", ""]
    yield page("prompts.md", lines)
