"""Print runs of words that glossary and troubleshooting share with texts that were read: nothing is copied from a source.

``python tests/catalog/check_originality.py FOLDER [FOLDER ...]`` reads the Markdown, reStructuredText, text and Python
files and the wheels under the folders. Exit code 1 if an entry shares a run of nine words with one of them.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from willitrun.catalog import load_catalog

RUN = 9
WORD = re.compile(r"[a-z0-9_.%/-]+")
TEXTS = (".md", ".mdx", ".rst", ".txt", ".py", "METADATA")


def runs(text: str) -> Iterator[tuple[str, ...]]:
    """All runs of words in a text, expressions of the engine left out."""
    words = WORD.findall(re.sub(r"\{\{.*?\}\}", " ", text.lower()))
    for start in range(len(words) - RUN + 1):
        yield tuple(words[start : start + RUN])


def ours() -> dict[tuple[str, ...], str]:
    """Run of words -> the entry that has it."""
    catalog, found = load_catalog(), {}
    for entry in dict(catalog.glossary).values():
        for text in (entry.definition, entry.explanation, entry.example, entry.workflow):
            found |= dict.fromkeys(runs(text), f"glossary:{entry.id}")
    for failure in dict(catalog.troubleshooting).values():
        texts = [failure.summary, *failure.dead_ends]
        texts += [text for cause in failure.causes for text in (cause.cause, cause.check)]
        texts += [text for fix in failure.fixes for text in (fix.fix, fix.effect)]
        for text in texts:
            found |= dict.fromkeys(runs(text), f"troubleshooting:{failure.id}")
    return found


def documents(folder: Path) -> Iterator[tuple[str, str]]:
    """Names and texts of the documents under a folder, those inside wheels too."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.suffix == ".whl":
            with zipfile.ZipFile(file) as wheel:
                for name in wheel.namelist():
                    if name.endswith(TEXTS):
                        yield f"{file.name}:{name}", wheel.read(name).decode("utf-8", "replace")
        elif file.name.endswith(TEXTS):
            yield str(file), file.read_text("utf-8", "replace")


def main(folders: list[str]) -> int:
    """Compare and print."""
    if not folders:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    known, shared, count, words = ours(), 0, 0, 0
    for folder in folders:
        for name, text in documents(Path(folder)):
            count += 1
            words += text.count(" ")
            for run in {run for run in runs(text) if run in known}:
                shared += 1
                sys.stdout.write(f"{known[run]}: {' '.join(run)} <- {name}\n")
    sys.stdout.write(f"{count} documents, about {words} words, {shared} shared runs of {RUN} words\n")
    return 1 if shared else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
