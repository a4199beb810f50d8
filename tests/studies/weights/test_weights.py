"""What sums say of their weights: the front and the two losses, on scores made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lossweave.studies.runs.method import Method, Score
from lossweave.studies.weights.findings import WeightFindings, find_weights, ratio_of
from lossweave.studies.weights.report import front_verdict, trade_verdict, write_weights

#: AP50 and AP75 / AP50 by b: more weight on loc, better boxes of fewer objects.
SUMS = {0.01: (0.60, 0.10), 0.1: (0.62, 0.30), 1.0: (0.60, 0.50), 10.0: (0.50, 0.60),
        100.0: (0.10, 0.55)}  # fmt: skip
#: The two losses at the end by b, an L with its corner at 1.
LOSSES = {0.01: (0.30, 1.0), 0.1: (0.31, 0.5), 1.0: (0.33, 0.1), 10.0: (0.6, 0.09),
          100.0: (2.0, 0.085)}  # fmt: skip
OTHERS = {"DWA": (0.61, 0.51), "MGDA": (0.40, 0.40), "FAMO": (0.66, 0.58), "Min": (0.0, 0.0)}


def _score(method: str, seed: int, qualities: tuple[float, float], shift: float) -> Score:
    found, exact = qualities
    found += shift if found else 0
    metrics = dict(bbox_mAP_50=found, bbox_mAP_75=found * (exact + shift))
    cls, loc = LOSSES.get(ratio_of(Method.parse(method)) or 1.0, (0.3, 0.1))
    details: dict[str, Any] = dict(metrics=metrics, losses=dict(cls=cls, loc=loc))
    return Score(method, seed, found / 2, found / 2, found, details)


def _scores(seeds: int = 2) -> list[Score]:
    named = {f"Sum weights=[1,{b:g}]": q for b, q in SUMS.items() if b != 1}
    methods = {"Sum": SUMS[1.0], **named, **OTHERS}
    # DWA falls where the others rise, so that its differences scatter.
    rises = {m: -0.01 if m == "DWA" else 0.01 for m in methods}
    return [_score(m, s, q, rises[m] * s) for m, q in methods.items() for s in range(seeds)]


@pytest.fixture(scope="module")
def found() -> WeightFindings:
    result = find_weights(_scores())
    assert result is not None
    return result


def test_only_sums_of_two_weights_have_a_ratio() -> None:
    texts = ("Sum", "Sum weights=[2,1]", "Sum weights=[0,1]", "Sum weights={cls:2}", "MGDA")
    assert [ratio_of(Method.parse(text)) for text in texts] == [1.0, 0.5, None, None, None]


def test_a_sum_is_on_the_front_where_no_other_is_better_in_both(found: WeightFindings) -> None:
    front = {place.method for place in found.places if place.on_front}
    assert front == {"Sum weights=[1,0.1]", "Sum", "Sum weights=[1,10]"}


def test_a_method_is_placed_with_the_uncertainty_of_both(found: WeightFindings) -> None:
    where = {place.method: place.where for place in found.places if place.where}
    assert where == {"DWA": "on", "MGDA": "inside", "FAMO": "beyond", "Min": "inside"}
    said = front_verdict(found)
    assert said.startswith("3 of 5 weightings are on the front, from AP50 0.625")
    assert "beyond it: FAMO; inside it: MGDA, Min; not told apart from it: DWA." in said
    wide = find_weights(
        [*_scores(), _score("PBI", 0, (0.1, 0.9), 0), _score("PBI", 1, (0.9, 0.1), 0)]
    )
    assert wide is not None  # one method that scatters makes the uncertainty of all larger
    assert {p.method: p.where for p in wide.places}["FAMO"] == "on"


def test_with_one_seed_each_nothing_is_told() -> None:
    found = find_weights(_scores(seeds=1))
    assert found is not None
    assert {p.where for p in found.places if p.method in ("DWA", "FAMO")} == {"not told"}
    assert "(one seed)" in trade_verdict(found)


def test_the_two_losses_make_a_curve_with_a_corner(found: WeightFindings) -> None:
    assert [weighting.ratio for weighting in found.weightings] == sorted(SUMS)
    assert found.weightings[3].alpha == pytest.approx(1 / 11)
    assert (found.weightings[3].cls, found.weightings[3].loc) == pytest.approx(LOSSES[10.0])
    assert found.corner == 1.0
    assert trade_verdict(found).startswith(
        "The corner is at alpha = 0.5, the best AP on validation at 0.909; the corner minus the "
        "best on the test split: -0.010"
    )
    level = find_weights([replace(s, details={**s.details, "losses": {}}) for s in _scores()])
    assert level is not None and level.corner is None
    assert trade_verdict(level).startswith("The curve of the two losses has no corner")


def test_few_weightings_make_no_report(tmp_path: Path) -> None:
    few = [score for score in _scores() if "100" not in score.method]
    assert not write_weights(few, "config.py", "command", tmp_path)
    older = [replace(score, details={}) for score in _scores()]  # of before AP75 was kept
    assert not write_weights(older, "config.py", "command", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_report_is_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert write_weights(_scores(), "config.py", "python tools/compare.py", tmp_path / name)
    for file in ("weights.md", "weights.json", "front.png", "trade.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    text = (tmp_path / "one" / "weights.md").read_text()
    assert (
        "| FAMO | 2 | 0.665 | 0.585 | beyond it |" in text
        and "| Min | 2 | 0.000 | - | inside it |" in text
    )
    assert "| 0.0099 | 100 | 2 | 2.000 | 0.085 | 0.053 | 0.053 |" in text
    assert len(json.loads((tmp_path / "one" / "weights.json").read_text())["places"]) == 9


def test_ends_of_a_front_within_the_noise_are_said_to_be_so(found: WeightFindings) -> None:
    assert "ends that are not told apart" not in front_verdict(found)
    noisy = replace(found, sd_exact=0.2)
    assert "ends that are not told apart in both qualities; beyond it" in front_verdict(noisy)


def test_a_place_is_judged_by_differences_within_a_seed() -> None:
    """Seeds that move every method alike hide nothing; one method alone tells nothing."""
    moved = [
        _score(m, s, (q[0] + 0.05 * s, q[1]), 0.0)
        for m, q in {"FAMO": (0.64, 0.53), "DWA": (0.60, 0.50)}.items()
        for s in range(4)
    ]
    named = {"Sum": 1.0, **{f"Sum weights=[1,{b:g}]": b for b in SUMS if b != 1}}
    sums = [
        _score(m, s, (SUMS[b][0] + 0.05 * s + 0.002 * (s % 2), SUMS[b][1] + 0.002 * (s % 2)), 0.0)
        for m, b in named.items()
        for s in range(4)
    ]
    found = find_weights([*sums, *moved])
    assert found is not None and found.sd_found > 0.05
    assert {p.method: p.where for p in found.places if p.where} == {"FAMO": "beyond", "DWA": "on"}


def test_many_methods_that_are_not_told_apart_are_counted(found: WeightFindings) -> None:
    dwa = next(place for place in found.places if place.method == "DWA")
    many = replace(found, places=(*found.places, *(replace(dwa, method=f"m{k}") for k in range(5))))
    assert front_verdict(many).endswith("; not told apart from it: the 6 others.")


def test_losses_are_compared_over_the_seeds_that_all_weightings_have() -> None:
    more = [
        replace(s, details={**s.details, "losses": dict(cls=9.0, loc=9.0)})
        for s in _scores(seeds=3)
        if s.seed == 2 and s.method in ("Sum", "Sum weights=[1,10]")
    ]
    found = find_weights([*_scores(), *more])
    assert found is not None and found.shared == (0, 1) and found.corner == 1.0
    assert found.weightings[2].cls == pytest.approx(LOSSES[1.0][0])
    assert len(found.weightings[2].scores) == 3
