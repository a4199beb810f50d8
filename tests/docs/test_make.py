"""The pages of the combiners, and the tables that are made from them."""

import doctest
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
from helpers.combiner_cases import registered, registered_gradient

DOCS = Path(__file__).parents[2] / "docs"


def _load() -> ModuleType:
    sys.path.insert(0, str(DOCS))  # as it has it when it is called
    spec = importlib.util.spec_from_file_location("make_docs", DOCS / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _load()
PAGES = sorted((DOCS / "combiners").glob("*.md"))


def test_nothing_is_stale() -> None:
    assert make.stale() == [], "make docs writes it anew"


def test_every_combiner_has_a_page_and_a_row_in_every_table_of_its_kind() -> None:
    assert sorted(make.names()) == sorted([*registered(), *registered_gradient()])
    tables = make.tables("")
    for name in registered():
        for block in ("families", "formulas", "edges"):
            assert tables[block].count(f"]({name}.md)") == 1, (name, block)
    for name in registered_gradient():
        for block in ("families", "combined gradients", "gradient edges"):
            assert tables[block].count(f"]({name}.md)") == 1, (name, block)


def test_a_changed_page_and_a_page_of_no_combiner_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = tmp_path / "docs" / "combiners"
    pages.mkdir(parents=True)
    for page in PAGES:
        (pages / page.name).write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(make, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(make, "PAGES", pages)
    monkeypatch.setattr(make, "TABLES", (pages / "README.md",))
    assert make.stale() == []
    text = (pages / "Sum.md").read_text(encoding="utf-8")
    (pages / "Sum.md").write_text(text.replace("| linear |", "| curved |"), encoding="utf-8")
    (pages / "Nothing.md").write_text("# Nothing\n", encoding="utf-8")
    assert make.stale() == ["docs/combiners/Nothing.md", "docs/combiners/README.md"]
    (pages / "Max.md").unlink()
    with pytest.raises(SystemExit, match=r"docs/combiners/Max\.md is missing"):
        make.stale()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page(page: Path) -> None:
    blocks = page.read_text(encoding="utf-8").split("```python\n")[1:]
    code = "\n".join(block.partition("```")[0] for block in blocks)
    test = doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), 0)
    assert bool(test.examples) == (page.stem != "README")
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert runner.run(test).failed == 0


def test_the_functions_examples() -> None:
    for module in (make, sys.modules["site_docstrings"]):
        found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
        assert found.attempted and not found.failed
