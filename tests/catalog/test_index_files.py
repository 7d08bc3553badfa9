"""Entries are found by their lines, whole files are read by JSON: both say the same."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.catalog import load_catalog
from willitrun.catalog.index_files import MOST_SEARCHES, SMALL, IndexFile, render
from willitrun.catalog.layout import KINDS

KEYS = st.text(max_size=12)
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
FILLER = {f"filler-{number}": "x" * 64 for number in range(SMALL // 64)}


@given(st.dictionaries(KEYS, VALUES, max_size=6), KEYS)
def test_an_entry_is_what_the_whole_file_says(entries, absent):
    data = render(entries, sections=False).encode()
    assert json.loads(data) == entries
    file = IndexFile(data)
    for key in [*entries, absent, *reversed(entries)]:
        assert file.entry(key) == entries.get(key)
    assert IndexFile(data).document() == entries


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.dictionaries(KEYS, VALUES, max_size=4), KEYS)
def test_sections_are_kept_apart(first, second, absent):
    document = {"ids": {**first, **FILLER}, "names": second, "empty": {}}
    file = IndexFile(render(document, sections=True).encode())
    for key in [*first, *second, absent]:
        for section, entries in document.items():
            assert file.entry(key, section=section) == entries.get(key)
        assert file.entry(key, section="none") is None
    assert file.all("names") == second


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_line_ends_of_a_checkout_do_not_matter(line_end):
    text = render({"names": {"a": [1], "b": [2], **FILLER}}, sections=True).replace("\n", line_end)
    file = IndexFile(text.encode())
    assert file.entry("a", section="names") == [1]
    assert file.entry("b", section="names") == [2]


def test_json_written_by_another_hand_is_read():
    file = IndexFile(json.dumps({"names": {"a": [1], **FILLER}}).encode())
    assert file.entry("a", section="names") == [1]


def test_many_searches_parse_the_file_under_the_hands_of_others():
    entries = {f"key-{number}": number for number in range(4000)}
    file = IndexFile(render({"ids": entries}, sections=True).encode())
    keys = list(entries)[:: 4000 // (4 * MOST_SEARCHES)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda key: file.entry(key, section="ids"), keys * 4))
    assert found == [entries[key] for key in keys] * 4


def test_every_record_is_found_in_any_order():
    catalog = load_catalog()
    for kind in KINDS:
        table = catalog.table(kind)
        for identifier in [*table][::-7]:
            assert table.raw(identifier)
            assert identifier in table
        assert "no-such-record" not in table
        with pytest.raises(KeyError):
            table.raw("no-such-record")
