"""Every combiner at huge, zero, negative, absent and non-finite terms."""

import pytest
import torch
from helpers.combiner_cases import (
    EPOCH,
    Combined,
    at,
    cases,
    close,
    here,
    losses_at,
    make,
    step,
)
from torch import Tensor

from lossweave.combiners import Combiner

CASES = cases()


def _finite(result: Combined) -> bool:
    return bool(result.value.isfinite() and result.weights.isfinite().all())


def _state_is_sane(case: str, combiner: Combiner) -> bool:
    return all(
        bool(value.isfinite().all())
        for name, value in combiner.state_dict().items()
        if name.split(".")[-1] not in CASES[case].unknown
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-8, 1e-3, 1.0, 1e3, 1e8, 1e15])
def test_scale(case: str, scale: float) -> None:
    combiner = make(case)
    for t in range(12):
        value, weights = step(combiner, t, scale * torch.tensor([0.7, 1.3, 2.1]))
        assert weights.isfinite().all()
        if CASES[case].overflows and scale == 1e15:
            assert value == torch.inf  # 1.9e45 is beyond float32, as documented
        else:
            assert value.isfinite()
    assert _state_is_sane(case, combiner)


@pytest.mark.parametrize("case", CASES)
def test_a_jump_in_scale_does_not_upset_what_was_learned(case: str) -> None:
    combiner = make(case)
    for t in range(60):
        scale = 1e15 if 20 <= t < 22 else 1e-15 if 40 <= t < 42 else 1.0
        result = step(combiner, t, scale * losses_at(t))
        assert result.weights.isfinite().all()
    assert _finite(result) and _state_is_sane(case, combiner)


@pytest.mark.parametrize("case", CASES)
def test_terms_of_very_different_sizes(case: str) -> None:
    combiner = make(case)
    for t in range(12):
        assert _finite(step(combiner, t, torch.tensor([1e-15, 1.0, 1e15])))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("zero", [0, 1, 2])
def test_a_term_stuck_at_zero_does_not_stall_the_others(case: str, zero: int) -> None:
    combiner, pulls = make(case), torch.zeros(3)
    for t in range(400):
        losses = losses_at(t % 20)
        losses[zero] = 0
        result = step(combiner, t, losses)
        assert _finite(result) and (result.weights >= 0).all()
        if t >= 200:
            pulls += result.weights
    others = [k for k in range(3) if k != zero]
    if CASES[case].one_wins:
        assert pulls[others].sum() >= 200  # one of the others wins every time
    else:
        assert (pulls[others] > 0).all()
    assert _state_is_sane(case, combiner)
    # And when the term comes back, its weight is an ordinary one.
    for t in range(400, 400 + 4 * EPOCH):
        weights = step(combiner, t, torch.tensor([1.0, 1.0, 1.0])).weights
        assert (weights >= 0).all() and (weights <= 10).all()


@pytest.mark.parametrize("case", CASES)
def test_all_terms_at_zero(case: str) -> None:
    combiner = make(case)
    for t in range(12):
        assert _finite(step(combiner, t, torch.zeros(3)))
    result = step(combiner, 12, torch.ones(3))
    assert _finite(result) and result.weights.any()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("negative", [0, 1, 2])
def test_a_negative_term(case: str, negative: int) -> None:
    combiner = make(case)
    for t in range(20):
        losses = torch.tensor([1.1, 1.3, 2.1])
        losses[negative] = -0.5
        value, weights = step(combiner, t, losses)
        assert value.isfinite() and weights.isfinite().all()
        assert (weights >= 0).all()  # no term is pushed UP
        if CASES[case].drops_negative:
            assert weights[negative] == 0 and weights.sum() > 0
    assert _state_is_sane(case, combiner)


def test_a_negative_sum_squared_is_pulled_up_to_zero() -> None:
    # The one exception to the above: the optimum of the squared sum is at 0.
    assert (make("SquaredSum").combine(torch.tensor([-3.0, 1.0, 1.0]), here()).weights < 0).all()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("absent", [0, 1, 2])
