"""Ranks of two tiers: tau, its interval, and where nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from lossweave.studies.compare.tiers import Tier, ranks_of, tiers_text, write_tiers

METHODS = ("Sum", "DWA", "FAMO", "MGDA", "Min", "Max", "PBI", "CoV")


def _tier(name: str, *scores: float) -> Tier:
    found = dict(zip(METHODS, scores, strict=False))
    return Tier(name, f"{name}.py", found, dict.fromkeys(found, 2))


SMALL = _tier("small", 0.39, 0.38, 0.37, 0.30, 0.20, 0.10, 0.05, 0.01)
LARGE = _tier("large", 0.64, 0.65, 0.60, 0.50, 0.45, 0.30, 0.28, 0.10)
OTHER = _tier("other", 0.10, 0.60, 0.20, 0.50)


def test_tau_and_its_interval() -> None:
    (ranks,) = ranks_of([SMALL, LARGE])
    a, b = (list(tier.scores.values()) for tier in (SMALL, LARGE))
    assert ranks.tau == stats.kendalltau(a, b).statistic == pytest.approx(26 / 28)
    assert 0 < ranks.low < ranks.tau < ranks.high <= 1
    assert ranks.methods[0] == "Sum" and len(ranks.methods) == 8
    assert ranks_of([SMALL, LARGE]) == [ranks]  # the draws are the same
    assert "The ranks of small predict those of large (tau +0.93)." in tiers_text([ranks])


def test_ranks_that_are_not_shown_to_hold() -> None:
    (ranks,) = ranks_of([SMALL, OTHER])
    assert ranks.tau == pytest.approx(-1 / 3) and ranks.low < 0
    text = tiers_text([ranks])
    assert "The ranks of small are not shown to predict those of other (tau -0.33)." in text
    assert "Sum (2 and 2); DWA (2 and 2); FAMO" in text


def test_few_methods_or_one_detector_say_nothing(tmp_path: Path) -> None:
    few = _tier("few", 0.3, 0.2, 0.1)
    same = Tier("again", SMALL.config, SMALL.scores, SMALL.seeds)
    assert ranks_of([SMALL, few]) == [] == ranks_of([SMALL, same])
    assert not write_tiers([SMALL, few, same], tmp_path) and not list(tmp_path.iterdir())


def test_the_page_is_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert write_tiers([SMALL, LARGE, OTHER], tmp_path / name)
    for file in ("tiers.md", "tiers.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
