"""What the command line that a submitted run carries says of it: depth, micro-batch, what lies on the host, drafts.

A form that people fill in has columns for some of this, and its defaults are no statements: the command is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Command", "read_command"]

_COMMAND = re.compile(r"\bcmd=(.*)$", re.DOTALL)
_CONTEXT = re.compile(r"\bctx=(\d+)")
#: The context that the form fills in by itself.
DEFAULT_CONTEXT = 2048
_DRAFT = re.compile(r"(?:^|\s)(?:-md|--model-draft|--draft\S*|--spec\S*|--num-speculative\S*)(?:[\s=]|$)")
_PATTERN = re.compile(r"(?:^|\s)(?:-ot|--override-tensor|--cpu-moe|-cmoe)(?:[\s=]|$)")


@dataclass(frozen=True, slots=True)
class Command:
    """What a command states; None where it does not."""

    depth: int | None = None
    microbatch: int | None = None
    cpu_moe_layers: int | None = None
    by_pattern: bool = False
    """Tensors are placed by a pattern of names."""
    drafts: bool = False


def read_command(notes: str) -> Command:
    """Read the command out of a row's notes.

    >>> read_command("user=x; ctx=131072; cmd=llama-bench -m  -p 512 -n 128 -d 131072 -o json").depth
    131072
    >>> found = read_command("ctx=180000; cmd=llama-server -m a.gguf -ngl 99 --n-cpu-moe 26 -c 180000 -ub 1024 -fa on")
    >>> found.cpu_moe_layers, found.microbatch, found.depth
    (26, 1024, None)
    >>> read_command("cmd= -m a.gguf -p 4096 -n 512 -b 4096 -ub 10").microbatch is None
    True
    >>> read_command("os=Linux")
    Command(depth=None, microbatch=None, cpu_moe_layers=None, by_pattern=False, drafts=False)
    """
    match = _COMMAND.search(notes)
    if match is None:
        return Command()
    command = match.group(1)
    depth = _value(command, "-d", "--n-depth")
    if depth is None and "llama-bench" in command and _value(command, "-p", "--n-prompt") is None:
        # llama-bench sizes its context by what it measures; where its options are lost, a context says the depth.
        context = _CONTEXT.search(notes)
        depth = int(context.group(1)) if context and int(context.group(1)) > DEFAULT_CONTEXT else None
    return Command(
        depth=depth if "llama-bench" in command else None,
        microbatch=_value(command, "-ub", "--ubatch-size"),
        cpu_moe_layers=_value(command, "-ncmoe", "--n-cpu-moe"),
        by_pattern=_PATTERN.search(command) is not None,
        drafts=_DRAFT.search(command) is not None,
    )


def _value(command: str, *names: str) -> int | None:
    options = "|".join(re.escape(name) for name in names)
    # Commands are cut somewhere: a number at the very end may be the beginning of one.
    match = re.search(rf"(?:^|\s)(?:{options})[\s=]+(\d+)(?=\s)", command)
    return None if match is None else int(match.group(1))
