"""The page: nothing from a network, controls with labels, and what it does in a browser."""

import json
import re
from html.parser import HTMLParser

import pytest
from helpers.browser import Browser, installed

from lossweave.studies.simulate.findings import words_of
from lossweave.studies.simulate.page import page_text, plotly_script
from lossweave.studies.simulate.problems import problem
from lossweave.studies.simulate.study import simulate_combiner

NAMES = ("Max", "Sum", "Product")
SCALES = (0.01, 1.0, 100.0)


@pytest.fixture(scope="module")
def combiners():
    found = [simulate_combiner(name, SCALES, seed=0, steps=5, settle=2) for name in NAMES]
    for one in found:
        one["answer"]["words"] = words_of(one["answer"], 2)
    return found


@pytest.fixture(scope="module")
def problems():
    return [problem("toy"), problem("least-squares")]


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def own(combiners, problems):
    """The page without plotly's script."""
    return page_text(combiners, problems, SCALES, "// plotly")


def test_nothing_comes_from_a_network(own):
    elements = Elements()
    elements.feed(own)
    for tag, attributes in elements.found:
        assert not {"src", "href", "srcset", "action", "data"} & set(attributes), (tag, attributes)
        assert tag not in ("link", "iframe", "img", "object", "embed"), tag
    assert not re.search(r"https?:|//cdn|@import|url\(|fetch\(|XMLHttpRequest|import\(", own)


def test_a_policy_forbids_the_network(own):
    elements = Elements()
    elements.feed(own)
    policies = [a["content"] for tag, a in elements.found if a.get("http-equiv")]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "http" not in policies[0]


def test_every_control_has_a_label(own):
    elements = Elements()
    elements.feed(own)
    labelled = {a["for"] for tag, a in elements.found if tag == "label"}
    selects = {a["id"] for tag, a in elements.found if tag == "select"}
    assert selects == labelled == {
        "combiner", "scale", "start", "problem", "optimizer", "quantity"
    }  # fmt: skip
    for tag, attributes in elements.found:
        assert tag != "button" or attributes["type"] == "button"
        assert "tabindex" not in attributes  # the order of the page is the order of the keys


def test_data_is_in_the_page(own, combiners):
    content = re.search(r'<script type="application/json" id="data">(.*?)</script>', own, re.S)
    data = json.loads(content[1])
    assert [one["name"] for one in data["combiners"]] == list(NAMES)
    assert data["scales"] == list(SCALES)
    assert data["first"] == "Sum"
    assert len(data["combiners"][0]["paths"]) == 2 * 2 * 3 * 3
    assert [len(p["starts"]) for p in data["problems"]] == [3, 3]


def test_markup_in_the_data_does_not_end_the_script(combiners, problems):
    named = [{**combiners[0], "name": "</script><b>"}]
    page = page_text(named, problems, SCALES, "// plotly")
    assert page.count("</script>") == 3


def test_plotly_is_whole_and_cannot_end_its_script():
    script = plotly_script()
    assert len(script) > 1_000_000
    assert "</script" not in script


@pytest.mark.skipif(not installed(), reason="no Chromium with its driver is installed")
def test_in_a_browser_by_keyboard(combiners, problems, tmp_path):
    file = tmp_path / "simulate.html"
    file.write_text(page_text(combiners, problems, SCALES, plotly_script()), encoding="utf-8")
    with Browser() as browser:
        browser.open(f"{file.as_uri()}#Product")
        assert browser.run("return document.body.dataset.ready") == "yes"
        assert browser.errors() == []
        assert browser.text("#verdict").startswith("Product. The step grows as the square")
        for plot in ("field", "way", "losses"):
            assert browser.run(f"return document.querySelectorAll('#{plot} .main-svg').length") > 0
        assert browser.run("return performance.getEntriesByType('resource').length") == 0

        browser.press("Tab")  # into the first control
        assert browser.run("return document.activeElement.id") == "combiner"
        browser.press("ArrowUp")
        assert browser.text("#verdict").startswith("Sum. ")
        assert browser.run("return location.hash") == "#Sum"
        browser.press("Tab", "Tab", "Enter")  # the button to the next one
        assert browser.text("#verdict").startswith("Product. ")

        browser.press("Tab")
        assert browser.run("return document.activeElement.id") == "scale"
        browser.press("ArrowDown")
        assert "100 : 1" in browser.text("#way .gtitle")
        browser.press("Tab", "ArrowDown")  # one start
        assert browser.text("#ends").count("From") == 1
        browser.press("Tab", "ArrowDown")  # the other problem
        assert browser.text("#ends").startswith("From (-6, 5)")
        browser.press("Tab", "ArrowUp")
        assert browser.text("#way .gtitle").startswith("gradient descent")
        browser.press("Tab", "ArrowDown")
        assert browser.text("#field .gtitle") == "weight of the first loss"
        assert browser.errors() == []
        assert browser.screenshot().startswith(b"\x89PNG")
