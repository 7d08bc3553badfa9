"""Questions that name no model: what a term means, how two differ, and what goes wrong."""

from __future__ import annotations

import re

from willitrun.catalog import Catalog
from willitrun.diagnostics import diagnose

__all__ = ["difference_of", "failure_of", "term_of"]

_ASKS_FOR_TERM = re.compile(
    r"^(?:what(?:'s| is| are| does)|explain|define|meaning of)\s+(?:an? |the )?(.+?)(?: mean)?[?.! ]*$"
)
_ASKS_FOR_TWO = (
    re.compile(r"\bdifferences? between (?:an? |the )?(.+?) (?:and|vs\.?) (?:an? |the )?(.+?)[?.! ]*$"),
    re.compile(
        r"\bhow (?:do|does|is|are) (?:an? |the )?(.+?) (?:and|differ from|different from) (?:an? |the )?(.+?)(?: differ)?[?.! ]*$"
    ),
)


def _entry(words: str, catalog: Catalog) -> str | None:
    """The glossary's words on a term; None where it has no such entry."""
    ids = catalog.glossary.named(words)
    return ids[0] if ids else None


def _told(identifier: str, catalog: Catalog) -> str:
    entry = catalog.glossary[identifier]
    return f"{entry.name}: {entry.definition}"


def term_of(text: str, catalog: Catalog) -> str | None:
    """The glossary's words on what a question asks to be explained; None where it asks for something else."""
    asked = _ASKS_FOR_TERM.match(text)
    found = _entry(asked[1], catalog) if asked else None
    return f"{_told(found, catalog)} `willitrun glossary {found}` tells more." if found else None


def difference_of(text: str, catalog: Catalog) -> str | None:
    """The glossary's words on two terms whose difference is asked for."""
    asked = next((match for pattern in _ASKS_FOR_TWO if (match := pattern.search(text))), None)
    if asked is None:
        return None
    one, two = (_entry(words, catalog) for words in asked.groups())
    if one is None or two is None:
        return None
    if one == two:
        entry = catalog.glossary[one]
        return f"Both are {_told(one, catalog)} {entry.explanation} `willitrun glossary {one}` tells more."
    return f"{_told(one, catalog)} {_told(two, catalog)} `willitrun glossary {one}` and `willitrun glossary {two}` tell more."


def failure_of(text: str, catalog: Catalog) -> str | None:
    """What a message that is quoted in a question means, and what helps first; None where none is known."""
    found = diagnose(text, catalog=catalog)
    if not found:
        return None
    first = found[0]
    fix = f" What helps first: {first.fixes[0].fix}" if first.fixes else ""
    return (
        f"{first.name}: {first.meaning}{fix} `willitrun glossary troubleshooting:{first.entry}` tells more."
    )
