"""IMTL-G: the oracle, the closed form for two terms."""

import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_rows import JACOBIAN, combined, make, near, rows_at

CASES = {"IMTLG": GradientCase()}


def test_oracle() -> None:
    near(combined(make("IMTLG"), JACOBIAN), [0.0767, 1, 1])
    near(make("IMTLG").weights_of(JACOBIAN @ JACOBIAN.T), [0.5923, 0.4077])


def test_closed_form_for_two() -> None:
    for t in range(5):
        one, two = rows = rows_at(t, 2)
        n1, n2 = one.norm(), two.norm()
        torch.testing.assert_close(combined(make("IMTLG"), rows), (n2 * one + n1 * two) / (n1 + n2))
