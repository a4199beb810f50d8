"""A method's difference to the tuned sum over several tiers, as a meta-analysis has it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

__all__ = ["ENOUGH", "over_tiers"]

#: Tiers, from which on something is said of all of them.
ENOUGH = 3


def over_tiers(means: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    r"""The mean effect of random effects, and the half width of its 95 % interval.

    Tier i has the mean difference d_i with the standard error s_i, and an effect of its own that
    scatters by tau around the mean effect: w_i = 1 / (s_i^2 + tau^2), d = sum w_i d_i / sum w_i,
    and Student's interval with Hartung and Knapp's error. Exact tiers count more, the more so the
    less tiers scatter.

    Args:
        means: of the paired differences, in AP, one a tier.
        errors: standard errors of these.

    Source: Paule and Mandel, "Consensus values and weighting factors", 1982; Hartung and Knapp,
    "A refined method for the meta-analysis of controlled clinical trials", 2001; by statsmodels.

    Example:
        >>> mean, half = over_tiers([0.01, 0.03, 0.02], [0.01, 0.01, 0.01])
        >>> round(mean, 4), round(half, 4)
        (0.02, 0.0248)
    """
    from statsmodels.stats.meta_analysis import combine_effects

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the intervals of the tiers, which are not used
        found = combine_effects(
            np.array(means), np.square(errors), method_re="iterated", use_t=True
        )
        low, high = found.conf_int(use_t=True)[3]
    return float(found.mean_effect_re), float(high - low) / 2
