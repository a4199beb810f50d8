"""What all combiners of gradients share: oracle values, edges, options, state, messages."""

import copy
import pickle
from typing import Any

import pytest
import torch
from helpers.combiner_cases import registered_gradient
from helpers.gradient_cases import cases
from helpers.gradient_rows import (
    JACOBIAN,
    combined,
    make,
    memory_moves_once_per_update,
    rows_at,
    step,
)
from torch import Tensor
from torchjd import aggregation

from lossweave.combiners import GradientCombiner, register_combiner
from lossweave.combiners.registry import _COMBINERS
from lossweave.progress import Progress

ALL = cases()
NAMES = [name for name in ALL if " " not in name]
WEIGHTINGS = [n for n in NAMES if ALL[n].weighting]


def test_all_are_here() -> None:
    assert sorted(NAMES) == sorted(registered_gradient())


@pytest.mark.parametrize("name", NAMES)
def test_one_term_is_the_plain_loss(name: str) -> None:
    combiner = make(name, 1)
    for t in range(3):
        assert combiner.weights_of(torch.tensor([[float(t)]]).double()) == [1.0]


@pytest.mark.parametrize("name", [n for n in WEIGHTINGS if ALL[n].as_if_never_there])
@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_zero_row_is_as_if_never_there(name: str, absent: int) -> None:
    rows = rows_at(3)
    rows[absent] = 0
    rest = [k for k in range(3) if k != absent]
    found = make(name, 3).weights_of(rows @ rows.T)
    expected = make(name, 2).weights_of(rows[rest] @ rows[rest].T)
    assert [found[k] for k in rest] == pytest.approx(expected, rel=1e-6)
    assert found[absent] == 1.0
    assert any(w != 0 for w in expected)  # nothing stalls


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_at_all(name: str) -> None:
    assert all(torch.tensor(make(name).weights_of(torch.zeros(2, 2).double())).isfinite())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_a_gramian_that_is_not_finite(name: str, bad: float) -> None:
    combiner = make(name)
    combiner.weights_of(JACOBIAN @ JACOBIAN.T)
    state = {k: v.clone() for k, v in combiner.state_dict().items()}
    gramian = JACOBIAN @ JACOBIAN.T
    gramian[0, 0] = bad
    if name in WEIGHTINGS:
        combiner.weigh = lambda *_: pytest.fail("the solver was called")  # type: ignore
    weights = combiner.weights_of(gramian)
    assert weights[0] == weights[1]
    for key, value in combiner.state_dict().items():
        if "norm_" not in key:
            torch.testing.assert_close(value, state[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e15])
def test_scale(name: str, scale: float) -> None:
    rows = rows_at(1)
    plain = torch.tensor(make(name, 3).weights_of(rows @ rows.T))
    found = torch.tensor(make(name, 3).weights_of((scale * rows) @ (scale * rows).T))
    assert found.isfinite().all() and found.any()
    if ALL[name].scale_free:
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_a_scale_of_zero_and_rank_deficient_rows(name: str) -> None:
    same = rows_at(1)[:1].expand(3, -1)
    for rows in (0 * rows_at(1), same, torch.cat([same[:2], -same[:1]])):
        combiner = make(name, 3)
        assert torch.tensor(combiner.weights_of(rows @ rows.T)).isfinite().all()


