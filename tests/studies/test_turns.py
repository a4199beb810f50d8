"""The study on turns: what the seeds say about its three questions."""

import json
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.synthetic_runs import record
from scipy import stats

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress
from lossweave.studies.runs.record import Series, TermHistory
from lossweave.studies.runs.training import Score
from lossweave.studies.turns.report import turns_markdown, write_turns
from lossweave.studies.turns.study import (
    Outcome,
    Turns,
    answer,
    relative_distance,
    run_turns,
    standard_methods,
    stretch_changes,
)

_LENGTHS = (1, 10)
_AP = {
    "sum": 0.60, "half": 0.60, "turns of 1": 0.55, "turns of 10": 0.54,
    "cls alone": 0.10, "loc alone": 0.00,
}  # fmt: skip
_NOISE = {0: 0.0, 1: 0.02, 2: -0.01}


def _outcomes(seeds: tuple[int, ...] = (0, 1, 2)) -> list[Outcome]:
    outcomes = []
    for seed in seeds:
        for place, (part, ap) in enumerate(_AP.items()):
            label = standard_methods(_LENGTHS)[part].label
            wobble = 0.001 * seed if part == "turns of 1" else 0.0
            score = Score(label, seed, ap, ap + _NOISE[seed] + wobble, ap + 0.2)
            # Trained alone, cls is worse by .05 and loc better by .02, in every seed.
            held_out = {
                "cls": 0.30 + (0.05 if part == "cls alone" else 0.0) + _NOISE[seed],
                "loc": 0.40 - (0.02 if part == "loc alone" else 0.0) + _NOISE[seed],
            }
            direction = np.zeros(8)
            direction[place] = 2.0
            weights = {0: np.zeros(8), 20: direction, 40: 2 * direction}
            outcomes.append(Outcome(part, score, held_out, record(label), weights))
    return outcomes


def test_the_three_questions() -> None:
    found = answer(_outcomes(), _LENGTHS)
    gaps = [-0.05, -0.049, -0.048]
    ap = found.half["AP"]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(gaps), scale=stats.sem(gaps))
    assert (ap.mean - ap.half_width, ap.mean + ap.half_width) == pytest.approx((low, high))
    assert found.longer["turns of 10"]["AP"].mean == pytest.approx(-0.011)
    # Together minus alone: cls gains from the other task, loc loses by it.
    assert found.alone["cls"].mean == pytest.approx(-0.05) and found.alone["cls"].sign == -1
    assert found.alone["loc"].mean == pytest.approx(0.02) and found.alone["loc"].sign == 1
    # Every method went equally far in a direction of its own.
    assert found.apart["turns of 1"] == pytest.approx({20: 2**0.5, 40: 2**0.5})
    assert found.curves["sum"]["cls"].mean == 0
    assert found.to_sum["turns of 1"]["AP"].mean == pytest.approx(-0.049)
    assert "sum" not in found.to_sum


def test_change_over_turns() -> None:
    values, weights = (4.0, 2.0, 1.0, 2.0, 8.0, 8.0), (1.0, 1.0, 0.0, 0.0, 0.5, 0.0)
    assert stretch_changes(values, weights, 0.0) == pytest.approx([log(2)])
    assert stretch_changes(values, weights, 1.0) == pytest.approx([log(0.5)])
    outcomes = _outcomes()
    for outcome in outcomes:
        if outcome.part == "turns of 10":
            steps = tuple(range(20, 140, 20))
            outcome.run.terms["cls"] = TermHistory(Series(steps, values), Series(steps, weights))
    found = answer(outcomes, _LENGTHS)
    assert found.idle["turns of 10"]["cls"].mean == pytest.approx(log(2))
    assert found.own["turns of 10"]["cls"].mean == pytest.approx(log(0.5))
    assert found.idle["turns of 1"]["cls"].count == 0


def test_the_end_of_a_training() -> None:
    outcome = _outcomes()[0]  # 200 iterations, logged every 20: the last tenth is one window
    assert outcome.end_loss("cls") == outcome.run.terms["cls"].value.last


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = Turns(lengths=_LENGTHS, work_dir=str(tmp_path))
    outcomes = _outcomes()
    steps = [{"one batch": {"0.01": 0.2 + seed / 10, "0.001": 0.02}} for seed in range(3)]
    found = answer(outcomes, _LENGTHS, steps)
    write_turns(turns, outcomes, found)
    text = (tmp_path / "turns.md").read_text()
    assert found.half["AP"].text() in text and "turns are worse, beyond the interval" in text
    assert "| one batch | 0.3000 ± 0.2484 | 0.0200 ± 0.0000 |" in text
    assert "lower together: the other task helped" in text
    assert "higher together: the other task was in the way" in text
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("scores", "apart"))
    assert "Alternating schedule=[(cls,1),(loc,1)]" in capsys.readouterr().out
    one = [outcome for outcome in outcomes if outcome.score.seed == 0]
    said = turns_markdown(Turns((0,), _LENGTHS), one, answer(one, _LENGTHS))
    assert "this says nothing" in said and "beyond the interval" not in said


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


def _end(combiner: dict[str, object], rate: float, updates: int) -> torch.Tensor:
    """Plain gradient steps on two quadratics of the same weights."""
    weights = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    made = build_combiner(combiner)
    made.bind(("cls", "loc"))
    for update in range(updates):
        made.begin(Progress(iteration=update, max_iterations=updates))
        losses = torch.stack([(weights * torch.tensor([2.0, 1.0])).pow(2).sum(),
                              (weights - torch.tensor([1.0, 3.0])).pow(2).sum()])  # fmt: skip
        found = made.combine(losses.detach(), torch.tensor([True, True]))
        (gradient,) = torch.autograd.grad((found.weights * losses).sum(), weights)
        weights = (weights - rate * gradient).detach().requires_grad_()
    return weights.detach()


def test_turns_are_the_half_weighted_sum_to_first_order() -> None:
    """What the study measures on a detector: with plain steps, the distance falls as the rate."""
    half, turns = dict(type="Sum", weights=[0.5, 0.5]), dict(type="Alternating")
    start = np.array([1.0, -2.0])
    apart = [
        relative_distance(_end(turns, rate, 2).numpy(), _end(half, rate, 2).numpy(), start)
        for rate in (1e-3, 1e-4, 1e-5)
    ]
    assert apart[0] < 0.02
    assert apart[1] / apart[0] == pytest.approx(0.1, rel=0.02)
    assert apart[2] / apart[1] == pytest.approx(0.1, rel=0.02)


def test_outcomes_are_json() -> None:
    from lossweave.studies.turns.study import _as_dict

    content = json.loads(json.dumps(_as_dict(_outcomes()[0])))
    assert content["training_end"]["cls"] > 0 and content["held_out"]["loc"] == 0.4


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
