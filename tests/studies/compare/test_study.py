"""What a comparison trains, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.comparison_scores import METHODS, RATES, SWEEP, score_at

from lossweave.errors import LossweaveError
from lossweave.studies.compare.cli import compare
from lossweave.studies.compare.findings import Comparison
from lossweave.studies.compare.rates import at_rates, best_rates
from lossweave.studies.compare.study import run_comparison
from lossweave.studies.ledger.ledger import append, read
from lossweave.studies.ledger.result import Machine
from lossweave.studies.results.remake import remake
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

    monkeypatch.setattr("lossweave.studies.runs.results.train_and_test", train)
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


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The trainings that are done; each has a score at once."""
    done: list[Trial] = []

    def train(trial: Trial) -> Score:
        done.append(trial)
        details = {"seconds": 60.0, "code": {"version": "0.1.0", "commit": "aaa"}}
        return Score(trial.method.label, trial.seed, 0.5, 0.4, 0.8, details, trial.rate)

    monkeypatch.setattr("lossweave.studies.runs.results.train_and_test", train)
    return done


def _run(tmp_path: Path, *words: str) -> None:
    compare(["--work-dir", str(tmp_path / "work"), "--seeds", "0", "1", "--methods", *words])


def test_only_what_the_ledger_lacks_is_trained(trained: list[Trial], tmp_path: Path) -> None:
    _run(tmp_path, "Sum", "DWA")
    assert len(trained) == 4
    _run(tmp_path, "Sum", "DWA", "FAMO")
    assert [t.method.label for t in trained[4:]] == ["FAMO", "FAMO"]
    ledger = tmp_path / "work" / "ledger.jsonl"
    assert [r.method for r in read(ledger).results] == ["Sum", "DWA"] * 2 + ["FAMO"] * 2
    assert all(r.config_hash and r.budget["iterations"] == 500 for r in read(ledger).results)
    # Another place's work directory, and the ledger brought along: nothing is left to do.
    compare(
        ["--work-dir", str(tmp_path / "else"), "--ledger", str(tmp_path / "new.jsonl"),
         str(ledger), "--seeds", "0", "1", "--methods", "Sum", "FAMO"]
    )  # fmt: skip
    assert len(trained) == 6 and not (tmp_path / "new.jsonl").exists()
    assert "# 2 methods, 2 seeds" in (tmp_path / "else" / "comparison.md").read_text()


def test_other_options_are_another_training(trained: list[Trial], tmp_path: Path) -> None:
    _run(tmp_path, "Sum", "DWA")
    _run(tmp_path, "Sum", "DWA", "--cfg-options", "train_dataloader.num_workers=1")
    assert len(trained) == 4
    _run(tmp_path, "Sum", "DWA", "--cfg-options", "optim_wrapper.optimizer.weight_decay=0.1")
    assert len(trained) == 8
    with pytest.raises(LossweaveError, match="not to be compared"):
        remake([tmp_path / "work" / "ledger.jsonl"], tmp_path)


def test_a_report_of_the_ledger_alone_is_that_of_the_study(
    trained: list[Trial], tmp_path: Path
) -> None:
    _run(tmp_path, "Sum", "DWA", "--rates", "1e-3", "2e-3")
    assert len(trained) == 6
    first = (tmp_path / "work" / "comparison.md").read_bytes()
    remake([tmp_path / "work" / "ledger.jsonl"], tmp_path / "again")
    assert (tmp_path / "again" / "comparison.md").read_bytes() == first
    for name in ("comparison.json", "scores.png"):
        again = (tmp_path / "again" / name).read_bytes()
        assert again == (tmp_path / "work" / name).read_bytes()


def test_a_plan_trains_nothing(
    trained: list[Trial], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(tmp_path, "Sum", "--plan")
    assert not trained and not (tmp_path / "work").exists()
    assert "lacking: Sum, seed 0 (time not known)" in capsys.readouterr().out
    _run(tmp_path, "Sum")
    _run(tmp_path, "Sum", "DWA", "--plan", "--rates", "1e-3", "2e-3")
    out = capsys.readouterr().out
    assert len(trained) == 2 and "0 of 4 are in" in out
    assert "lacking: DWA, seed 0, lr 0.001 (about 1.0 minutes)" in out
    assert "then 2 more, at the rates that these choose (about 2.0 minutes one after" in out
    _run(tmp_path, "Sum", "--rates", "1e-3", "2e-3", "--seeds", "0")
    _run(tmp_path, "Sum", "DWA", "--plan", "--rates", "1e-3", "2e-3", "--rates-for", "sums")
    out = capsys.readouterr().out
    assert "2 of 2 are in" in out and "the rates that these choose: Sum 0.001, DWA 0.001" in out
    assert "lacking: DWA, seed 1, lr 0.001 (about 1.0 minutes)" in out and "then" not in out


def test_of_equal_rates_the_others_have_the_sums(
    trained: list[Trial], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trainings here all end alike; the larger rate is tried first."""
    _run(tmp_path, "Sum", "--rates", "2e-3", "1e-3", "--seeds", "0")
    _run(tmp_path, "Sum", "DWA", "--plan", "--rates", "2e-3", "1e-3", "--rates-for", "sums")
    assert "the rates that these choose: Sum 0.001, DWA 0.001" in capsys.readouterr().out


def test_here_trains_what_another_place_did(trained: list[Trial], tmp_path: Path) -> None:
    _run(tmp_path, "Sum")  # of a machine that its score does not name
    _run(tmp_path, "Sum")
    assert len(trained) == 2
    _run(tmp_path, "Sum", "--here")
    assert len(trained) == 4


def test_a_pair_is_found_where_both_were_trained(trained: list[Trial], tmp_path: Path) -> None:
    """The sum of this place and of another one, DWA of the other one alone."""
    _run(tmp_path, "Sum", "DWA")
    _run(tmp_path, "Sum", "--here")  # again of a machine that its score does not name
    ledger = tmp_path / "work" / "ledger.jsonl"
    here = [
        replace(r, machine=Machine("This CPU", 1))
        for r in read(ledger).results
        if r.method == "Sum"
    ]
    append(tmp_path / "here.jsonl", *here)
    words = ["--ledger", str(tmp_path / "here.jsonl"), str(ledger)]
    _run(tmp_path, "Sum", "DWA", *words)
    (dwa,) = [
        row
        for row in json.loads((tmp_path / "work" / "comparison.json").read_text())["summary"]
        if row["method"] == "DWA"
    ]
    assert dwa["unpaired"] == [] and dwa["difference"] == 0.0
