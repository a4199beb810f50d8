"""What a comparison trains, and what it refuses."""

import json

import pytest
from helpers.comparison_scores import METHODS, RATES, SWEEP, score_at

from lossweave.errors import LossweaveError
from lossweave.studies.compare.findings import Comparison
from lossweave.studies.compare.rates import at_rates, best_rates
from lossweave.studies.compare.study import run_comparison
from lossweave.studies.runs.method import Method, Score, Trial


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        (Comparison((Method("DWA"),)), "needs at least one Sum"),
        (Comparison((Method("Sum"), Method("Sum"))), "named twice"),
        (Comparison((Method("Sum"),), seeds=()), "needs a seed"),
        (Comparison((Method("Sum"),), rates=(1e-3, 0.0)), "--rates: 0 is not a learning rate"),
        (Comparison((Method("Sum"),), rates=(1e-3, -1.0)), "--rates: -1 is not"),
        (Comparison((Method("Sum"),), rates=(float("nan"), 1.0)), "--rates: nan is not"),
        (Comparison((Method("Sum"),), rates=(1e-3, 0.001)), "--rates: .* given twice"),
        (Comparison((Method("Sum"),), rates=(1e-3,)), "--rates: needs at least two"),
        (
            Comparison(
                (Method("Sum"),), rates=(1e-3, 1.0), options=("optim_wrapper.optimizer.lr=1",)
            ),
            "exclude each other",
        ),
        (
            Comparison(
                (Method("Sum"),), rates=(1e-3, 1.0), config="mmdet::_base_/default_runtime.py"
            ),
            "has no optim_wrapper.optimizer.lr",
        ),
    ],
)
def test_wrong_input(comparison, message) -> None:
    with pytest.raises(LossweaveError, match=message) as found:
        run_comparison(comparison)
    assert "\n" not in str(found.value)


def test_a_sweep_trains_the_further_seeds_at_the_chosen_rates(tmp_path, monkeypatch) -> None:
    asked: list[Trial] = []

    def train(trial: Trial) -> Score:
        asked.append(trial)
        assert trial.rate is not None
        place = RATES.index(trial.rate)
        return score_at(
            trial.method.label, trial.seed, trial.rate, SWEEP[trial.method.label][place]
        )

    monkeypatch.setattr("lossweave.studies.compare.study.train_and_test", train)
    comparison = Comparison(METHODS, seeds=(7, 8), work_dir=str(tmp_path), rates=RATES)
    scores = run_comparison(comparison)
    assert [(t.seed, t.rate) for t in asked[:5]] == [(7, 1e-3)] * 4 + [(7, 5e-4)]
    assert {t.method.label: t.rate for t in asked[12:]} == best_rates(scores)
    assert [t.seed for t in asked[12:]] == [8] * 4
    assert len(at_rates(scores, best_rates(scores))) == 8
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert len(record["scores"]) == 16 and all(score["rate"] for score in record["scores"])
    assert record["chosen_rates"]["MGDA"] == 5e-4 and record["sum_weights_at_edge"] is True
    assert (tmp_path / "scores.png").stat().st_size > 5000
