"""Contenders at one weight format, where nobody named one and each would take the best that fits it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from willitrun.catalog import Catalog
from willitrun.records.results import Verdict

__all__ = ["at_one_format"]


def at_one_format(
    verdicts: Sequence[Verdict], again: Callable[[str], Sequence[Verdict]], catalog: Catalog
) -> tuple[list[Verdict], str | None]:
    """Verdicts at one format: a card is not slower for holding more bits.

    Parameters
    ----------
    verdicts
        Of the contenders, each at the format that it would take.
    again
        The verdicts at a format.

    Returns
    -------
    list[Verdict], str or None
        At the smallest of their formats that all of them run, and its id; as they were, and None, where they agree or where
        there is no such format (AWQ against GGUF).
    """
    formats = {str(verdict.inputs.quantization) for verdict in verdicts if verdict.inputs.quantization}
    if len(formats) < 2:
        return list(verdicts), None
    ordered = sorted(formats, key=lambda name: (catalog.quantizations[name].quality_rank, name))
    for name in ordered:
        tried = list(again(name))
        if all(tried):
            return tried, name
    return list(verdicts), None
