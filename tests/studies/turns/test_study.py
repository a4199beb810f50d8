"""What the study of turns trains, and what a training leaves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.turn_outcomes import LENGTHS, turn_outcomes

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.ledger.result import Result
from lossweave.studies.results.remake import remake
from lossweave.studies.runs.method import Trial
from lossweave.studies.runs.results import wanted
from lossweave.studies.turns.findings import Outcome, Turns, standard_methods
from lossweave.studies.turns.results import outcomes_of, trained
from lossweave.studies.turns.study import run_turns
from lossweave.utils.files import finite


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (Turns(lengths=(1, 1)), "each only once"),
        (Turns(lengths=(0,)), "at least 1"),
        (Turns(seeds=()), "needs a seed"),
        (Turns(also=("Sum",)), "named twice"),
        (Turns(also=("Summ",)), "did you mean 'Sum'"),
        (Turns(config="none.py"), "there is no config"),
    ],
)
def test_wrong_input(turns: Turns, message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        run_turns(turns)


def _real_config(root: Path) -> Path:
    """A shrunk detector with evaluations, as a file."""
    from helpers.mmdet_toy import evaluation_dataset, toy_config, write_data

    data = write_data(root / "data", images=4)
    cfg = toy_config("retinanet", data, root / "base", "Sum")
    cfg.train_cfg.val_interval = 4
    dataset = evaluation_dataset(cfg)
    for split in ("val", "test"):
        cfg[f"{split}_cfg"] = dict(type=f"{split.title()}Loop")
        sampler = dict(type="DefaultSampler", shuffle=False)
        cfg[f"{split}_dataloader"] = dict(batch_size=2, sampler=sampler, dataset=dataset)
        cfg[f"{split}_evaluator"] = dict(
            type="CocoMetric", ann_file=str(data / "annotations.json"), metric="bbox"
        )
    cfg.log_level = "INFO"
    cfg.dump(str(root / "config.py"))
    return root / "config.py"


def test_a_real_training_leaves_all_that_is_read(tmp_path: Path) -> None:
    from lossweave.studies.runs.training import serial_loading
    from lossweave.studies.turns.study import _outcome, _recording, _weights

    config = str(_real_config(tmp_path))
    turns = Turns(config=config, work_dir=str(tmp_path / "out"))
    method = turns.methods["turns of 1"]
    options = (*_recording(turns), *serial_loading(config))
    trial = Trial(method, 3, config, turns.work_dir, options, jobs=2)
    outcome = _outcome("turns of 1", trial)
    assert outcome.score.seed == 3 and outcome.score.test >= 0
    assert set(outcome.held_out) == {"cls", "loc"} and outcome.held_out["cls"] > 0
    # In every window of two iterations each term had one turn.
    assert outcome.run.terms["cls"].weight.values == (0.5, 0.5)
    assert list(_weights(trial.folder)) == [0, 2, 4]
    command = outcome.score.details["command"]
    assert "randomness.seed=3" in command and "schedule=[(cls,1),(loc,1)]" in command
    # What the ledger gets of it, and gives back.
    asked = wanted("turns", trial, turns.command)
    assert asked.budget == {"iterations": 4, "batch_size": 2}
    result = trained(asked, outcome)
    assert (result.code, result.machine) == (asked.code, asked.machine)
    assert result.seconds["training"] > 0 and set(result.losses) == {"cls", "loc"}
    (back,) = outcomes_of([Result.from_dict(json.loads(json.dumps(finite(result.as_dict()))))])
    assert back.held_out == outcome.held_out and back.run == outcome.run
    assert back.score.test == outcome.score.test and back.score.details["command"] == command


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained or measured; each has an outcome, weights included, at once."""
    done: list[str] = []
    made = {(o.part, o.score.seed): o for o in turn_outcomes()}
    parts = {method.label: part for part, method in standard_methods(LENGTHS).items()}

    def outcome(part: str, trial: Trial) -> Outcome:
        done.append(f"{part} {trial.seed}")
        folder = trial.folder / "weights"
        folder.mkdir(parents=True)
        direction = np.zeros(8)
        direction[list(parts.values()).index(part)] = 2.0
        for iteration in (0, 20, 40):
            np.save(folder / f"iter_{iteration:06d}.npy", iteration / 20 * direction)
        return replace(made[part, trial.seed], apart={})

    def probe(turns: Turns, seed: int, options: object) -> dict[str, dict[str, float]]:
        done.append(f"first order {seed}")
        return {"one batch": {"0.01": 0.2 + seed / 10}}

    monkeypatch.setattr("lossweave.studies.turns.study._outcome", outcome)
    monkeypatch.setattr("lossweave.studies.turns.study._probe", probe)
    return done


def test_only_what_the_ledger_lacks_is_done(trainings: list[str], tmp_path: Path) -> None:
    work = tmp_path / "work"
    turns = Turns((0,), LENGTHS, work_dir=str(work))
    run_turns(turns)
    assert len(trainings) == 7  # six methods and the plain steps
    outcomes = run_turns(replace(turns, seeds=(0, 1)))
    assert len(trainings) == 14 and len(outcomes) == 12
    apart = {o.part: o.apart for o in outcomes if o.score.seed == 1}
    assert apart["turns of 1"] == pytest.approx({20: 2**0.5, 40: 2**0.5})
    assert apart["half"] == {}
    run_turns(replace(turns, seeds=(0, 1)))
    assert len(trainings) == 14
    # The ledger alone makes the same report, and another work directory needs nothing else.
    remake([work / "ledger.jsonl"], tmp_path / "again")
    elsewhere = replace(turns, seeds=(0, 1), work_dir=str(tmp_path / "else"))
    run_turns(replace(elsewhere, ledger=LedgerOptions((str(work / "ledger.jsonl"),))))
    assert len(trainings) == 14
    for folder in ("again", "else"):
        for name in ("turns.md", "apart.png", "scores.png", "terms.png"):
            assert (tmp_path / folder / name).read_bytes() == (work / name).read_bytes(), name


def test_a_plan_does_nothing(
    trainings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = Turns((0,), LENGTHS, work_dir=str(tmp_path / "work"), ledger=LedgerOptions(plan=True))
    assert run_turns(turns) == [] and not trainings and not (tmp_path / "work").exists()
    assert "lacking: Sum weights=[0.5,0.5], seed 0" in capsys.readouterr().out
