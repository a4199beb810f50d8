"""The next point to try, from what is known: Optuna's samplers, asked anew each time."""

from __future__ import annotations

import warnings
from typing import Any

from scipy.stats import qmc

from lossweave.errors import LossweaveError
from lossweave.studies.tune.racing import Race
from lossweave.studies.tune.space import Space

__all__ = ["SAMPLERS", "distributions", "optuna_module", "suggest"]

#: Names of samplers.
SAMPLERS = ("gp", "tpe", "random")
#: Points that are spread evenly before any is suggested by what is known.
_SPREAD = 4
_TRIES = 20


def optuna_module() -> Any:
    """Optuna, which is an extra.

    Raises:
        LossweaveError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise LossweaveError("tune.py needs Optuna: pip install 'lossweave[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def distributions(space: Space) -> dict[str, Any]:
    """By parameter, where Optuna may choose it."""
    optuna = optuna_module()
    return {
        name: optuna.distributions.FloatDistribution(*space.bounds(name), step=space.steps)
        for name in space.names
    }


def suggest(space: Space, race: Race, sampler: str, seed: int) -> dict[str, float]:
    """The parameters to try next.

    The answer follows from the seed and what is known, and from nothing that a killed process
    could take with it. What is still running or was stopped counts with the score that is
    foretold of it.

    Args:
        space: what is searched.
        race: what is known.
        sampler: one of :data:`SAMPLERS`.
        seed: the search's.
    """
    tried = [dict(course.params) for course in race.courses]
    left = [p for p in map(space.params, space.grid()) if p not in tried] if space.steps else []
    if space.steps and not left:
        raise LossweaveError("every point of the grid has been tried; nothing is left to search")
    for again in range(_TRIES):
        number = len(tried) + 1000 * again
        if sampler != "random" and len(tried) <= _SPREAD:  # the first is the config's own point
            params = _spread(space, seed, number)
        else:
            params = _asked(space, race, sampler, (seed * 1_000_003 + number) % 2**31)
        if params not in tried:
            return params
        if left and sampler != "random":
            return min(left, key=lambda p: sum((p[name] - params[name]) ** 2 for name in p))
    raise LossweaveError("every point that was drawn has been tried; nothing is left to search")


def _spread(space: Space, seed: int, number: int) -> dict[str, float]:
    """A scrambled Sobol sequence's point of that number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on balance, which a few points do not have
        sequence = qmc.Sobol(len(space.names), scramble=True, rng=seed)
        sequence.fast_forward(number)
        drawn = sequence.random(1)[0]
    params = {}
    for name, share in zip(space.names, drawn, strict=True):
        low, high = space.bounds(name)
        if space.steps:
            count = int((high - low) / space.steps + 1e-9) + 1
            params[name] = low + space.steps * min(int(share * count), count - 1)
        else:
            params[name] = low + float(share) * (high - low)
    return params


def _asked(space: Space, race: Race, sampler: str, seed: int) -> dict[str, float]:
    """What one of Optuna's samplers suggests, told of every training's score at the end."""
    optuna = optuna_module()
    where = distributions(space)
    study = optuna.create_study(direction="maximize", sampler=_sampler(optuna, sampler, seed))
    for course in race.courses:
        value = race.foretold(course)
        if value is not None:
            told = optuna.trial.create_trial(
                params=dict(course.params), distributions=where, value=value
            )
            study.add_trial(told)
    found = study.ask(where).params
    return {name: float(found[name]) for name in space.names}


def _sampler(optuna: Any, name: str, seed: int) -> Any:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=2, multivariate=True)
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=2)
