"""Which records a question names: the longest run of words that leads to a model, and those that lead to machines."""

from __future__ import annotations

import re
from collections.abc import Iterable

from willitrun.catalog import Catalog
from willitrun.frozen import frozen
from willitrun.records.answers import Choice

__all__ = ["NamedMachine", "apple_of_memory", "find_machines", "find_model"]

_WORD = re.compile(r"[a-z0-9][a-z0-9.+_/:-]*[a-z0-9+]|[a-z0-9]")
_LONGEST = 7
_MAKERS = {"nvidia", "geforce", "amd", "radeon", "intel", "apple", "tesla", "quadro", "instinct", "arc", "rtx", "gtx", "rx",
           "macbook", "pro", "mac", "mini", "studio", "imac", "air", "gpu", "card"}  # fmt: skip
_PREFIXES = ("", "rtx-", "gtx-", "rx-", "arc-", "radeon-rx-", "tesla-", "apple-")
# Words of a line of computers that the ids of their chips do not have.
_LINES = {"card", "gpu", "macbook", "mac", "mini", "studio", "imac", "air"}
_NUMBER_ONLY = re.compile(r"\d{1,2}|\d{5,}|\d+(?:gb|gib|g|k|b|m|x|bit)")
_MODEL_NUMBER = re.compile(r"[a-z]{1,4}\d{1,4}[a-z]{0,2}|\d{3,4}")
_SIZE = re.compile(r"(\d{1,4})(?:gb|gib|g)")
# Words between a name and its memory: "an M4 Pro with 24 GB".
_JOINING = {"with", "having", "has"}
_MAC = re.compile(r"\b(?:macbook(?: air| pro)?|mac ?(?:mini|studio|pro)|imac|mac)\b")
_COUNTS = {
    "a": 1,
    "one": 1,
    "two": 2,
    "dual": 2,
    "pair": 2,
    "three": 3,
    "four": 4,
    "quad": 4,
    "six": 6,
    "eight": 8,
}
# Words of a product's name that make it another product: never taken unless said.
_SPECIAL = {
    "laptop",
    "max-q",
    "mobile",
    "d",
    "ti",
    "super",
    "ultra",
    "max",
    "pro",
    "xt",
    "xtx",
    "gre",
    "sff",
    "nvl",
    "pcie",
    "ada",
}
# English words that begin the names of models.
_ENGLISH = {"all", "open", "seed", "foundation", "tiny", "wide", "test", "legacy", "nest", "command", "agents", "step", "solar", "opt",
            "twins", "mixer", "sequencer", "lambda", "reflection", "sam", "jan", "dots", "ai", "e", "t", "z", "res", "nf", "cs",
            "multilingual", "coat", "pit", "ling", "sana", "next", "maya", "nous", "kat", "ese", "eca", "dm"}  # fmt: skip
_MOST_OTHERS = 5


@frozen
class NamedMachine:
    """An accelerator that was named: its id, how many, the memory said with it [GiB]."""

    id: str
    count: int = 1
    memory_gib: int | None = None
    host: bool = False


def _windows(words: list[str]) -> Iterable[tuple[int, int]]:
    for length in range(min(_LONGEST, len(words)), 0, -1):
        for start in range(len(words) - length + 1):
            yield start, start + length


def _spelled(words: list[str]) -> list[str]:
    """Ways to write a run of words as one name: as it is, a digit set apart from letters, all in one."""
    joined = "-".join(words)
    apart = re.sub(r"^([a-z]+)(\d)", r"\1-\2", joined)
    return list(
        dict.fromkeys(
            (joined, apart, "".join(words), "".join(words[:2]) + "".join(f"-{w}" for w in words[2:]))
        )
    )


def find_model(text: str, catalog: Catalog) -> tuple[str | None, str, Choice | None]:
    """The model that a text names, the text without its name, and the choice that was made where several fit."""
    tokens = [(match[0], match.start(), match.end()) for match in _WORD.finditer(text)]
    words = [token[0].rstrip(".:") for token in tokens]

    def without(start: int, end: int) -> str:
        return f"{text[: tokens[start][1]]} | {text[tokens[end - 1][2] :]}"

    for start, end in _windows(words):
        for name in _spelled(words[start:end]):
            if len(name) < 3 or not re.search("[a-z]", name) or name in _ENGLISH:
                continue
            ids = catalog.models.named(name)
            if not ids and "/" in name:
                ids = tuple(
                    sorted({catalog.checkpoints[found].model for found in catalog.checkpoints.named(name)})
                )
            if len(ids) == 1:
                return ids[0], without(start, end), None
            if ids:
                best = _likeliest(ids, catalog)
                return best, without(start, end), _choice(" ".join(words[start:end]), best, ids)
    return _near_model(words, without, catalog)


