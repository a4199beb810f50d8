"""Weights over time: the curves' values, accumulation, nesting, what is refused."""

import math
from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, close, here

from lossweave.combination import build_combination
from lossweave.combiners import Scheduled, build_combiner
from lossweave.combiners.adaptive.scheduled import Curve
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

RAMP = {"points": [[0, 0.1], [8, 0.9], [16, 0.1]]}


def _arguments(terms: Any) -> dict[str, Any]:
    curves = {"a": RAMP, "b": 2.0, "c": {"points": [[2, 1.0], [6, 0.5]], "shape": "cosine"}}
    return {"weights": {term: curve for term, curve in curves.items() if term in terms}}


CASES = {
    "Scheduled": Case(
        _arguments, alone=0.1, draws=3,
        training={"weights": {"cls": {"points": [[0, 0.5], [3, 1.5]]}}},
    )
}  # fmt: skip


def _weights(combiner: Scheduled, progress: Progress) -> list[float]:
    combiner.begin(progress)
    return combiner.combine(torch.ones(len(combiner.terms)), here(len(combiner.terms))).weights


def _bound(weights: dict[str, Any]) -> Scheduled:
    combiner = Scheduled(weights)
    combiner.bind(("cls", "loc"))
    return combiner


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [1.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0]),
        ("step", [1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0]),
        ("cosine", [1.0, 1.0, 2 - math.cos(math.pi / 4), 2.0, 2 + math.cos(math.pi / 4), 3, 3]),
    ],
)
def test_shapes(shape: Any, expected: list[float]) -> None:
    curve = Curve(points=((10, 1.0), (14, 3.0)), shape=shape)
    assert [curve.at(x) for x in (0, 10, 11, 12, 13, 14, 99)] == pytest.approx(expected)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_ramp_up_and_back_is_exact_whatever_is_accumulated(accumulation: int) -> None:
    combiner = _bound({"loc": RAMP})
    for t in range(20 * accumulation):
        update = t // accumulation
        up = 0.1 + 0.8 * min(update, 16 - update) / 8 if update < 16 else 0.1
        close(_weights(combiner, Progress(t, accumulation)), [1.0, up], rtol=1e-6)


def test_a_run_resumed_anywhere_has_the_same_weights() -> None:
    through = _bound({"loc": RAMP})
    expected = [_weights(through, Progress(t)) for t in range(20)]
    for start in range(20):
        resumed = _bound({"loc": RAMP})
        resumed.load_state_dict(_bound({"loc": RAMP}).state_dict())
        assert torch.equal(_weights(resumed, Progress(start)), expected[start])


def test_epochs_and_shares_of_the_training() -> None:
    epochs = _bound({"loc": {"points": [[0, 0.0], [2, 1.0]], "unit": "epoch"}})
    shares = _bound({"loc": {"points": [[0, 0.0], [1, 1.0]], "unit": "share"}})
    for t in range(8):
        progress = Progress(t, 2, max_iterations=8, iterations_per_epoch=4)
        for combiner in (epochs, shares):
            close(_weights(combiner, progress), [1.0, 2 * (t // 2) / 8])


def test_it_nests_over_a_combiner_that_learns() -> None:
    terms = {"rpn": {"combiner": "UncertaintyWeighting", "terms": {"a": "loss_a", "b": "loss_b"}},
             "roi": "loss_c"}  # fmt: skip
    config = {"type": "Scheduled", "weights": {"rpn": {"points": [[0, 0.0], [4, 1.0]]}}}
    combination = build_combination(config, terms)
    for t in range(5):
        combination.set_progress(Progress(t))
        leaves = [torch.tensor(x, requires_grad=True) for x in (1.0, 2.0, 3.0)]
        entries = dict(zip(("loss_a", "loss_b", "loss_c"), leaves, strict=True))
        combination({name: leaf * 1 for name, leaf in entries.items()}).backward()
        grads = [0.0 if leaf.grad is None else leaf.grad.item() for leaf in leaves]
        assert grads[2] == 1 and grads[0] == pytest.approx(t / 4 * 0.5, rel=0.1, abs=1e-9)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"mask": 1.0}, "Scheduled: weights='mask' is not one of the terms"),
        ({"cls": {"points": []}}, r"points=\[\] should be one or more"),
        ({"cls": {"points": [[1, 1.0], [1, 2.0]]}}, "positions rising"),
        ({"cls": {"points": [[0, 1.0]], "shape": "square"}}, "shape='square' should be one of"),
        ({"cls": {"points": [[0, 1.0]], "unit": "batch"}}, "unit='batch' should be one of"),
        ({"cls": {"point": [[0, 1.0]]}}, r"has no field 'point'; did you mean 'points'\?"),
        ({"cls": {"points": [[0, float("nan")]]}}, "points=.* should be"),
        ({"cls": "high"}, "weights=.* should be"),
        ({"cls": 0.0, "loc": -1.0}, "weights=.* should be above 0 at some time for some term"),
    ],
)
def test_wrong_weights(weights: Any, message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "Scheduled", "weights": weights}).bind(("cls", "loc"))


@pytest.mark.parametrize(("unit", "what"), [("epoch", "an epoch"), ("share", "the training")])
def test_lengths_that_are_not_known(unit: str, what: str) -> None:
    combiner = _bound({"loc": {"points": [[0, 1.0]], "unit": unit}})
    with pytest.raises(LossweaveError, match=f"number of iterations in {what}, which is not"):
        _weights(combiner, Progress(0))
