"""The search: within its budget, resumable at any point, shared by workers, replayed."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tune_fake import RATE, SETTING, SPACE, fake_trainings, tuning

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.ledger import read
from lossweave.studies.tune import search as search_module
from lossweave.studies.tune.racing import Race
from lossweave.studies.tune.search import STUDY_FILE, Search
from lossweave.studies.tune.space import Space
from lossweave.studies.tune.study import replay


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, int]]:
    found: list[tuple[str, float, int]] = []
    monkeypatch.setattr(search_module, "train_rungs", fake_trainings(found))
    return found


def _scores(race: Race) -> list[tuple[Any, ...]]:
    return [(c.number, sorted(c.params.items()), dict(c.scores)) for c in race.courses]


@pytest.mark.parametrize(("budget", "sampler"), [(2, "random"), (7, "gp"), (9.5, "tpe")])
def test_a_budget_is_kept_to(tmp_path: Path, done: list, budget: float, sampler: str) -> None:
    race = Search(tuning(tmp_path, budget=budget, sampler=sampler)).run(progress=False)
    assert 0.9 * budget <= race.spent() <= 1.1 * budget
    # Nothing was trained twice: the rungs that were trained are those that were reached.
    assert len(done) == len(set(done)) == sum(len(c.scores) for c in race.courses)


def test_the_first_is_the_configs_own_and_is_trained_whole(tmp_path: Path, done: list) -> None:
    race = Search(tuning(tmp_path)).run(progress=False)
    first = race.courses[0]
    assert set(first.params.values()) == {0.0} and first.reached == 200
    assert done[:3] == [("Sum weights=[1,1]", RATE, rung) for rung in (100, 150, 200)]
    stopped = [c for c in race.courses if c.reached < 200]
    assert stopped and race.best is not None
    assert all(c.scores[100] < race.best.scores[100] for c in stopped)


def test_it_finds_what_is_best(tmp_path: Path, done: list) -> None:
    race = Search(tuning(tmp_path)).run(progress=False)
    assert race.best is not None
    assert race.best.scores[200] > 0.295  # of 0.3; the config's own has 0.285


def test_without_a_race_every_point_is_trained_whole(tmp_path: Path, done: list) -> None:
    race = Search(tuning(tmp_path, race=False)).run(progress=False)
    assert [c.reached for c in race.courses] == [200] * 7


def test_an_interrupted_search_goes_on_where_it_was(
    tmp_path: Path, done: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = dict(budget=6, sampler="tpe")
    whole = Search(tuning(tmp_path / "whole", **options)).run(progress=False)
    trained = list(done)
    done.clear()
    train, stops = search_module.train_rungs, {2, 3, 7, 11, 12}

    def broken(*args: Any) -> Any:
        if len(done) in stops:
            stops.remove(len(done))
            raise KeyboardInterrupt
        return train(*args)

    monkeypatch.setattr(search_module, "train_rungs", broken)
    race, starts = None, 0
    while race is None:
        try:
            broken_one = tuning(tmp_path / "broken", **options)
            race = Search(broken_one, resume=starts > 0).run(progress=False)
        except KeyboardInterrupt:
            starts += 1
    assert starts == 5 and not stops
    assert _scores(race) == _scores(whole) and done == trained


def test_a_search_that_is_through_trains_nothing_more(tmp_path: Path, done: list) -> None:
    first = Search(tuning(tmp_path, budget=3)).run(progress=False)
    done.clear()
    assert _scores(Search(tuning(tmp_path, budget=3), resume=True).run(progress=False)) == _scores(
        first
    )
    assert done == []


class _Notes:
    """Takes a tenth of a second for every rung that is trained, and notes it in a file before."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, rung: tuple[str, float, int]) -> None:
        with open(self.path, "a") as file:
            file.write(f"{rung}\n")
        time.sleep(0.1)

    def read(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.is_file() else []


def _work(folder: Path, notes: _Notes, budget: float = 6) -> None:
    search_module.train_rungs = fake_trainings(notes)  # type: ignore[assignment, arg-type]
    search = Search(tuning(folder, budget=budget, sampler="random"), resume=True)
    search.run(progress=False)


def _worker(*args: Any) -> Any:
    worker = multiprocessing.get_context("fork").Process(target=_work, args=args)
    worker.start()
    return worker


def _kill(worker: Any) -> None:
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL


def test_a_killed_worker_loses_at_most_the_rung_that_was_running(
    tmp_path: Path, done: list
) -> None:
    options: dict[str, Any] = dict(budget=3, sampler="random")
    whole = Search(tuning(tmp_path / "whole", **options)).run(progress=False)
    notes, folder = _Notes(tmp_path / "notes"), tmp_path / "killed"
    kills = 0
    for goal in (1, 3, 6):
        worker = _worker(folder, notes, 3)
        while len(notes.read()) < goal + kills:
            time.sleep(0.01)
        _kill(worker)  # in the middle of a rung
        kills += 1
    last = _worker(folder, notes, 3)
    last.join(60)
    assert last.exitcode == 0
    again = Search(tuning(folder, **options), resume=True).race()
    assert _scores(again) == _scores(whole)
    # Of what was trained, only what was running when its worker was killed was trained again.
    trained = notes.read()
    assert sorted(set(trained)) == sorted(map(str, done))
    assert len(trained) - len(set(trained)) <= kills


def test_workers_share_a_search_and_one_is_killed(tmp_path: Path) -> None:
    notes = _Notes(tmp_path / "notes")
    workers = [_worker(tmp_path, notes) for _ in range(3)]
    while not notes.read():
        time.sleep(0.01)
    _kill(workers[0])
    for worker in workers[1:]:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL, 0, 0]
    search = Search(tuning(tmp_path, budget=6, sampler="random"), resume=True)
    assert 0.9 * 6 <= search.race().spent() <= 1.1 * 6
    assert all(t.state.name in ("COMPLETE", "PRUNED", "FAIL") for t in search.study.trials)
    # At most the rung that was running was trained again, and no rung is there twice.
    keys = [(r.method, r.rate, r.budget["rung"]) for r in read(tmp_path / "ledger.jsonl").results]
    assert len(keys) == len(set(keys)) >= len(notes.read()) - 1


