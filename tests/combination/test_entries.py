"""The one normalisation of a detector's raw losses, beside what the frameworks make of them."""

from typing import Any

import pytest
import torch
from mmengine.model import BaseModel

from lossweave.combination import build_combination
from lossweave.combination.entries import LossEntries
from lossweave.errors import LossweaveError

X = torch.tensor([1.0, 2.0, 6.0])
#: What MMEngine takes, too.
TAKEN: dict[str, Any] = {
    "a scalar": X.sum(),
    "one element": X[:1],
    "any shape": X.view(3, 1),
    "a list": [X, X[:1], X.sum()],
    "a list of one": [X],
    "half precision": X.bfloat16(),
}


class _Stock(BaseModel):
    def forward(self) -> None:
        pass


@pytest.mark.parametrize("kind", TAKEN)
def test_a_loss_is_what_the_framework_makes_of_it(kind: str) -> None:
    _, log = _Stock().parse_losses({"loss_a": TAKEN[kind]})
    found = LossEntries({"loss_a": TAKEN[kind]})["loss_a"]
    assert torch.equal(found, log["loss_a"]) and found.dtype == log["loss_a"].dtype


def test_an_empty_list_is_no_loss_and_adds_nothing() -> None:
    total, _ = _Stock().parse_losses({"loss_a": X, "loss_b": []})
    entries = LossEntries({"loss_a": X, "loss_b": [], "loss_c": [[], []]})
    assert list(entries) == ["loss_a"] and entries["loss_a"] == total


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3.0), (0.5, 0.5), ([X, [X, 1]], 7.0), ((X, 2), 5.0), ([[X], []], 3.0)],
)
def test_numbers_and_nested_lists(value: Any, expected: float) -> None:
    assert LossEntries({"loss_a": value})["loss_a"] == expected


def test_parts_of_lists_are_kept_by_themselves() -> None:
    assert [x.item() for x in LossEntries({"a": [X, X[:1]], "b": X}).lists["a"]] == [3, 1]


@pytest.mark.parametrize("value", ["1.0", None, {"a": X}, [X, None]])
def test_what_is_no_loss(value: Any) -> None:
    with pytest.raises(LossweaveError, match="loss 'loss_a' should be a tensor, a number or a li"):
        LossEntries({"loss_a": value})


@pytest.mark.parametrize("combiner", ["Sum", "Product", "UncertaintyWeighting", "MGDA"])
def test_all_of_them_in_one_combination(combiner: str) -> None:
    w = torch.ones(2, requires_grad=True)
    losses = {
        "loss_cls": [w * 1, w.sum()],
        "loss_bbox": (w * 3).view(1, 2),
        "loss_x": 2,
        "loss_y": [],
    }
    combination = build_combination(combiner)
    combination(losses).backward()
    assert {k: v["value"] for k, v in combination.last().items()} == {"cls": 3.0, "loc": 3.0}
    assert w.grad is not None and w.grad.all()


def test_detached_losses_count_and_train_nothing() -> None:
    w = torch.tensor(2.0, requires_grad=True)
    build_combination("Product")({"loss_cls": w * 1, "loss_bbox": torch.tensor(3.0)}).backward()
    assert w.grad == 3
