"""The documentation's site: it builds strictly, links lead somewhere, and it needs no network."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from helpers import browser
from helpers.combiner_cases import registered, registered_gradient

pytestmark = pytest.mark.xdist_group("site")  # one worker builds it, once
ROOT = Path(__file__).parents[2]
#: What a browser fetches by itself when it shows a page.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src",
           "link": "href", "object": "data"}  # fmt: skip


class Page(HTMLParser):
    """What a page fetches, where its links lead, and its anchors."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if said.get("id"):
            self.anchors.add(said["id"])
        if tag in FETCHED and FETCHED[tag] in said:
            self.fetched.append(said[FETCHED[tag]])
        if tag == "a" and said.get("href"):
            self.links.append(said["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    target = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", target],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return target


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file.resolve(): Page(file) for file in site.rglob("*.html")}


def test_nothing_is_fetched_from_a_network(site: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) > 80
    for file, page in pages.items():
        assert page.fetched, file
        outside = [url for url in page.fetched if re.match(r"(https?:)?//", url)]
        assert not outside, f"{file.name}: {outside}"
    for style in site.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^)\"']*)",
                           style.read_text(encoding="utf-8"))  # fmt: skip
        assert not found, f"{style.name}: {found}"


def test_what_is_fetched_and_linked_is_there(site: Path, pages: dict[Path, Page]) -> None:
    inner = 0
    for file, page in pages.items():
        if file.name == "404.html":  # it stands for any address, so its links are absolute
            continue
        for url in (*page.fetched, *page.links):
            path, _, anchor = unquote(url).partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            target = (file.parent / path.partition("?")[0]).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{file.relative_to(site.resolve())}: {url}"
            if anchor and target in pages:
                assert anchor in pages[target].anchors, f"{file.name}: {url}"
            inner += 1
    assert inner > 5000


def test_every_combiner_has_a_page_from_its_docstring(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    for name in (*registered(), *registered_gradient()):
        text = (site / "combiners" / f"{name}.html").read_text(encoding="utf-8")
        assert f"combiners/{name}.html" in home, f"{name} is not in the navigation"
        assert re.search(rf'id="lossweave\.combiners\.\w+\.\w+\.{name}"', text), name
        for left in ("made by `make docs`", ":math:", "arithmatex"):
            assert left not in text, (name, left)


def test_formulas_need_no_script(site: Path) -> None:
    text = (site / "combiners" / "UncertaintyWeighting.html").read_text(encoding="utf-8")
    assert "<math" in text and "<mfrac>" in text


@pytest.mark.skipif(not browser.installed(), reason="no browser with its driver on this machine")
def test_from_a_file_a_browser_shows_it_and_searches_it(site: Path) -> None:
    with browser.Browser() as chromium:
        chromium.open((site / "combiners" / "UncertaintyWeighting.html").as_uri())
        assert chromium.text("h1").startswith("UncertaintyWeighting")
        found = chromium.run("""
            const box = document.querySelector("[data-md-component=search-query]");
            box.focus(); box.value = "GradNorm"; box.dispatchEvent(new Event("keyup"));
            return new Promise((done) => {
              const look = () => {
                const links = [...document.querySelectorAll(".md-search-result__link")];
                if (links.length) done(links.map((link) => link.href));
                else setTimeout(look, 100);
              };
              look(); setTimeout(() => done([]), 20000);
            });""")
        assert any("GradNorm.html" in link for link in found), found
        assert chromium.errors() == []