def test_an_absent_term_has_no_weight(case: str, absent: int) -> None:
    combiner = make(case)
    for t in range(12):
        losses, present = losses_at(t), here()
        losses[absent], present[absent] = 0, False
        value, weights = step(combiner, t, losses, present)
        assert weights[absent] == 0 and value.isfinite() and weights.isfinite().all()
    assert _state_is_sane(case, combiner)


@pytest.mark.parametrize("case", [c for c in CASES if CASES[c].absent_as_if_never_there])
def test_a_term_that_is_always_absent_is_as_if_never_there(case: str) -> None:
    full, rest = make(case), make(case, ("b", "c"))
    present = torch.tensor([False, True, True])
    for t in range(12):
        losses = losses_at(t)
        losses[0] = 0
        ours, theirs = step(full, t, losses, present), step(rest, t, losses[1:])
        close(ours.value, theirs.value)
        close(ours.weights[1:], theirs.weights)


@pytest.mark.parametrize("case", CASES)
def test_no_term_at_all_changes_nothing(case: str) -> None:
    combiner, nothing = make(case), torch.zeros(3, dtype=torch.bool)
    for t in range(3):
        step(combiner, t, losses_at(t))
    before = {n: v.clone() for n, v in combiner.state_dict().items()}
    combiner.begin(at(4))  # no period ends here
    value, weights = combiner.combine(torch.zeros(3), nothing)
    combiner.update(torch.zeros(3), nothing)
    assert value == 0 and not weights.any()
    for name, old in before.items():
        if name not in CASES[case].forgets:
            assert torch.equal(old.nan_to_num(-7), combiner.state_dict()[name].nan_to_num(-7))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_term_that_is_not_finite_is_seen_and_forgotten(
    case: str, position: int, bad: float
) -> None:
    combiner = make(case)
    seen = 0
    for t in range(3, 3 * EPOCH):
        losses = losses_at(t)
        losses[position] = bad
        result = step(combiner, t, losses)
        if (combiner.active() or [True] * 3)[position]:
            seen += 1
            assert not _finite(result)
        else:  # it takes no part
            assert _finite(result) and result.weights[position] == 0
    assert seen > 0
    for t in range(3 * EPOCH, 7 * EPOCH):
        result = step(combiner, t, losses_at(t))
    assert _finite(result) and _state_is_sane(case, combiner)
    assert not torch.equal(result.weights, torch.zeros(3))


@pytest.mark.parametrize("case", CASES)
def test_one_term(case: str) -> None:
    combiner = make(case, ("a",))
    loss = torch.tensor([2.5])
    value, weights = combiner.combine(loss, here(1))
    close(weights, [CASES[case].alone])
    if CASES[case].value_alone:
        close(value, 2.5 * CASES[case].alone)
    for t in range(20):
        result = step(combiner, t, loss)
        assert _finite(result) and result.weights[0] > 0


def _permuted(case: str, order: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Weights over a run, of the terms in their order and in another one, both as (a, b, c)."""
    plain, other = make(case), make(case, tuple("abc"[k] for k in order))
    ours, theirs = [], []
    for t in range(12):
        ours.append(step(plain, t, losses_at(t)).weights)
        theirs.append(step(other, t, losses_at(t)[order]).weights[torch.tensor(order).argsort()])
    return ours, theirs


@pytest.mark.parametrize("case", [c for c in CASES if not CASES[c].by_position])
@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2]])
def test_the_order_of_the_terms_does_not_matter(case: str, order: list[int]) -> None:
    for ours, theirs in zip(*_permuted(case, order), strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("case", [c for c in CASES if CASES[c].by_position])
def test_some_draws_go_by_position(case: str) -> None:
    plain, other = make(case), make(case, ("c", "a", "b"))
    for t in range(5):
        ours, theirs = step(plain, t, losses_at(t)), step(other, t, losses_at(t)[[2, 0, 1]])
        assert torch.equal(ours.weights, theirs.weights)
