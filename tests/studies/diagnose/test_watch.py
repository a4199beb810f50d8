"""What a watch does to a training: nothing; and what it gathers."""

from collections.abc import Mapping

import pytest
import torch
from helpers.diagnosed import watched
from torch import Tensor

from lossweave.studies.diagnose.record import Record


def _curved(x: Tensor, i: int) -> Mapping[str, Tensor]:
    noise = torch.nn.functional.dropout(torch.ones_like(x), 0.5)  # draws random numbers
    return {
        "loss_a": ((x - 1) * noise).square().sum(),
        "loss_b": (x + i).abs().sum(),
        "loss_rest": x.exp().sum(),
    }


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_the_training_is_the_same_to_the_last_bit(make: type) -> None:
    torch.manual_seed(1)
    _, plain = watched(_curved, make=make, lr=0.01, watch=False, clip=1.0)
    torch.manual_seed(1)
    record, looked_at = watched(_curved, make=make, lr=0.01, clip=1.0)
    assert record is not None and len(record.looks) == 16
    assert torch.equal(plain, looked_at)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_weights_stand_still_after_the_last_iteration(make: type) -> None:
    torch.manual_seed(1)
    _, plain = watched(_curved, make=make, lr=0.01, watch=False, weight_decay=0.1)
    torch.manual_seed(1)
    record, after = watched(_curved, make=make, lr=0.01, still=5, weight_decay=0.1)
    assert torch.equal(plain, after)
    assert record is not None and len(record.looks) == 16
    assert record.means["all"].count == 5 and record.means["all"].still


def test_the_gradient_that_is_left_is_the_terms_own() -> None:
    """Every eighth look takes each gradient by a pass; the others spare the longest one's."""
    torch.manual_seed(1)
    record, _ = watched(_curved, iterations=6, lr=1e-9, clip=0.1)
    assert record is not None
    for look in record.looks:
        x, i = torch.zeros(64, requires_grad=True), look.iteration - 1
        found = _curved(x, i)
        for k, name in ((1, "loss_b"), (2, "loss_rest")):  # those that draw no dropout
            (grad,) = torch.autograd.grad(found[name], x)
            assert look.whole[k][k] == pytest.approx(float(grad @ grad), rel=1e-5)
    assert record.looks[0].whole[0][0] > record.looks[0].whole[1][1]


def test_losses_of_no_term_are_others() -> None:
    record, _ = watched(_curved, iterations=4)
    assert record is not None and record.terms == ["a", "b", "others"]
    assert record.looks[0].values[2] == pytest.approx(64) and record.reached == {
        "model": ["a", "b", "others"]
    }


def test_an_update_of_several_iterations_is_one_look() -> None:
    def losses(x: Tensor, i: int) -> Mapping[str, Tensor]:
        return {"loss_a": (i % 2 + 1) * x[0], "loss_b": x[1]}

    record, _ = watched(losses, iterations=8, accumulation=2, interval=2)
    assert record is not None
    assert [look.iteration for look in record.looks] == [4, 8]
    assert record.looks[0].whole == [[2.25, 0.0], [0.0, 1.0]]
    assert record.looks[0].clipped == pytest.approx(1)


def test_a_term_that_is_absent_has_no_gradient() -> None:
    def losses(x: Tensor, i: int) -> Mapping[str, Tensor]:
        found = {"loss_a": 2 * x[0], "loss_b": x[1]}
        return {"loss_a": found["loss_a"]} if i == 1 else found

    record, _ = watched(losses, iterations=3)
    assert record is not None
    assert [look.present for look in record.looks] == [[True, True], [True, False], [True, True]]
    assert record.looks[1].whole == [[4.0, 0.0], [0.0, 0.0]]


def test_a_record_is_plain_and_comes_back() -> None:
    record, _ = watched(_curved, iterations=4)
    assert record is not None
    plain = record.as_dict()
    again = Record.from_dict(plain)
    assert again.as_dict() == plain and again.stages == ["all"]
    assert again.looks[0].norm == pytest.approx(record.looks[0].norm, rel=1e-5)
