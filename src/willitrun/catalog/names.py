"""Names people type, made comparable."""

from __future__ import annotations

import re
from difflib import get_close_matches

__all__ = ["name_variants", "normalise_name", "suggest"]

_SEPARATORS = re.compile(r"[\s_\-()\[\],:®™]+")
_VENDOR = re.compile(
    r"^(?:nvidia-geforce|nvidia-tesla|nvidia-quadro|nvidia|amd-radeon|amd-instinct|amd|intel|apple|geforce|radeon)-"
)
_MEMORY = re.compile(r"-\d+gb$")
_FORM = re.compile(r"-(?:sxm\d?|pcie|nvl|oam|\d+gpu|hbm\d?e?|per-gpu)$")


def normalise_name(name: str) -> str:
    """Lower case, one hyphen for every run of separators.

    >>> normalise_name("NVIDIA GeForce  RTX_4090"), normalise_name("Llama 3.1:8b")
    ('nvidia-geforce-rtx-4090', 'llama-3.1-8b')
    """
    return _SEPARATORS.sub("-", name.strip().lower()).strip("-")


def name_variants(identifier: str) -> set[str]:
    """Shorter spellings of a device id that several devices may share.

    They only ever lead to a question ("which of these?") or to the one device that they fit.

    >>> sorted(name_variants("nvidia-a100-pcie-40gb"))
    ['a100', 'a100-pcie', 'a100-pcie-40gb', 'nvidia-a100', 'nvidia-a100-pcie']
    """
    found: set[str] = set()
    queue = [identifier]
    while queue:
        name = queue.pop()
        for pattern in (_VENDOR, _MEMORY, _FORM):
            shorter = pattern.sub("", name)
            if shorter != name and shorter not in found and any(char.isdigit() for char in shorter):
                found.add(shorter)
                queue.append(shorter)
    return found


def suggest(name: str, known: list[str], most: int = 5) -> tuple[str, ...]:
    """Near spellings of a normalised name, best first."""
    inside = [other for other in known if name and name in other]
    close = get_close_matches(name, known, n=most, cutoff=0.6)
    ranked = dict.fromkeys([*close, *sorted(inside, key=len)])
    return tuple(ranked)[:most]
