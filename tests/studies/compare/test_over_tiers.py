"""A mean over tiers against the formulas, written out."""

import numpy as np
import pytest
from scipy import optimize, stats

from lossweave.studies.compare.over_tiers import over_tiers

MEANS = np.array([0.006, -0.012, 0.008, 0.05])
ERRORS = np.array([0.004, 0.01, 0.003, 0.012])


def test_paule_and_mandels_mean_with_hartung_and_knapps_interval() -> None:
    def weights(tau2: float) -> np.ndarray:
        return 1 / (ERRORS**2 + tau2)

    def scatter(tau2: float) -> float:
        w = weights(tau2)
        mean = (w * MEANS).sum() / w.sum()
        return float((w * (MEANS - mean) ** 2).sum()) - (len(MEANS) - 1)

    w = weights(optimize.brentq(scatter, 0, 1))
    mean = (w * MEANS).sum() / w.sum()
    error = ((w * (MEANS - mean) ** 2).sum() / (len(MEANS) - 1) / w.sum()) ** 0.5
    half = stats.t.ppf(0.975, len(MEANS) - 1) * error
    assert over_tiers(MEANS, ERRORS) == pytest.approx((mean, half), rel=1e-3)


def test_an_exact_tier_decides() -> None:
    mean, _ = over_tiers([0.01, 0.0101, 0.1], [1e-4, 1e-4, 10.0])
    assert mean == pytest.approx(0.01, abs=2e-4)
