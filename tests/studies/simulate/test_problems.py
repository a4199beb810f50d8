"""The pairs of losses: values, gradients, Pareto sets."""

import pytest
import torch

from lossweave.studies.simulate.problems import PROBLEMS, Front, problem


def toy(point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The paper's formula by torch, without what is added here."""
    x, y = point
    up, down = (y / 2).tanh().clamp(min=0), (-y / 2).tanh().clamp(min=0)
    valleys = (
        (0.5 * (-x - 7) - (-y).tanh()).abs().clamp(min=5e-6).log() + 6,
        (0.5 * (-x + 3) + (-y).tanh() + 2).abs().clamp(min=5e-6).log() + 6,
    )
    bowls = (
        ((-x + 7) ** 2 + 0.1 * (-y - 8) ** 2) / 10 - 20,
        ((-x - 7) ** 2 + 0.1 * (-y - 8) ** 2) / 10 - 20,
    )
    first, second = (up * v + down * b for v, b in zip(valleys, bowls, strict=True))
    return first, second


@pytest.mark.parametrize("point", [(-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0), (0.3, -2.0), (2.0, 1.0)])
def test_toy_is_the_papers_raised_by_20(point):
    theta = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    found = problem("toy").at(*point)
    for value, gradient, loss in zip(found.values, found.gradients, toy(theta), strict=True):
        (expected,) = torch.autograd.grad(loss, theta, retain_graph=True)
        assert value == pytest.approx(loss.item() + 20, abs=1e-12)
        assert gradient == pytest.approx(expected.tolist(), abs=1e-12)


def test_toy_at_the_bottom_of_a_valley_is_flat():
    x = -7 + 2 * torch.tensor(5.0, dtype=torch.float64).tanh().item()
    found = problem("toy").at(x, 5.0)
    assert found.values[0] == pytest.approx(20 + (6 + torch.tensor(5e-6).log().item()), abs=0.2)
    assert found.gradients[0][0] == 0


@pytest.mark.parametrize("seed", [0, 7])
def test_gradients_of_least_squares_are_differences(seed):
    at = problem("least-squares", seed).at
    step = 1e-5
    for side in (0, 1):
        found = at(1.0, 2.0).gradients[side]
        across = (at(1 + step, 2.0).values[side] - at(1 - step, 2.0).values[side]) / (2 * step)
        up = (at(1.0, 2 + step).values[side] - at(1.0, 2 - step).values[side]) / (2 * step)
        assert found == pytest.approx((across, up), abs=1e-8)


def test_a_seed_is_another_pair():
    assert problem("least-squares", 0).at(1, 1) != problem("least-squares", 1).at(1, 1)
    assert problem("least-squares", 3).at(1, 1) == problem("least-squares", 3).at(1, 1)


@pytest.mark.parametrize("name", PROBLEMS)
def test_front_is_pareto_stationary_and_ordered(name):
    losses = problem(name)
    points, values = losses.front
    for point in points[:: len(points) // 20].tolist():
        g1, g2 = (torch.tensor(g) for g in losses.at(*point).gradients)
        between = g1 - g2
        mix = ((-g2 @ between) / (between @ between)).clamp(0, 1)
        assert (mix * g1 + (1 - mix) * g2).norm() < 2e-3  # no direction improves both
    assert (values[1:, 0] >= values[:-1, 0]).all()
    assert (values[1:, 1] <= values[:-1, 1]).all()
    for start in losses.starts:
        assert losses.front.gap(losses.at(*start).values)[0] > 0.02


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("place", [0.0, 0.25, 1.0])
def test_gap_and_position_on_the_front(name, place):
    front = problem(name).front
    at = round(place * (len(front.values) - 1))
    gap, position = front.gap(front.values[at].tolist())
    assert gap == 0
    assert position == pytest.approx(place, abs=1e-9)
    gap, _ = front.gap((front.values[at] + 0.1 * front.ranges).tolist())
    assert gap == pytest.approx(0.1, abs=0.02) or gap > 0.1


def test_gap_is_the_share_by_which_both_could_fall():
    front = Front(torch.zeros(2, 2), torch.tensor([[0.0, 10.0], [2.0, 0.0]]))
    assert front.gap((3.0, 5.0)) == (0.5, 1.0)
