"""Every combiner's weights against its own oracle, and the root's gradient against them."""

import copy

import pytest
import torch
from helpers.combiner_cases import (
    TERMS,
    at,
    cases,
    close,
    config,
    here,
    losses_at,
    make,
    run,
)
from helpers.ddp_toy import PATTERNS, Toy, shard

from lossweave.combination import build_combination

CASES = cases()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("updates", [0, 9])
def test_weights_against_their_oracle(case: str, updates: int) -> None:
    combiner = make(case)
    run(combiner, 0, updates)
    combiner.begin(at(updates))
    losses = losses_at(updates, torch.float64)
    value, weights = combiner.combine(losses, here())
    assert value.dtype == weights.dtype == torch.float64
    formula = CASES[case].formula
    if formula is not None:
        variable = losses.clone().requires_grad_()
        expected = formula(combiner, variable)
        close(value, expected.detach(), rtol=1e-6)
        close(weights, torch.autograd.grad(expected, variable)[0], rtol=1e-6)
        return
    for k in range(3):  # central differences of the value
        step = 1e-6 * losses[k].item()
        up, down = losses.clone(), losses.clone()
        up[k] += step
        down[k] -= step
        difference = combiner.combine(up, here()).value - combiner.combine(down, here()).value
        close(weights[k], difference / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_the_root_s_gradient_is_the_weighted_sum_of_the_terms_gradients(
    case: str, scale: float
) -> None:
    combination = build_combination(config(case), PATTERNS)
    combination.set_progress(at(0))
    model = Toy(combination)
    parameters = [*model.trunk.parameters(), *model.head_a.parameters(),
                  *model.head_bc.parameters()]
    for t in range(4):
        combination.set_progress(at(t))
        losses = model.losses(shard(t, 0))
        twin = copy.deepcopy(combination.combiner)
        twin.begin(at(t))
        value, weights = twin.combine(torch.stack(list(losses.values())).detach(), here())
        expected = [torch.zeros_like(p) for p in parameters]
        for weight, loss in zip(weights, losses.values(), strict=True):
            grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            for total, grad in zip(expected, grads, strict=True):
                total += 0 if grad is None else scale * weight * grad
        model.zero_grad()
        root = combination(losses)
        assert torch.equal(root.detach(), value)
        (root * scale).backward()
        for parameter, grad in zip(parameters, expected, strict=True):
            found = torch.zeros_like(grad) if parameter.grad is None else parameter.grad
            close(found, grad, rtol=1e-6, atol=1e-9 * scale)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_types(case: str, dtype: torch.dtype) -> None:
    combination = build_combination(config(case), PATTERNS)
    leaves = [loss.to(dtype).requires_grad_() for loss in losses_at(0)]
    for t in range(3):
        combination.set_progress(at(t))
        root = combination({f"loss_{term}": x * 1 for term, x in zip(TERMS, leaves, strict=True)})
        assert root.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        root.backward()
        weights = [entry["weight"] for entry in combination.last().values()]
        for leaf, weight in zip(leaves, weights, strict=True):
            grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            assert grad.dtype == dtype
            close(grad.double(), torch.tensor(weight, dtype=torch.float64),
                  rtol=8e-3 if dtype == torch.bfloat16 else 1e-6)
            leaf.grad = None


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_losses_are_combined_in_float32(case: str) -> None:
    exact, promoted = (build_combination(config(case), PATTERNS) for _ in range(2))
    for t in range(6):
        low = losses_at(t).bfloat16()
        for combination, losses in ((exact, low.float()), (promoted, low)):
            combination.set_progress(at(t))
            combination(dict(zip(PATTERNS.values(), losses.unbind(), strict=True)))
        assert exact.last() == promoted.last()
