"""A Model Context Protocol server: agents ask the library the questions that people ask it.

``willitrun mcp`` speaks the protocol over standard input and output. The tools pass their arguments to the public
functions and give their JSON back; nothing is computed here. Needs the extra ``mcp``.
The protocol: https://modelcontextprotocol.io/specification
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import willitrun
from willitrun.errors import MissingExtraError, WillItRunError
from willitrun.expressions import render_text

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

__all__ = ["create_server"]

INSTRUCTIONS = (
    "Answers whether a machine-learning model runs on a machine, how much memory it takes and how fast it is. "
    "Leave `machine` out to ask about the machine that this server runs on. Speeds are intervals that hold 90 % "
    "of measurements; say the interval, not only its middle. Codes in `reasons` are stable."
)
_LONGEST_LOG = 2_000_000
_MOST_HITS = 20


def assess(
    model: str,
    machine: str | list[str] | None = None,
    quantization: str | None = None,
    runtime: str | None = None,
    context_tokens: int | None = None,
    concurrency: int = 1,
    batch_size: int | None = None,
    image_size: int | None = None,
    explained: bool = False,
) -> dict[str, Any]:
    """Will this model run on this machine, and how fast? Tier, memory, speed, reasons, remedies, commands.

    `model` is a catalog id, Hugging Face repository, Ollama tag or path; `machine` a GPU name, a list of them, or
    nothing for this machine; `quantization` for example q4_k_m; `runtime` for example llama.cpp or vllm;
    `explained` adds the verdict taken apart, term by term, with equations and sources.
    """
    workload = willitrun.Workload(
        context_tokens=context_tokens, concurrency=concurrency, batch_size=batch_size, image_size=image_size
    )
    verdict = willitrun.assess(model, machine, workload, quantization=quantization, runtime=runtime)
    found = verdict.model_dump(mode="json", exclude_none=True)
    for part in ("memory", "speed"):
        # Terms are what the explanation is for; here they would be most of the answer.
        found.get(part, {}).pop("terms", None)
    found["summary"] = verdict.summary()
    if explained:
        found["explanation"] = willitrun.explain(verdict).text()
    return found


def detect() -> dict[str, Any]:
    """This machine: GPUs, free memory, limits, and what could not be read and why."""
    return willitrun.detect().model_dump(mode="json", exclude_none=True)


def find(text: str) -> list[dict[str, str]]:
    """Catalog records (models, accelerators, quantizations, runtimes, glossary) whose name contains a text."""
    hits = willitrun.load_catalog().find(text, most=_MOST_HITS)
    return [{"kind": hit.kind, "id": hit.id, "name": hit.name} for hit in hits]


def define(term: str) -> str:
    """A glossary entry, or a troubleshooting entry as `troubleshooting:ID` (the `links` of a verdict name both)."""
    catalog = willitrun.load_catalog()
    if term.startswith("troubleshooting:"):
        entry = catalog.troubleshooting.resolve(term.removeprefix("troubleshooting:"))
        fixes = [f"Fix: {render_text(fix.fix, catalog)} {fix.command}".strip() for fix in entry.fixes]
        causes = [f"Cause: {cause.cause}" for cause in entry.causes]
        return "\n".join([entry.name, render_text(entry.summary, catalog), *causes, *fixes])
    found = catalog.glossary.resolve(term.removeprefix("glossary:"))
    return (
        f"{found.name}\n{render_text(found.definition, catalog)}\n\n{render_text(found.explanation, catalog)}"
    )


def diagnose(log: str) -> list[dict[str, Any]]:
    """Known failures in a log: what happened, ordered causes with checks, fixes, and what does not help."""
    return [item.model_dump(mode="json") for item in willitrun.diagnose(log[-_LONGEST_LOG:])]


def scan(machine: str | list[str] | None = None, most: int = 20) -> dict[str, Any]:
    """Which models of the catalog run on a machine, the most useful first; nothing for this machine."""
    found = willitrun.scan(machine)
    told = found.model_dump(mode="json", exclude_none=True)
    told["ranked"] = told["ranked"][: max(0, most)]
    told["summary"] = found.summary()
    return told


def recommend(
    model: str,
    targets: dict[str, float] | None = None,
    quantizations: list[str] | None = None,
    budget_usd: float | None = None,
    owned: str | list[str] | None = None,
    context_tokens: int | None = None,
    concurrency: int = 1,
) -> dict[str, Any]:
    """Which machine to get for a model: cheapest, fastest, most efficient, with dated prices.

    `targets` for example {"decode_tokens_per_s": 20}; `quantizations` are formats that are good enough, best first;
    `owned` is what is there already, and what it would take on it is told.
    """
    found = willitrun.recommend(
        model,
        willitrun.Workload(context_tokens=context_tokens, concurrency=concurrency),
        targets=targets,
        quantizations=quantizations,
        budget_usd=budget_usd,
        owned=owned,
    )
    return {**found.model_dump(mode="json", exclude_none=True), "summary": found.summary()}


def ask(question: str, machine: str | list[str] | None = None) -> dict[str, Any]:
    """A question in plain words, answered in a paragraph that says what was assumed."""
    found = willitrun.ask(question, machine=machine)
    # The verdict has a tool of its own; the paragraph is the answer.
    return found.model_dump(mode="json", exclude_none=True, exclude={"verdict"})


TOOLS: tuple[Callable[..., Any], ...] = (
    assess,
    detect,
    find,
    define,
    diagnose,
    scan,
    recommend,
    ask,
)


def create_server() -> MCPServer:
    """The server with its tools; ``create_server().run()`` serves standard input and output.

    Raises
    ------
    MissingExtraError
        The package ``mcp`` is not installed.
    """
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError as error:
        raise MissingExtraError("mcp", "mcp") from error
    server = MCPServer(
        "willitrun", instructions=INSTRUCTIONS, version=willitrun.__version__, log_level="WARNING"
    )
    for tool in TOOLS:
        server.tool()(_explaining_errors(tool))
    return server


def _explaining_errors(tool: Callable[..., Any]) -> Callable[..., Any]:
    """What the library refuses is told to the agent with its remedy; anything else stays an internal error."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return tool(*args, **kwargs)
        except WillItRunError as error:
            raise ToolError(f"{error.code}: {error}") from error

    return wrapped
