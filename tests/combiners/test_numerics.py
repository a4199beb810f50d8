"""The small numerical helpers."""

import torch
from helpers.combiner_cases import close

from lossweave.combiners._numerics import normalized_weights, tainted, tiny


def test_normalized_weights_are_a_softmax_over_the_mask() -> None:
    logits, mask = torch.tensor([0.0, 9.0, torch.tensor(3.0).log()]), torch.tensor([1, 0, 1]) > 0
    close(normalized_weights(logits, mask), [0.25, 0.0, 0.75])


def test_normalized_weights_are_zero_over_an_empty_mask() -> None:
    assert normalized_weights(torch.ones(2), torch.tensor([False, False])).tolist() == [0, 0]


def test_tainted_changes_no_bit_of_a_finite_value() -> None:
    value = torch.tensor(0.1)
    losses = torch.tensor([1e38, -3.0, 0.0])
    assert torch.equal(tainted(value, losses, torch.tensor([True, True, True])), value)


def test_tainted_is_nan_for_a_present_term_that_is_not_finite() -> None:
    for bad in (torch.nan, torch.inf, -torch.inf):
        losses = torch.tensor([bad, 1.0])
        assert tainted(torch.tensor(1.0), losses, torch.tensor([True, True])).isnan()
        assert tainted(torch.tensor(1.0), losses, torch.tensor([False, True])) == 1


def test_tiny_is_the_smallest_normal_number() -> None:
    assert tiny(torch.zeros(1)) == 2.0**-126
    assert tiny(torch.zeros(1, dtype=torch.float64)) == 2.0**-1022