@pytest.mark.parametrize("name", [n for n in WEIGHTINGS if ALL[n].order_tolerance])
@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2]])
def test_the_order_of_the_terms_does_not_matter(name: str, order: list[int]) -> None:
    rows = rows_at(2)
    found = combined(make(name, 3), rows)
    tolerance = ALL[name].order_tolerance
    torch.testing.assert_close(
        combined(make(name, 3), rows[order]), found, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("name", [n for n in NAMES if ALL[n].no_term_worse is not None])
def test_no_term_is_made_worse(name: str) -> None:
    for t in range(10):
        rows = rows_at(t)
        pulls = rows @ combined(make(name, 3, **ALL[name].no_term_worse), rows)
        assert (pulls > -2e-2 * rows.norm() ** 2 / len(rows)).all(), pulls


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_normalised_rows(name: str) -> None:
    rows = rows_at(4, 2)
    found = combined(make(name, normalize=True), rows)
    norms = rows.norm(dim=1)
    units = rows / norms[:, None]
    expected = combined(make(name), units) * norms.mean()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    louder = rows * torch.tensor([[1.0], [100.0]])
    again = combined(make(name, normalize=True), louder)
    torch.testing.assert_close(again / again.norm(), found / found.norm(), rtol=1e-4, atol=1e-6)


def test_momentum_is_torchjds() -> None:
    own = make("UPGrad", 3, momentum=0.7)
    weighting = aggregation.UPGradWeighting()
    theirs = aggregation.CRMOGMWeighting(weighting, alpha=0.7)
    for t in range(6):
        gramian = rows_at(t) @ rows_at(t).T
        found = step(own, gramian)
        torch.testing.assert_close(found, theirs(gramian / gramian.trace()), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_momentum_smooths_the_weights_of_any_method(name: str) -> None:
    plain, smooth = make(name, 3), make(name, 3, momentum=0.6)
    expected: Tensor | None = None
    for t in range(4):
        gramian = rows_at(t) @ rows_at(t).T
        for combiner in (plain, smooth):
            combiner.begin(Progress(t))
        new = step(plain, gramian)
        expected = new if expected is None else 0.6 * expected + 0.4 * new
        found = step(smooth, gramian)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_momentum_waits_for_an_absent_row_and_moves_once_an_update() -> None:
    combiner = make("PCGrad", 3, momentum=0.5)
    step(combiner, rows_at(0) @ rows_at(0).T)
    before = combiner.smoothed.clone()
    rows = rows_at(1)
    rows[1] = 0
    step(combiner, rows @ rows.T)
    assert combiner.smoothed[1] == before[1] and combiner.smoothed[0] != before[0]
    memory_moves_once_per_update(combiner)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("first", [1, 4])
def test_resuming_is_bit_identical(name: str, first: int) -> None:
    def run(combiner: GradientCombiner, start: int, stop: int) -> list[list[float]]:
        found = []
        for t in range(start, stop):
            combiner.begin(Progress(t))
            losses = torch.tensor([1.0, 2.0, 0.5]) * 0.9**t
            combiner.combine(losses, torch.ones(3, dtype=torch.bool))
            found.append(combiner.weights_of(rows_at(t) @ rows_at(t).T))
            combiner.update(losses, torch.ones(3, dtype=torch.bool))
        return found

    ways: list[dict[str, Any]] = [{}]
    if ALL[name].keeps:
        ways.append({"interval": 2})
    if name in WEIGHTINGS:
        ways.append({"momentum": 0.5})
    for more in ways:
        through, stopped = make(name, 3, **more), make(name, 3, **more)
        run(through, 0, first)
        run(stopped, 0, first)
        resumed = make(name, 3, **more)
        resumed.load_state_dict(stopped.state_dict())
        copies = [resumed, copy.deepcopy(stopped), pickle.loads(pickle.dumps(stopped))]
        expected = run(through, first, 7)
        for other in copies:
            assert run(other, first, 7) == expected
        through.reset()
        assert run(through, 0, 5) == run(make(name, 3, **more), 0, 5)


@pytest.mark.parametrize("name", NAMES)
def test_what_learns_has_state_and_nothing_else_has(name: str) -> None:
    combiner = make(name)
    assert bool(combiner.state_dict()) == combiner.learns
    assert not list(combiner.parameters())


def test_a_failing_solver_is_said_once_and_training_goes_on() -> None:
    @register_combiner
    class Failing(GradientCombiner):
        def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
            raise ValueError("no luck")

    try:
        combiner = make("Failing")
        with pytest.warns(UserWarning, match="Failing: no luck; equal weights") as said:
            for _ in range(3):
                assert combiner.weights_of(JACOBIAN @ JACOBIAN.T) == [0.5, 0.5]
        assert len(said) == 1
    finally:
        del _COMBINERS["Failing"]


def test_measures() -> None:
    combiner = make("PCGrad")
    assert combiner.measures() == {}
    combiner.weights_of(JACOBIAN @ JACOBIAN.T)
    combiner.weights_of(torch.tensor([[4.0, 1.0], [1.0, 9.0]], dtype=torch.float64))
    found = combiner.measures()
    assert found == pytest.approx(
        {"grad_norm_a": 2, "grad_norm_b": 3, "cos_a_b": 1 / 6, "conflict": 0.5}
    )
    assert combiner.measures() == found and not any("loss" in name for name in found)
    combiner.forget_measures()
    assert combiner.measures() == {}
