"""Ranks of two tiers: tau, its interval, and where nothing is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.comparison_scores import plain_scores
from helpers.ledger_results import result
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lossweave.studies.compare.findings import find
from lossweave.studies.compare.tiers import (
    Ranks,
    Tier,
    ranks_of,
    tiers_text,
    verdict_of,
    write_tiers,
)
from lossweave.studies.ledger.result import Machine
from lossweave.studies.runs.method import Method

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
    text = tiers_text([SMALL, LARGE], [ranks])
    assert "The ranks of small predict those of large (tau +0.93)." in text


def test_ranks_that_are_not_shown_to_hold() -> None:
    (ranks,) = ranks_of([SMALL, OTHER])
    assert ranks.tau == pytest.approx(-1 / 3) and ranks.low < 0
    text = tiers_text([SMALL, OTHER], [ranks])
    assert "The ranks of small are not shown to predict those of other (tau -0.33)." in text
    assert "Sum (2 and 2); DWA (2 and 2); FAMO" in text


def test_of_many_pairs_of_tiers_one_may_seem_to_hold_by_chance() -> None:
    """Five methods in one order have an interval above 0; six pairs spoil the probability."""
    found = [Ranks((SMALL, OTHER), METHODS[:5], 0.95, 0.71, 1.0, 0.02, 0.12)]
    assert "are not shown to predict" in verdict_of(found[0])
    three = ranks_of([SMALL, LARGE, OTHER])
    assert [ranks.corrected for ranks in three] == list(
        multipletests([ranks.p for ranks in three], method="holm")[1]
    )
    assert three[0].p < three[0].corrected < 0.05


def test_methods_that_are_equal_have_the_order_of_their_names() -> None:
    """In one process a set has one order; 8 equal names are in it as sorted once in 40320 times."""
    (ranks,) = ranks_of([_tier("even", *(0.5,) * 8), SMALL])
    assert ranks.methods == tuple(sorted(METHODS))


def test_a_tier_that_has_all_methods_alike_says_no_probability() -> None:
    (ranks,) = ranks_of([SMALL, _tier("even", *(0.5,) * 8)])
    assert "| small, even | 8 | +nan | +nan to +nan | - | - |" in tiers_text([SMALL], [ranks])


def test_few_methods_or_one_detector_say_nothing(tmp_path: Path) -> None:
    few = _tier("few", 0.3, 0.2, 0.1)
    same = Tier("again", SMALL.config, SMALL.scores, SMALL.seeds)
    assert ranks_of([SMALL, few]) == [] == ranks_of([SMALL, same])
    assert write_tiers([SMALL, few, same], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tiers.md"]
    text = (tmp_path / "tiers.md").read_text()
    assert "No two tiers of different detectors or options share 4 methods" in text
    assert not write_tiers([], tmp_path / "none")


def test_the_same_detector_under_another_optimizer_is_a_tier_of_its_own() -> None:
    options = ("optim_wrapper.optimizer.type=SGD", "optim_wrapper.optimizer.momentum=0.9")
    sgd = replace(SMALL, name="small_sgd", options=options)
    assert [ranks.tau for ranks in ranks_of([SMALL, sgd])] == [pytest.approx(1.0)]
    assert "small_sgd (small, type=SGD, momentum=0.9)" in tiers_text([SMALL, sgd], [])


def test_every_tier_has_its_verdict_and_its_cost() -> None:
    methods = [Method.parse(text) for text in ("Sum", "Sum weights=[1,2]", "DWA")]
    found = find(methods, plain_scores(), {})
    options = ("optim_wrapper.optimizer.lr=1e-3",)  # a rate makes no tier
    rows = [
        result(seconds={"training": seconds}, machine=Machine("A CPU", threads), options=options)
        for seconds, threads in ((30.0, 2), (72.0, 1), (90.0, 1))
    ]
    tier = Tier.of("screen", "some::where/retinanet_screen.py", found, rows)
    text = tiers_text([tier, LARGE], [])
    (verdict,) = [line for line in text.splitlines() if line.startswith("- **screen (retinanet_")]
    assert "Of 2 methods, corrected for their number, better than the tuned sum" in verdict
    assert f"shows an effect of {found.many.smallest:.3f} AP" in verdict
    (line,) = [line for line in text.splitlines() if line.startswith("| screen (retinanet_screen)")]
    assert line == "| screen (retinanet_screen) | 3 | 3 | 3 | a core | 72 | 60 | 50 |"
    card = replace(rows[0], machine=Machine("A CPU", 1, "A card"))
    text = tiers_text([replace(tier, accelerators=("A card",)), LARGE], [])
    assert Tier.of("screen", "retinanet_screen.py", found, [card]).accelerators == ("A card",)
    assert "| screen (retinanet_screen) | 3 | 3 | 3 | A card | 72 | 60 | - |" in text
    assert "| large (large) | 8 | 2 | - | - | - | - | - |" in text


def test_the_page_is_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert write_tiers([SMALL, LARGE, OTHER], tmp_path / name)
    for file in ("tiers.md", "tiers.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
