"""The built site as a reader meets it: pages load, links lead somewhere, search finds, a phone can read it."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest

from willitrun import Workload, assess
from willitrun.catalog import load_catalog

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
# One page of every kind that the site has.
PAGES = (
    "index.html",
    "tutorials/index.html",
    "tutorials/first-verdict.html",
    "how-to/index.html",
    "explanation/index.html",
    "explanation/llm-speed.html",
    "explanation/verdicts.html",
    "explanation/decisions/index.html",
    "reference/index.html",
    "reference/api.html",
    "catalog/index.html",
    "catalog/glossary/index.html",
    "catalog/glossary/in-memory.html",
    "catalog/glossary/kv-cache.html",
    "catalog/glossary/imagenet.html",
    "catalog/troubleshooting/index.html",
    "catalog/troubleshooting/cuda-out-of-memory.html",
    "catalog/hardware/index.html",
    "catalog/guides/best-gpu.html",
    "catalog/methods/llm-speed.html",
    "catalog/models/index.html",
    "catalog/accuracy/index.html",
    "catalog/sources.html",
)


class Anchors(HTMLParser):
    """The links, pictures and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what leads somewhere and what can be led to."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.ids.add(value)
            elif (tag, name) in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
                self.links.append(value)


@pytest.fixture(scope="session")
def read(site: Path) -> dict[str, Anchors]:
    found = {}
    for file in site.rglob("*.html"):
        if file.relative_to(site).parts[0] == "_static":  # templates of the theme
            continue
        parser = Anchors()
        parser.feed(file.read_text("utf-8"))
        found[file.relative_to(site).as_posix()] = parser
    return found


def test_there_is_a_page_for_every_entry(read: dict[str, Anchors]) -> None:
    catalog = load_catalog()
    for kind in ("glossary", "troubleshooting"):
        missing = [name for name in catalog.table(kind) if f"catalog/{kind}/{name}.html" not in read]
        assert missing == []


def test_the_links_of_verdicts_open_pages(read: dict[str, Anchors]) -> None:
    cases = [
        ("llama-3.1-8b", Workload(context_tokens=8192)),
        ("llama-3.3-70b", Workload(context_tokens=131072)),
        ("resnet-50", Workload(batch_size=1)),
        ("resnet-50", Workload(batch_size=256)),
        ("sdxl", None),
        ("whisper-large-v3", None),
    ]
    links = {
        link.page: link.title
        for (model, load), machine in product(cases, ("rtx-4090", "gtx-1650", "m3-max-40gpu", "rx-7900-xtx"))
        for link in assess(model, machine, load).links
    }
    assert len(links) >= 20
    assert [page for page in links if page not in read] == []


def test_no_internal_link_is_broken(site: Path, read: dict[str, Anchors]) -> None:
    assert len(read) > 400
    broken = []
    for page, parser in read.items():
        for link in parser.links:
            if "://" in link or link.startswith(("mailto:", "data:", "javascript:")):
                continue
            target, anchor = urldefrag(unquote(link).partition("?")[0] if "?" in link else unquote(link))
            file = (site / page).parent / target if target else site / page
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file():
                broken.append(f"{page}: {link}")
                continue
            name = file.resolve().relative_to(site).as_posix()
            if anchor and name in read and anchor not in read[name].ids:
                broken.append(f"{page}: {link} (no such anchor)")
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(read: dict[str, Anchors], site: Path) -> None:
    """Scripts, styles and pictures come with the site: it reads the same without a network."""
    for file in site.rglob("*.html"):
        text = file.read_text("utf-8")
        for start in ('<script src="http', '<link rel="stylesheet" href="http', '<img src="http', "@import"):
            assert start not in text, (file.name, start)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_whole(page: str, address: str, browser: Any) -> None:
    browser.get_log("browser")
    browser.get(f"{address}/{page}")
    assert browser.title
    assert browser.find_element("css selector", "h1").text
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    sizes = browser.execute_script(
        "return [...document.images].map(i => [i.src, i.complete && i.naturalWidth])"
    )
    assert all(width for _, width in sizes), sizes
    foreign = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(location.origin))"
    )
    assert [name for name in foreign if not name.startswith("data:")] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_shows_a_page_without_scrolling_sideways(page: str, address: str, browser: Any) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        browser.get(f"{address}/{page}")
        wide, shown = browser.execute_script(
            "return [document.documentElement.scrollWidth, window.innerWidth]"
        )
        assert shown == PHONE["width"]
        assert wide <= shown
        size = browser.execute_script(
            "return getComputedStyle(document.querySelector('article p, article li')).fontSize"
        )
        assert float(size.removesuffix("px")) >= 14
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def searched(browser: Any, address: str, words: str) -> list[str]:
    """Addresses that the site's own search finds."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{address}/search.html?q={words.replace(' ', '+')}")
    wait = WebDriverWait(browser, 30)
    wait.until(lambda page: page.find_elements("css selector", "#search-results ul.search li a"))
    return [
        link.get_attribute("href")
        for link in browser.find_elements("css selector", "#search-results ul.search li a")
    ]


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("KV cache", "catalog/glossary/kv-cache.html"),
        ("CUDA out of memory", "catalog/troubleshooting/cuda-out-of-memory.html"),
        ("ImageNet", "catalog/glossary/imagenet.html"),
        ("PagedAttention", "catalog/glossary/paged-attention.html"),
    ],
)
def test_search_finds(words: str, page: str, address: str, browser: Any) -> None:
    first = searched(browser, address, words)[:5]
    assert any(page in link for link in first), first


def test_figures_are_present(read: dict[str, Anchors], site: Path) -> None:
    """The pictures that people look for are drawn, and are drawings of something."""
    pictures = [
        (page, link)
        for page, parser in read.items()
        for link in parser.links
        if link.endswith((".svg", ".png")) and "_images" in link
    ]
    assert len({link for _, link in pictures}) >= 4
    for page, link in pictures:
        assert (site / page).parent.joinpath(link).resolve().stat().st_size > 2000, (page, link)
