"""Terms in turns."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, here

from lossweave.combiners import Alternating, build_combiner
from lossweave.combiners.turns.alternating import turn_at
from lossweave.errors import LossweaveError
from lossweave.progress import Progress


def _schedule(lengths: dict[str, int], terms: Sequence[str]) -> dict[str, int]:
    return {term: length for term, length in lengths.items() if term in terms}


#: The turn of an absent term is spent on nothing.
CASES = {
    "Alternating": Case(
        lambda terms: {"schedule": _schedule({"a": 1, "b": 2, "c": 1}, terms)},
        absent_as_if_never_there=False,
    ),
    "Alternating epoch zero": Case(
        lambda terms: {"unit": "epoch", "inactive": "zero",
                       "schedule": _schedule({"a": 1, "b": 1, "c": 1}, terms)},
        absent_as_if_never_there=False,
    ),
}


def _bound(terms: tuple[str, ...] = ("cls", "loc"), **arguments: Any) -> Alternating:
    combiner = Alternating(**arguments)
    combiner.bind(terms)
    return combiner


def _turns(combiner: Alternating, progresses: list[Progress]) -> list[tuple[bool, ...]]:
    found = []
    for progress in progresses:
        combiner.begin(progress)
        found.append(combiner.active())
    return found


def test_turn_at_counts_lengths_and_repeats() -> None:
    assert [turn_at(t, [1, 3, 2]) for t in range(13)] == [0, 1, 1, 1, 2, 2] * 2 + [0]
    assert turn_at(10**9, [1]) == 0


def test_one_update_each() -> None:
    turns = _turns(_bound(schedule={"cls": 1, "loc": 1}), [Progress(t) for t in range(4)])
    assert turns == [(True, False), (False, True)] * 2


def test_none_is_every_term_in_turn() -> None:
    turns = _turns(_bound(("a", "b", "c")), [Progress(t) for t in range(4)])
    assert [turn.index(True) for turn in turns] == [0, 1, 2, 0]
    assert all(sum(turn) == 1 for turn in turns)


def test_turns_of_several_terms() -> None:
    combiner = _bound(schedule=[(["cls", "loc"], 2), ("loc", 1)])
    turns = _turns(combiner, [Progress(t) for t in range(3)])
    assert turns == [(True, True), (True, True), (False, True)]


def test_a_window_of_accumulated_iterations_is_one_turn() -> None:
    combiner = _bound(schedule={"cls": 1, "loc": 1})
    turns = _turns(combiner, [Progress(t, accumulation=3) for t in range(9)])
    assert [turn.index(True) for turn in turns] == [0, 0, 0, 1, 1, 1, 0, 0, 0]


def test_epochs() -> None:
    combiner = _bound(schedule={"cls": 1, "loc": 2}, unit="epoch")
    turns = _turns(combiner, [Progress(t, iterations_per_epoch=2) for t in range(8)])
    assert [turn.index(True) for turn in turns] == [0, 0, 1, 1, 1, 1, 0, 0]


def test_the_active_terms_are_summed() -> None:
    combiner = _bound(("a", "b", "c"), schedule=[(["a", "c"], 1), ("b", 1)])
    losses = torch.tensor([1.0, 2.0, 4.0])
    combiner.begin(Progress(0))
    assert combiner.combine(losses, here()).value == 5
    assert combiner.combine(losses, here()).weights.tolist() == [1, 0, 1]
    combiner.begin(Progress(1))
    assert combiner.combine(losses, here()).value == 2


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_an_inactive_term_does_not_enter_whatever_its_value(bad: float) -> None:
    value, weights = _bound().combine(torch.tensor([3.0, bad]), here(2))
    assert value == 3 and weights.tolist() == [1, 0]


def test_an_absent_active_term_leaves_nothing() -> None:
    value, weights = _bound().combine(torch.tensor([0.0, 2.0]), torch.tensor([False, True]))
    assert value == 0 and weights.tolist() == [0, 0]


def test_it_asks_for_the_hook() -> None:
    assert Alternating().needs_hook


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": {}}, "Alternating: schedule is empty"),
        ({"schedule": []}, "Alternating: schedule is empty"),
        ({"schedule": ["cls", "loc"]}, "holds 'cls'"),
        ({"schedule": {"cls": 0}}, r"length of at least 1, not \('cls', 0\)"),
        ({"schedule": [("cls", True)]}, r"not \('cls', True\)"),
        ({"schedule": [([], 1)]}, "a turn needs a term"),
        ({"schedule": [(5, 1)]}, r"a turn needs a term.*\(5, 1\)"),
        ({"schedule": {"cls": 1.5}}, "schedule={'cls': 1.5} should be a dict from a name to"),
        ({"unit": "iteration"}, "unit='iteration' should be one of 'update', 'epoch'"),
        ({"inactive": "freeze"}, "inactive='freeze' should be one of 'hold', 'zero'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "Alternating", **arguments})


def test_wrong_words_are_refused_without_a_config_too() -> None:
    with pytest.raises(LossweaveError, match="unit='step' should be one of 'update', 'epoch'"):
        Alternating(unit="step")  # type: ignore[arg-type]
    with pytest.raises(LossweaveError, match="inactive='drop' should be one of 'hold', 'zero'"):
        Alternating(inactive="drop")  # type: ignore[arg-type]


def test_an_unknown_term() -> None:
    with pytest.raises(LossweaveError, match=r"schedule='box' is not one of the terms.*'loc'"):
        _bound(schedule={"cls": 1, "box": 1})


def test_epochs_of_unknown_length_are_refused() -> None:
    with pytest.raises(LossweaveError, match="unit='epoch' needs the number of iterations"):
        _bound(unit="epoch").begin(Progress(0))
