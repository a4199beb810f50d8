"""What results say: the front and its knee, the verdict, a grid with its replays."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tune_fake import RATE, SETTING, fake_trainings, tuning

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.ledger import append, read
from lossweave.studies.ledger.result import Code, Result
from lossweave.studies.tune import search as search_module
from lossweave.studies.tune.confirm import TUNED, UNTUNED
from lossweave.studies.tune.findings import find, front, knee, verdict
from lossweave.studies.tune.report import tune_text
from lossweave.studies.tune.search import Search
from lossweave.studies.tune.space import Point, Space
from lossweave.studies.tune.study import replay
from lossweave.studies.tune.trainings import wanted

OWN = Point((0.0,), (1.0, 1.0), RATE)


def _trained(ap: float = 0.3) -> Result:
    return replace(wanted(SETTING, OWN, 200), scores={"ap": ap, "ap50": 0.5, "ap75": 0.2})


def _pair(seed: int, untuned: float, tuned: float, **more: object) -> list[Result]:
    made = []
    for method, ap in ((UNTUNED, untuned), (f"{TUNED}, Sum weights=[2,1]", tuned)):
        scores = {f"test_{name}": ap for name in ("ap", "ap50", "ap75")}
        one = replace(wanted(SETTING, OWN, 200), method=method, seed=seed, scores=scores)
        made.append(replace(one, **more) if method == UNTUNED else one)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ((0.02, 0.03, 0.025), "The tuned config is better: +0.025"),
        ((-0.02, -0.03, -0.025), "The tuned config is WORSE: -0.025"),
        ((0.02, -0.03, 0.0), "No difference could be shown"),
    ],
)
def test_the_verdict_is_that_of_the_interval(gains: tuple[float, ...], said: str) -> None:
    pairs = [one for seed, gain in enumerate(gains, 1) for one in _pair(seed, 0.4, 0.4 + gain)]
    found = find([_trained(), *pairs])
    assert found.confirmation is not None and found.confirmation.seeds == (1, 2, 3)
    assert verdict(found.confirmation).startswith(said)


def test_results_of_two_states_of_the_code_are_no_pair() -> None:
    other = _pair(2, 0.1, 0.9, code=Code("0.1.0", "other"))
    found = find([_trained(), *_pair(1, 0.4, 0.5), *other])
    assert found.confirmation is not None and found.confirmation.seeds == (1,)
    assert found.confirmation.difference["ap"].mean == pytest.approx(0.1)


def test_a_front_and_its_knee() -> None:
    qualities = [(0.1, 0.9), (0.5, 0.8), (0.6, 0.2), (0.4, 0.7), (0.6, 0.2)]
    assert front(qualities) == [0, 1, 2]
    assert knee([qualities[i] for i in front(qualities)]) == 1
    assert knee(qualities[:2]) is None
    assert knee([(0.0, 1.0), (0.2, 0.1), (1.0, 0.0)]) is None  # below the line between the ends


def test_a_report_without_trainings() -> None:
    with pytest.raises(LossweaveError, match="lacks its trainings"):
        find(_pair(1, 0.1, 0.2))


def test_a_grid_and_what_searches_of_it_end_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "train_rungs", fake_trainings([]))
    space = Space(("cls", "loc"), (1.0, 1.0), RATE, octaves=2.0, rate_octaves=(-1.0, 1.0), steps=1)
    one = tuning(tmp_path, space=space, sampler="random", budget=3)
    search = Search(one)
    for point in space.grid():
        search_module.train_rungs(SETTING, point, one.rungs, tmp_path, search.book)
    for seed in (0, 1):
        replay(replace(one, sampler_seed=seed), search.book)
    results = list(read(tmp_path / "ledger.jsonl").results)
    grid = find(results).grid
    assert grid is not None and len(grid.points) == 15
    assert grid.best.ratios == (1.0,) and grid.best.rate in (RATE, 2 * RATE)
    assert grid.correlations[100] == pytest.approx((1.0, 1.0))
    assert [row["seed"] for row in grid.replays] == [0, 1]
    assert all(row["behind"] >= 0 and row["spent"] <= 3.3 for row in grid.replays)
    text = tune_text(find(results), facts_of(results))
    assert "15 points, one seed" in text and "random, rungs 100,150,200, budget 3, ap" in text
    rest = [r for r in results if r.method != grid.best.method or r.rate != grid.best.rate]
    append(tmp_path / "rest.jsonl", *rest)
    text = tune_text(find(read(tmp_path / "rest.jsonl").results), facts_of(rest))
    assert "14 of 15 points (the others were not trained)" in text
