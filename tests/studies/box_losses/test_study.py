"""Which trainings follow from the choice of the weights."""

from dataclasses import replace

from lossweave.studies.arms.arm import Asked, trial_of
from lossweave.studies.box_losses.study import arm_of, run_box_losses
from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.ledger.ledger import append
from lossweave.studies.runs.results import wanted


def test_what_follows_is_trained_at_the_weights_that_were_chosen(tmp_path) -> None:
    ledger = str(tmp_path / "ledger.jsonl")
    config = "lossweave::mmdet/demo/retinanet_screen_outliers.py"
    asked = Asked(config, str(tmp_path), seeds=(3,), ledger=LedgerOptions((ledger,)))
    arms = [arm_of("L1", w, 0.0) for w in (0.3, 1.0, 3.0)] + [arm_of("L1", 3.0, 0.2)]
    for arm, ap in zip(arms, (0.1, 0.2, 0.3, 0.25), strict=True):
        one = wanted("box_losses", trial_of(asked, arm, 3), "c")
        append(ledger, replace(one, scores=dict(val=ap, test=ap)))
    # Another choice would train, and there is nothing to train on.
    found = run_box_losses(asked, ["L1"], [0.0, 0.2])
    assert [one.details["places"]["weight"] for one in found] == [0.3, 1.0, 3.0, 3.0]
    assert found[-1].details["places"]["share"] == 0.2
