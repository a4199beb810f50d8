"""Detectors beside each other, each at the learning rate that suits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossweave.studies.arms.findings import best_by
from lossweave.studies.ledger.result import Result
from lossweave.studies.precision_recall.findings import DetectorFindings, find

__all__ = ["TunedFindings", "at_own_rate", "chosen_rates", "find_tuned", "rate_name"]


@dataclass(frozen=True)
class TunedFindings:
    """What the trainings at the chosen rates say.

    Args:
        tried: by detector, AP on the validation split with the first seed, by rate.
        chosen: by detector, the rate with the best one.
        found: of the trainings at these rates, with every seed.
    """

    tried: Mapping[str, Mapping[str, float]]
    chosen: Mapping[str, str]
    found: DetectorFindings


def rate_name(rate: float | None) -> str:
    """A rate in words.

    Example:
        >>> rate_name(0.001), rate_name(None)
        ('0.001', "the config's")
    """
    return "the config's" if rate is None else f"{rate:g}"


def at_own_rate(results: Sequence[Result]) -> list[Result]:
    """The trainings at the rates of the configs themselves."""
    return [result for result in results if result.rate is None]


def chosen_rates(results: Sequence[Result]) -> dict[str, float | None]:
    """By config, the rate with the best AP on the validation split; of equal ones the first.

    Args:
        results: of the seed that chooses.
    """
    return {config: best.rate for config, best in best_by(results, lambda r: r.config).items()}


def find_tuned(results: Sequence[Result]) -> TunedFindings | None:
    """What results say of detectors at a rate of their own.

    Args:
        results: of all rates; the first one's detector is the reference, and its seed chooses.

    Returns:
        Of the detectors of which several rates were tried; None where that is not the reference
        and another one.
    """
    first = [result for result in results if result.seed == results[0].seed]
    rates: dict[str, dict[str, float]] = {}
    for result in first:
        rates.setdefault(result.config, {}).setdefault(rate_name(result.rate), result.scores["val"])
    tried = {config: found for config, found in rates.items() if len(found) > 1}
    if len(tried) < 2 or results[0].config not in tried:
        return None
    chosen = chosen_rates(first)
    at_best = [r for r in results if r.config in tried and r.rate == chosen[r.config]]
    return TunedFindings(
        tried={Path(config).stem: found for config, found in tried.items()},
        chosen={Path(config).stem: rate_name(chosen[config]) for config in tried},
        found=find(at_best, results[0].config, results),
    )