def test_a_torn_journal_is_mended(tmp_path: Path, done: list) -> None:
    first = Search(tuning(tmp_path, budget=3)).run(progress=False)
    with open(tmp_path / STUDY_FILE, "ab") as file:
        file.write(b'{"op_code":4,"worker')
    again = Search(tuning(tmp_path, budget=3), resume=True).run(progress=False)
    assert _scores(again) == _scores(first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"setting": replace(SETTING, hash="other")}, "hash is"),
        ({"setting": replace(SETTING, config="other.py")}, "config is"),
        ({"fractions": (0.25,)}, "rungs is"),
        ({"space": Space(("cls", "loc"), (2.0, 1.0), RATE)}, "start is"),
        ({"metric": "ap75"}, "metric is 'ap' there, not 'ap75'"),
    ],
)
def test_a_study_of_another_search_is_refused(
    tmp_path: Path, done: list, changes: dict[str, Any], message: str
) -> None:
    Search(tuning(tmp_path))
    with pytest.raises(LossweaveError, match=f"of another search: .*{message}") as refused:
        Search(tuning(tmp_path, **changes), resume=True)
    assert "\n" not in str(refused.value)


def test_a_search_that_was_begun_is_not_begun_anew(tmp_path: Path, done: list) -> None:
    Search(tuning(tmp_path))
    with pytest.raises(LossweaveError, match="--resume goes on with it"):
        Search(tuning(tmp_path))


@pytest.mark.parametrize("budget", [1.9, 0, -3, float("nan")])
def test_a_budget_below_two(tmp_path: Path, budget: float) -> None:
    with pytest.raises(LossweaveError, match="below 2 full trainings"):
        tuning(tmp_path, budget=budget)


def test_replays_of_a_grid_train_nothing(tmp_path: Path, done: list) -> None:
    space = Space(("cls", "loc"), (1.0, 1.0), RATE, rate_octaves=(-2.0, 1.0), steps=1.0)
    one = tuning(tmp_path, space=space)
    search = Search(one)
    for point in space.grid():
        search_module.train_rungs(SETTING, point, one.rungs, tmp_path, search.book)
    done.clear()
    found = [replay(tuning(tmp_path, space=space, sampler_seed=s), search.book) for s in (0, 1)]
    assert done == []
    assert all(r.details["spent"] <= 7.7 and r.scores["ap"] > 0.29 for r in found)
    points = {json.dumps(tried["ratios"]) for r in found for tried in r.details["tried"]}
    assert points <= {json.dumps([float(k)]) for k in range(-3, 4)}
    again = replay(tuning(tmp_path, space=space, sampler_seed=1), search.book)
    assert again.details == found[1].details


def test_parameters_and_points() -> None:
    for point in SPACE.grid():
        assert SPACE.point(SPACE.params(point)) == point