def _near_model(words: list[str], without: object, catalog: Catalog) -> tuple[str | None, str, Choice | None]:
    """A family and some of the rest of a name: ``llama 8b``."""
    assert callable(without)
    parts = catalog.remember(
        "answers.model-parts", lambda: {name: frozenset(_parts(name)) for name in catalog.models}
    )
    families = catalog.remember(
        "answers.families",
        lambda: {re.match("[a-z]*", name)[0] for name in catalog.models} - _ENGLISH - {""},  # type: ignore[index]
    )
    for start, end in _windows(words):
        said = {part for word in words[start:end] for part in _parts(word)}
        family = re.match("[a-z]*", words[start])
        if family is None or family[0] not in families or end - start > 4:
            continue
        ids = tuple(name for name, own in parts.items() if said <= own and name.startswith(family[0]))
        if ids:
            fewest = min(len(parts[name] - said) for name in ids)
            near = tuple(name for name in ids if len(parts[name] - said) == fewest)
            best = _likeliest(near, catalog)
            return (
                best,
                without(start, end),
                _choice(" ".join(words[start:end]), best, ids) if len(ids) > 1 else None,
            )
    return None, " ".join(words), None


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[-_/: ]|(?<=[a-z]{2})(?=\d)", name) if part]


def _likeliest(ids: Iterable[str], catalog: Catalog) -> str:
    """The newest; of those the one that people measure, then the shortest name."""
    return min(ids, key=lambda name: (-_released(name, catalog), len(name), name))


def _released(name: str, catalog: Catalog) -> int:
    said = str(catalog.models.raw(name).get("released") or "0")
    return int(said.replace("-", "")[:8] or 0)


def _choice(said: str, taken: str, ids: Iterable[str]) -> Choice:
    return Choice(
        said=said,
        taken=taken,
        others=tuple(name for name in sorted(ids, key=lambda n: (len(n), n)) if name != taken)[:_MOST_OTHERS],
    )


def find_machines(text: str, catalog: Catalog) -> tuple[list[NamedMachine], str, list[Choice]]:
    """All machines that a text names in order, the text without them, and the choices that were made."""
    found: list[tuple[int, NamedMachine]] = []
    choices: list[Choice] = []
    # A count that is written together with what it counts: "2x3090", "8xh100".
    text = re.sub(r"\b(\d{1,2})\s?[x×](?=[a-z]{1,3}\d|\d{3,4}\b)", r"\1 x ", text)
    words = [match[0].rstrip(".:") for match in _WORD.finditer(text)]
    taken = [False] * len(words)
    for start, end in _windows(words):
        if any(taken[start:end]):
            continue
        memory, first, places = _memory_beside(words, start, end, taken)
        hit = _machine(words[start:end], memory, catalog)
        if hit is None:
            continue
        identifier, host, choice = hit
        for place in places:
            taken[place] = True
        count, first = _count_before(words, first)
        found.append((start, NamedMachine(identifier, count, memory, host)))
        if choice is not None:
            choices.append(choice)
        for place in range(first, end):
            taken[place] = True
    found.sort(key=lambda pair: pair[0])
    rest = " ".join(word for word, gone in zip(words, taken, strict=True) if not gone)
    return [machine for _, machine in found], rest, choices


def _count_before(words: list[str], start: int) -> tuple[int, int]:
    """How many are said before a name, and where the saying begins."""
    for back in (1, 2):
        if start < back:
            break
        word = words[start - back]
        match = re.fullmatch(r"(\d{1,2})x?", word)
        if match and (back == 1 or words[start - 1] in ("x", "×", "of")):
            return max(int(match[1]), 1), start - back
        if word in _COUNTS and word != "a" and (back == 1 or words[start - 1] == "of"):
            return _COUNTS[word], start - back
    return 1, start


