"""All comparisons in two tables: which methods stand where, with which interval."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.comparison_scores import plain_scores

from lossweave.studies.compare.evidence import (
    Compared,
    methods_table,
    tiers_table,
    write_evidence,
)
from lossweave.studies.compare.findings import find
from lossweave.studies.compare.over_tiers import over_tiers
from lossweave.studies.compare.tiers import Tier
from lossweave.studies.runs.method import Method, Score

SUMS = ("Sum", "Sum weights=[1,2]")


def _compared(name: str, scores: list[Score]) -> Compared:
    methods = [Method.parse(text) for text in dict.fromkeys(score.method for score in scores)]
    found = find(methods, scores, {})
    return Compared(Tier.of(name, f"{name}.py", found), found)


def _cells(table: str, first: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {first}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


#: The tuned sum is [1,2], 0.1 below the plain one on test.
SMALL = _compared("small", plain_scores())
LARGE = _compared("large", [s for s in plain_scores() if s.method in SUMS])
ONE = _compared("one", [s for s in plain_scores() if s.method in SUMS or s.seed == 1])


def test_a_row_a_tier() -> None:
    cells = _cells(tiers_table([SMALL, LARGE], "docs"), "[small (small)](docs/small/comparison.md)")
    assert cells[1:3] == ["3 x 3", "`Sum weights=[1,2]` 0.503"]
    assert cells[3] == "**+0.100 ± 0.001**" and cells[4] == f"`Sum` {cells[3]}"
    assert cells[5] == "2, 0 of 2"
    assert float(cells[6]) == pytest.approx(SMALL.found.many.smallest, abs=5e-4)


def test_a_row_a_method() -> None:
    table = methods_table([SMALL, LARGE], ".")
    *rows, _, said = table.splitlines()[2:]
    methods = [line.split("`")[1] for line in rows]
    assert methods == ["Sum", "Sum weights=[1,2]", "DWA"]  # two tiers have the first two
    assert _cells(table, "`DWA`")[1:] == ["**+0.030 ± 0.001**", "", ""]
    assert _cells(table, "`Sum weights=[1,2]`")[1:] == ["the tuned sum", "the tuned sum", ""]
    assert said.endswith("its tuned sum: `Sum` (2 tiers), `Sum weights=[1,2]` (2 tiers).")


def test_a_method_over_three_tiers() -> None:
    low = [replace(s, test=s.test - 0.03) if s.method == "Sum" else s for s in plain_scores()]
    tiers = [SMALL, LARGE, _compared("low", low)]
    errors = [tier.error("Sum") for tier in tiers]
    mean, half = over_tiers([0.1, 0.1, 0.07], errors)
    assert _cells(methods_table(tiers, "."), "`Sum`")[-1] == f"{mean:+.3f} ± {half:.3f}"
    assert errors[0] == pytest.approx(SMALL.found.many.sd / 3**0.5)


def test_what_a_tier_shows_to_be_below_is_not_among_the_others() -> None:
    low = [replace(s, test=s.test - 0.3) if s.method == "Sum" else s for s in plain_scores()]
    table = methods_table([SMALL, _compared("low", low)], ".")
    said = table.splitlines()[-1]
    assert "`DWA` (2 tiers)" in said and "`Sum` (" not in said


def test_a_method_with_one_seed_is_not_shown() -> None:
    assert set(ONE.others) == {"Sum"}
    assert "DWA" not in methods_table([ONE], ".")
    assert _cells(tiers_table([ONE], "."), "[one")[5] == "1, 0 of 1"


def test_a_tier_of_one_sum_has_nothing_beside_it() -> None:
    alone = _compared("alone", [s for s in plain_scores() if s.method == "Sum"])
    assert _cells(tiers_table([alone], "."), "[alone")[3:] == [
        "the tuned sum", "-", "0, 0 of 0", "-",
    ]  # fmt: skip


def test_links_lead_from_the_page_to_the_folder(tmp_path: Path) -> None:
    page = tmp_path / "guides" / "page.md"
    page.parent.mkdir()
    page.write_text("<!-- tiers, by make results -->\n<!-- end of tiers -->\n")
    assert write_evidence([SMALL], tmp_path / "results", [page, tmp_path / "no.md"]) == ["tiers"]
    assert "(../results/small/comparison.md)" in page.read_text()
