"""What arms ask for, and results put back together by their places."""

import json
from dataclasses import replace

import pytest
from helpers.arm_results import arm_result
from helpers.ledger_results import OTHER_CODE

from lossweave.errors import LossweaveError
from lossweave.studies.arms.arm import Arm, Asked, schedule, trial_of
from lossweave.studies.arms.findings import apart, grouped, over
from lossweave.studies.arms.logged import logged_at_end
from lossweave.studies.arms.report import alike, arm_name
from lossweave.studies.arms.study import lacking, train_arms
from lossweave.studies.ledger.book import Book, LedgerOptions
from lossweave.studies.ledger.ledger import append
from lossweave.studies.runs.results import wanted

SCREEN = "lossweave::mmdet/demo/retinanet_screen.py"


def test_an_arms_training_has_the_shared_options_and_its_own(tmp_path) -> None:
    asked = Asked(SCREEN, str(tmp_path), iterations=220, options=("a=1",), boxes=True)
    trial = trial_of(asked, Arm({"loss": "L1", "share": 0.05}, ("b=2",), rate=0.01), 4)
    assert trial.folder == tmp_path / "loss-L1_share-0.05" / "Sum_seed4_lr0.01"
    assert trial.options[-2:] == ("a=1", "b=2") and "param_scheduler.1.end=220" in trial.options
    assert trial.boxes and trial.may_diverge and trial.seed == 4
    assert Arm({"loss": "a b/c"}).name == "loss-a-b-c"  # options lose their spaces


def test_a_schedule_is_shortened_in_proportion() -> None:
    assert schedule(SCREEN, None) == ()
    assert "param_scheduler.0.end=5" in schedule(SCREEN, 44)
    with pytest.raises(LossweaveError, match="--iterations needs a config that counts in iter"):
        schedule("mmdet::retinanet/retinanet_r18_fpn_1x_coco.py", 9)


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1,)])
def test_seeds_are_each_there_once(seeds, tmp_path) -> None:
    with pytest.raises(LossweaveError, match="seeds from 0 on, each once"):
        Asked(SCREEN, str(tmp_path), seeds=seeds)


def test_arms_are_paired_by_seed_and_place() -> None:
    results = [
        arm_result("some", {"loss": name, "share": 0.1}, seed, ap + 0.01 * seed)
        for name, ap in (("a", 0.5), ("b", 0.4))
        for seed in range(3)
    ]
    results[-1] = replace(results[-1], **OTHER_CODE)
    groups = grouped(results, "loss")
    assert over(groups["b",], lambda r: r.scores["test"]).count == 3
    difference = apart(groups["a",], groups["b",], lambda r: r.scores["test"])
    assert difference.count == 2 and difference.mean == pytest.approx(0.1)
    assert alike(results[0]) == alike(results[-1])
    assert arm_name(results[0]) == "loss a, share 0.1"


def test_a_repeated_training_weighs_no_more_than_another_seeds() -> None:
    results = [
        arm_result("some", {"loss": name}, seed, ap + 0.01 * seed)
        for name, ap in (("a", 0.5), ("b", 0.4))
        for seed in range(2)
    ]
    groups = grouped([*results, *(replace(r, **OTHER_CODE) for r in results[::2])], "loss")
    found = over(groups["a",], lambda r: r.scores["test"])
    assert found.count == 2 and found.mean == pytest.approx(0.505)
    assert apart(groups["a",], groups["b",], lambda r: r.scores["test"]).count == 2


def test_what_the_ledger_has_is_not_trained_again(tmp_path) -> None:
    ledger = str(tmp_path / "ledger.jsonl")
    asked = Asked(SCREEN, str(tmp_path), command="c", ledger=LedgerOptions((ledger,)))
    known, new = Arm({"x": 1.0}), Arm({"x": 2.0}, ("optim_wrapper.optimizer.lr=0.1",))
    done = replace(wanted("some", trial_of(asked, known, 0), "c"), scores={"test": 0.25})
    append(ledger, done)
    book = Book(asked.ledger, tmp_path)
    found = train_arms(book, "some", asked, [(known, 0)], measure=lambda trial: pytest.fail())
    assert found[0].scores["test"] == 0.25 and found[0].details["places"] == {"x": 1.0}
    said = lacking(book, "some", asked, [(known, 0), (new, 0)])
    assert said.startswith("1 of 2 are in") and "lacking: x-2, seed 0" in said


def test_what_was_logged_at_the_end_is_a_mean_of_the_last_iterations(tmp_path) -> None:
    folder = tmp_path / "20261126_000000" / "vis_data"
    folder.mkdir(parents=True)
    rows = [
        dict(step=step, loss=1.0, loss_cls=step / 100, grad_norm=2.0) for step in range(20, 201, 20)
    ]
    evaluation = {"step": 200, "coco/bbox_mAP": 0.5}
    text = "\n".join(json.dumps(row) for row in [*rows, evaluation])
    (folder / "scalars.json").write_text(text)
    # Of 120, 140, ... 200.
    assert logged_at_end(tmp_path) == pytest.approx(dict(loss_cls=1.6, grad_norm=2.0))