def _memory_beside(
    words: list[str], start: int, end: int, taken: list[bool]
) -> tuple[int | None, int, tuple[int, ...]]:
    """The size said behind or before a name [GiB], where the saying begins, and the words behind that it took."""
    behind = end
    while behind < len(words) and words[behind] in _JOINING:
        behind += 1
    if behind < len(words) and (match := _SIZE.fullmatch("".join(words[behind : behind + 1]))):
        return int(match[1]), start, tuple(range(end, behind + 1))
    if behind + 1 < len(words) and (match := _SIZE.fullmatch("".join(words[behind : behind + 2]))):
        return int(match[1]), start, tuple(range(end, behind + 2))
    for length in (1, 2):
        first = start - length
        if first < 0 or any(taken[first:start]):
            break
        if match := _SIZE.fullmatch("".join(words[first:start])):
            return int(match[1]), first, ()
    return None, start, ()


def apple_of_memory(text: str, memory_gib: int, catalog: Catalog) -> tuple[str, Choice] | None:
    """The chip of a Mac of which only the line and the memory are said; the slowest that is sold with so much."""
    said = _MAC.search(text)
    if said is None:
        return None
    size = memory_gib * 2**30
    ids = [
        name
        for name, record in catalog.accelerators.items()
        if record.vendor == "apple" and size in record.unified_memory_options
    ]
    if not ids:
        return None
    slowest = min(ids, key=lambda name: (catalog.accelerators[name].memory_bandwidth or 0, name))
    return slowest, _choice(f"{said[0]}, {memory_gib} GB", slowest, ids)


def _sold_with(name: str, memory_gib: int | None, catalog: Catalog) -> bool:
    if memory_gib is None:
        return False
    record, size = catalog.accelerators[name], memory_gib * 2**30
    return size in record.unified_memory_options or size == record.memory_marketed


def _machine(
    words: list[str], memory_gib: int | None, catalog: Catalog
) -> tuple[str, bool, Choice | None] | None:
    singular = [re.sub(r"(?<=\d)s$", "", word) for word in words]
    for plain in (words, singular):
        name = "-".join(plain)
        if _NUMBER_ONLY.fullmatch(name) or not (re.search(r"\d", name) or len(words) > 1):
            return None
        for prefix in _PREFIXES:
            if ids := catalog.accelerators.named(prefix + name):
                return (
                    (ids[0], False, None) if len(ids) == 1 else _best_machine(words, ids, memory_gib, catalog)
                )
        if hosts := catalog.hosts.named(name):
            return hosts[0], True, None
    parts = catalog.remember(
        "answers.machine-parts",
        lambda: {found: frozenset(found.split("-")) for found in catalog.accelerators},
    )
    said = {part for word in singular for part in word.split("-")}
    telling = said - _MAKERS
    # A model number, or two words that only a product's name has together.
    if not any(_MODEL_NUMBER.fullmatch(part) for part in telling) and len(telling - _SPECIAL) < 2:
        return None
    asked = said - _LINES
    asked -= {"pro"} if "macbook" in said and "max" in said else set()
    ids = tuple(found for found, own in parts.items() if asked <= own)
    return _best_machine(words, ids, memory_gib, catalog) if ids else None


def _best_machine(
    words: list[str], ids: Iterable[str], memory_gib: int | None, catalog: Catalog
) -> tuple[str, bool, Choice | None]:
    """Of several products of a name: with the memory that was said, no variant that was not, one that people measure, the least memory."""
    ids = [name for name in ids if _sold_with(name, memory_gib, catalog)] or list(ids)
    said = set("-".join(words).split("-"))
    seen = {
        device
        for calibration in catalog.calibrations.values()
        for device in calibration.support.get("devices", ())
    }

    def rank(name: str) -> tuple[int, bool, float, str]:
        extra = len((set(name.split("-")) & _SPECIAL) - said)
        memory = catalog.accelerators[name].memory or 0
        return extra, name not in seen, float(memory), name

    ordered = sorted(ids, key=rank)
    plain = [name for name in ordered if rank(name)[0] == rank(ordered[0])[0]]
    choice = _choice(" ".join(words), ordered[0], plain) if len(plain) > 1 else None
    return ordered[0], False, choice
