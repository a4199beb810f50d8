"""Scores of a comparison, made by hand."""

from lossweave.studies.compare.rates import best_rates
from lossweave.studies.runs.method import Method, Score


def plain_scores() -> list[Score]:
    # On validation the second sum is best; on test the first is.
    val = {"Sum": 0.50, "Sum weights=[1,2]": 0.55, "DWA": 0.52}
    test = {"Sum": 0.60, "Sum weights=[1,2]": 0.50, "DWA": 0.53}
    noise = {0: 0.00, 1: 0.02, 2: -0.01}
    wobble = {"DWA": {0: 0.001, 1: -0.001, 2: 0.0}}
    return [
        Score(m, s, val[m] + e, test[m] + e + wobble.get(m, {}).get(s, 0), 0.9)
        for m in val
        for s, e in noise.items()
    ]


RATES = (1e-3, 5e-4, 2e-3)


METHODS = tuple(map(Method.parse, ("Sum", "Sum weights=[1,2]", "Sum weights=[2,1]", "MGDA")))


#: AP on the validation split at each of the rates; on the test split 0.02 less.
SWEEP = {
    "Sum": (0.60, 0.50, 0.65),
    "Sum weights=[1,2]": (0.64, 0.55, 0.60),
    "Sum weights=[2,1]": (0.66, 0.60, 0.66),
    "MGDA": (0.57, 0.58, 0.00),
}


def score_at(method: str, seed: int, rate: float, val: float) -> Score:
    details = {"diverged": "a loss is not finite"} if val == 0 else {}
    return Score(method, seed, val, max(0.0, val - 0.02), 0.9, details, rate)


def sweep_scores() -> list[Score]:
    return [
        score_at(method, 0, rate, val)
        for method, found in SWEEP.items()
        for rate, val in zip(RATES, found, strict=True)
    ]


def swept_scores() -> list[Score]:
    chosen = best_rates(sweep_scores())
    return [
        *sweep_scores(),
        *(score_at(m, s, chosen[m], max(SWEEP[m]) - 0.01 * s) for s in (1, 2) for m in SWEEP),
    ]
