"""What the study of turns trains, and what a training leaves."""

from pathlib import Path

import pytest

from lossweave.errors import LossweaveError
from lossweave.studies.turns.findings import Turns
from lossweave.studies.turns.study import run_turns


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
    from lossweave.studies.runs.training import Trial, serial_loading
    from lossweave.studies.turns.study import _outcome, _recording

    config = str(_real_config(tmp_path))
    turns = Turns(config=config, work_dir=str(tmp_path / "out"))
    method = turns.methods["turns of 1"]
    options = (*_recording(turns), *serial_loading(config))
    outcome = _outcome("turns of 1", Trial(method, 3, config, turns.work_dir, options, jobs=2))
    assert outcome.score.seed == 3 and outcome.score.test >= 0
    assert set(outcome.held_out) == {"cls", "loc"} and outcome.held_out["cls"] > 0
    # In every window of two iterations each term had one turn.
    assert outcome.run.terms["cls"].weight.values == (0.5, 0.5)
    assert list(outcome.weights) == [0, 2, 4]
    command = outcome.score.details["command"]
    assert "randomness.seed=3" in command and "schedule=[(cls,1),(loc,1)]" in command
