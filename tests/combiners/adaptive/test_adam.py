"""The combiners' own Adam against torch.optim.Adam."""

import pytest
import torch
from helpers.combiner_cases import close

from lossweave.combiners.adaptive._adam import BufferAdam


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_equals_torch_adam_over_many_steps(
    betas: tuple[float, float], weight_decay: float
) -> None:
    own = torch.tensor([0.3, -1.0, 5.0])
    adam = BufferAdam(3, 0.02, betas, weight_decay)
    reference = own.clone().requires_grad_()
    optimizer = torch.optim.Adam([reference], 0.02, betas, weight_decay=weight_decay)
    for t in range(300):
        grad = torch.tensor([1e-4, 3.0, 1e5]) * torch.randn(3, generator=_seeded(t))
        own = adam.step(own, grad, torch.tensor([True, True, True]))
        reference.grad = grad.clone()
        optimizer.step()
    close(own, reference.detach(), rtol=1e-4, atol=1e-6)


def test_a_masked_entry_is_as_if_its_step_had_not_been() -> None:
    own, adam = torch.zeros(2), BufferAdam(2, 0.1)
    references = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizers = [torch.optim.Adam([reference], 0.1) for reference in references]
    for t in range(30):
        mask = torch.tensor([True, t % 3 == 0])
        grad = torch.randn(2, generator=_seeded(t))
        own = adam.step(own, grad, mask)
        for k in range(2):
            if mask[k]:
                references[k].grad = grad[k].view(1)
                optimizers[k].step()
    close(own, torch.cat([r.detach() for r in references]))
    assert adam.count.tolist() == [30, 10]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float) -> None:
    adam, mask = BufferAdam(2, 0.1), torch.tensor([True, True])
    own = adam.step(torch.zeros(2), torch.ones(2), mask)
    before = {name: value.clone() for name, value in adam.state_dict().items()}
    after = adam.step(own, torch.tensor([bad, 1.0]), mask)
    assert after[0] == own[0] and after[1] < own[1]
    assert all(before[name][0] == value[0] for name, value in adam.state_dict().items())


def test_a_gradient_whose_square_overflows_does_not_stop_it_for_ever() -> None:
    adam, mask = BufferAdam(1, 0.1), torch.tensor([True])
    own = adam.step(torch.zeros(1), torch.tensor([1e30]), mask)
    assert adam.second.isfinite().all()
    close(own, [-0.1])
    assert (adam.step(own, torch.tensor([1e30]), mask) < own).all()


def test_the_largest_step_is_the_documented_one() -> None:
    adam, mask = BufferAdam(1, 0.1), torch.tensor([True])
    own = torch.zeros(1)
    for _ in range(20000):
        own = adam.step(own, torch.zeros(1), mask)
    moved = adam.step(own, torch.ones(1), mask) - own
    close(moved, [-0.1 * 0.1 / 0.001**0.5], rtol=1e-2)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
