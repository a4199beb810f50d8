"""What the study of turns says in sentences, and its rows of the table of questions."""

from dataclasses import replace

from helpers.ledger_results import result
from helpers.synthetic_runs import record
from helpers.turn_outcomes import LENGTHS, turn_outcomes

from lossweave.studies.runs.method import Score
from lossweave.studies.turns.findings import Answers, Outcome, Turns, answer
from lossweave.studies.turns.verdict import (
    further_verdict,
    half_verdict,
    help_verdict,
    longer_verdict,
    rows_of,
)

_TURNS = Turns(lengths=LENGTHS, also=("AutoLoss",))
#: Falls as the rate in every seed; with new batches it does not fall.
_STEPS = [
    {
        "one batch": {"0.01": 0.3, "0.001": 0.03 + seed / 1000, "0.0001": 0.003 + seed / 1e4},
        "new batches": {"0.01": 0.8, "0.001": 0.7, "0.0001": 0.7},
    }
    for seed in range(3)
]


def _found(seeds: tuple[int, ...] = (0, 1, 2), steps: list = _STEPS) -> Answers:
    outcomes = turn_outcomes(seeds)
    learned = [
        Outcome("AutoLoss", Score("AutoLoss", seed, 0, 0.58 + seed / 1000, 0.8),
                dict(cls=0.3, loc=0.4), record("AutoLoss"))
        for seed in seeds
    ]  # fmt: skip
    return answer([*outcomes, *learned], LENGTHS, steps[: len(seeds)])


def test_two_steps_and_whole_trainings_are_told_apart() -> None:
    said = half_verdict(_TURNS, _found())
    assert said.startswith("Yes, for two plain steps of one batch: the distance")
    assert "0.300 ± 0.000 at 0.01, 0.0031 ± 0.0002 at 0.0001" in said
    assert "to the power of 1.00 ± 0.0" in said and "new batch for each step it stays" in said
    assert said.endswith("turns of 1 end below the half-weighted sum (AP -0.049 ± 0.002).")
    flat = [{"one batch": {"0.01": 0.3, "0.001": 0.3 + seed / 100}} for seed in (-1, 0, 1)]
    said = half_verdict(_TURNS, _found(steps=flat))
    assert "is not shown to go to 0" in said and "Yes" not in said


def test_longer_turns_and_the_other_task() -> None:
    found = _found()
    assert longer_verdict(_TURNS, found).startswith("Turns of 10 end below turns of 1 (AP -0.011")
    assert longer_verdict(_TURNS, replace(found, longer={})).startswith("Not asked")
    said = help_verdict(found)
    assert said.startswith("The loss of cls on the test split is lower when both are trained")
    assert "in the way (+0.0200 ± 0.0000)." in said


def test_further_methods_stand_beside_the_sum_and_the_turns() -> None:
    said = further_verdict(_TURNS, _found())
    assert said.startswith("AutoLoss is not told apart from the sum (AP ")
    assert "turns of 1 (AP +" in said


def test_a_row_a_question() -> None:
    under = replace(_TURNS, options=("optim_wrapper.optimizer.type=SGD",))
    rows = rows_of(under, _found(), "turns_sgd", "turns", [result()])
    assert len(rows) == 4 and all(row.asked.endswith("? (Under SGD.)") for row in rows)
    assert rows[3].answer.startswith("AutoLoss is not told apart from the sum")
    assert rows[0].effect == "-0.049 ± 0.002 AP (turns of 1 minus the half-weighted sum)"
    assert rows[2].effect.endswith("loc loss +0.020 ± 0.000 (together minus alone)")
    assert rows[0].report == "[turns_sgd](turns_sgd/turns.md)"
    one = rows_of(replace(_TURNS, also=()), _found((0,)), "turns", "turns", [result()])
    assert "no interval" in one[0].answer and one[0].asked.endswith("sum?")
