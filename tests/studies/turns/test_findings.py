"""What the seeds say about the three questions."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from helpers.turn_outcomes import LENGTHS, turn_outcomes
from scipy import stats

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress
from lossweave.studies.runs.record import Series, TermHistory
from lossweave.studies.turns.findings import (
    answer,
    relative_distance,
    stretch_changes,
)


def test_the_three_questions() -> None:
    found = answer(turn_outcomes(), LENGTHS)
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
    outcomes = turn_outcomes()
    for outcome in outcomes:
        if outcome.part == "turns of 10":
            steps = tuple(range(20, 140, 20))
            outcome.run.terms["cls"] = TermHistory(Series(steps, values), Series(steps, weights))
    found = answer(outcomes, LENGTHS)
    assert found.idle["turns of 10"]["cls"].mean == pytest.approx(log(2))
    assert found.own["turns of 10"]["cls"].mean == pytest.approx(log(0.5))
    assert found.idle["turns of 1"]["cls"].count == 0


def test_the_end_of_a_training() -> None:
    outcome = turn_outcomes()[0]  # 200 iterations, logged every 20: the last tenth is one window
    assert outcome.end_loss("cls") == outcome.run.terms["cls"].value.last


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


def test_trainings_of_two_places_are_no_pair() -> None:
    outcomes = turn_outcomes()
    for place, outcome in enumerate(outcomes):
        if outcome.part == "turns of 1" and outcome.score.seed == 2:
            outcomes[place] = replace(outcome, score=replace(outcome.score, place="elsewhere"))
    found = answer(outcomes, LENGTHS)
    assert found.half["AP"].count == 2 and found.half["AP"].mean == pytest.approx(-0.0495)
    assert found.curves["turns of 1"]["cls"].count == 2
    assert found.to_sum["half"]["AP"].count == 3


def test_a_part_that_is_missing_is_named() -> None:
    some = [o for o in turn_outcomes() if o.part not in ("half", "loc alone")]
    with pytest.raises(LossweaveError, match="lacks the results of half, loc alone"):
        answer(some, LENGTHS)
    with pytest.raises(LossweaveError, match="lacks the results of sum"):
        answer([], LENGTHS)
