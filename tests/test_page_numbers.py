"""Every number on a page that people wrote is computed when the page is built, or listed with what it rests on."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
if not DOCS.is_dir():
    pytest.skip("the documentation is not part of this distribution", allow_module_level=True)

sys.path.insert(0, str(DOCS / "extensions"))
figures: Any = import_module("figures")

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "catalogs/README.md", "accuracy/README.md")),
    *sorted(
        page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0] not in ("catalog", "_build")
    ),
]
LISTED: list[dict[str, Any]] = tomllib.loads((DOCS / "numbers.toml").read_text("utf-8"))["number"]

# What holds digits and is no amount: layout, addresses, formulas, dates, list numbers.
LAYOUT = re.compile(
    r"\A---\n.*?\n---\n|^:{3,}.*$|^:[\w-]+:.*$|\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)|<?https?://\S+|&\w+;"
    r"|^#+ \d+\. |^\s*\d+\. |\b(?:19|20)\d\d(?:-\d\d-\d\d)?\b",
    re.M | re.S,
)
# Names that end in a number: products, versions of programs, threads, sizes of models, widths of numbers, batch 1.
NAME = re.compile(
    r"\b(?:RTX|GTX|RX|Arc|Intel Max|Zen|PyTorch|Python|OpenJDK|Gemma|LLaVA|PCIe|PR|issue|[Bb]atch)\s\d[\d.]*"
    r"(?:\s(?:x\d+|and \d+))?|\b\d+(?:\.\d+)?B\b|\b\d+-bit\b|(?!x\d)[A-Za-z][\w.]*-?\d[\w.-]*"
)
WORDS = (
    "eight nine ten eleven twelve fifteen sixteen twenty thirty forty fifty sixty seventy eighty ninety hundred "
    "thousand million billion"
)
SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9}
NUMBER = re.compile(
    rf"(?<![\w.])x?\d[\d,]*(?:\.\d+)?(?: (?:{'|'.join(SCALES)})\b)?|\b(?:{'|'.join(WORDS.split())})\b", re.I
)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def bare_numbers(text: str) -> list[re.Match[str]]:
    """Numbers of a page's prose that nothing computes."""
    prose = figures.EXPRESSION.sub(blank, figures.without_code(text))
    for pattern in (LAYOUT, NAME):
        prose = pattern.sub(blank, prose)
    return list(NUMBER.finditer(prose))


def rows_of(page: Path) -> list[dict[str, Any]]:
    return [row for row in LISTED if row["page"] == name(page)]


def value_of(text: str) -> tuple[float, float]:
    """A number as it is written, and by how much rounding may have moved it."""
    digits, _, scale = text.lower().removeprefix("x").replace(",", "").partition(" ")
    unit = SCALES.get(scale, 1.0)
    return float(digits) * unit, 0.5 * unit * 10.0 ** -len(digits.partition(".")[2])


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_file()], ids=name)
def test_no_number_stands_alone(page: Path) -> None:
    text = page.read_text("utf-8")
    places = [
        range(match.start(), match.end())
        for row in rows_of(page)
        for match in re.finditer(re.escape(row["text"]), text)
    ]
    for number in bare_numbers(text):
        line = text.count("\n", 0, number.start()) + 1
        assert any(number.start() in place for place in places), (
            f"{name(page)}:{line}: {number[0]!r} in {text[max(0, number.start() - 60) : number.end() + 30]!r} rests on "
            "nothing. Write {{ an expression }} (docs/extensions/figures.py), or list it in docs/numbers.toml."
        )


@pytest.mark.parametrize("row", LISTED, ids=lambda row: f"{row['page']}: {row['text'][:40]}")
def test_listed_numbers_hold(row: dict[str, Any]) -> None:
    text = (ROOT / row["page"]).read_text("utf-8")
    assert row["text"] in text, "no page says this any more"
    numbers = [match[0] for match in bare_numbers(row["text"])]
    assert numbers, "there is no number in it"
    assert len({"equals", "cite", "code"} & set(row)) == 1, row
    if "equals" in row:
        assert len(row["equals"]) == len(numbers), numbers
        for number, expression in zip(numbers, row["equals"], strict=True):
            said, slack = value_of(number)
            value, _ = figures.evaluate(expression)
            value = getattr(value, "best", value)
            assert abs(value - said) <= slack * 1.0001, (number, expression, value)
    elif "cite" in row:
        # The source stands beside the number: in the same paragraph, table or list.
        paragraph = next(part for part in text.split("\n\n") if row["text"] in part)
        assert row["cite"].startswith("https://"), row
        assert row["cite"] in paragraph, row
    else:
        # What a page sets for its example is what its code asks.
        blocks = "\n".join(re.findall(r"^```.*?\n(.*?)^```", text, re.M | re.S)).replace("_", "")
        for number in row["code"]:
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", blocks), number


def test_a_new_number_is_found() -> None:
    for text in (
        "It is 37 % faster.",
        "| 1,024 |",
        "about 3.5 times",
        "x1.9",
        "twelve times",
        "up to 40 tokens/s",
        "1.5x",
    ):
        assert len(bare_numbers(text)) == 1, text
    for text in (
        "RTX 4090", "`37 %`", "PyTorch 2", "2026-11-28", "{{ 2 * 3 }}", "[x](https://a.b/37)", "8B", "4-bit", "INT8",
        "llama-3.1-8b", "## 3. Title", "PCIe 4.0 x16",
    ):  # fmt: skip
        assert bare_numbers(text) == [], text


def test_expressions_of_pages_have_values() -> None:
    found = 0
    for page in PAGES:
        if page.is_file() and figures.EXPRESSION.search(figures.without_code(page.read_text("utf-8"))):
            shown = figures.render_page(page.read_text("utf-8"))
            assert not figures.EXPRESSION.search(figures.without_code(shown)), page
            found += 1
    assert found >= 10


def test_code_is_not_evaluated() -> None:
    assert (
        figures.render_page("`{{ 1 + 1 }}` {{ 1 + 1 }}\n```\n{{ 2 }}\n```\n")
        == "`{{ 1 + 1 }}` 2\n```\n{{ 2 }}\n```\n"
    )
    assert figures.render_page("{{ 10 / 3 :.2f }}") == "3.33"


def test_recorded_results_say_how_they_were_made() -> None:
    quoted = "\n".join(page.read_text("utf-8") for page in PAGES if page.is_file()) + (
        DOCS / "numbers.toml"
    ).read_text("utf-8")
    for key, row in figures.results().items():
        if key == "targets":
            continue
        program = re.match(r"python (?:-m ([\w.]+)|(\S+)\.py)", row["command"])
        assert program, key
        assert (ROOT / f"{(program[1] or program[2]).replace('.', '/')}.py").is_file(), key
        assert row["date"], key
        for figure in row["figures"]:
            assert re.search(rf'result\(\\?"{key}\\?", \\?"{figure}\\?"\)', quoted), (
                key,
                figure,
                "no page quotes it",
            )
