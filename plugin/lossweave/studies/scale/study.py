"""cls + b loc over b, under AdamW and SGD, with and without clipping of the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config
from lossweave.studies.arms.arm import Arm, Asked
from lossweave.studies.arms.findings import best_by
from lossweave.studies.arms.logged import logged_at_end
from lossweave.studies.arms.study import PLACES, lacking, train_arms
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.method import Trial

__all__ = ["OPTIMIZERS", "STUDY", "Sweep", "arm_of", "best_factors", "run_scale"]

#: The study's name in a ledger.
STUDY = "scale"
_OPTIMIZER = "optim_wrapper.optimizer"
#: By name, the options that make it the optimizer. SGD has the settings of the stock RetinaNet.
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "AdamW": (),
    "SGD": (
        f"{_OPTIMIZER}._delete_=True", f"{_OPTIMIZER}.type=SGD",
        f"{_OPTIMIZER}.momentum=0.9", f"{_OPTIMIZER}.weight_decay=0.0001",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Sweep:
    """What is swept.

    Args:
        ratios: b, the weight of loc where that of cls is 1; 1 is among them.
        rates: by optimizer, the learning rate that all of its trainings have first.
        tuned: of the ratios, those at which the rate is chosen anew.
        factors: of the rate, tried there beside 1.
        clips: whether the gradient is clipped, 'on' as the config has it and 'off'.
    """

    ratios: tuple[float, ...]
    rates: dict[str, float]
    tuned: tuple[float, ...] = ()
    factors: tuple[float, ...] = (0.3, 3.0)
    clips: tuple[str, ...] = ("on", "off")

    def __post_init__(self) -> None:
        if any(ratio <= 0 for ratio in self.ratios) or len(set(self.ratios)) < len(self.ratios):
            raise LossweaveError("--ratios: numbers above 0, each once")
        if 1.0 not in self.ratios:
            raise LossweaveError("--ratios: 1 should be among them")
        if strange := sorted(set(self.tuned) - set(self.ratios)):
            raise LossweaveError(f"--tuned: {strange[0]:g} should be one of the ratios")
        if unknown := sorted(set(self.rates) - set(OPTIMIZERS)):
            raise LossweaveError(
                f"--optimizers: {unknown[0]!r} should be one of {', '.join(OPTIMIZERS)}"
            )

    @property
    def curves(self) -> list[tuple[str, str]]:
        """Every optimizer with every clipping."""
        return list(product(self.rates, self.clips))

    def factors_at(self, ratio: float) -> tuple[float, ...]:
        """The factors of the rate that are tried at a ratio: with 1 / b, where b is above 1.

        A plain gradient step of the rate r / b on cls + b loc is one of the rate r on
        cls / b + loc.

        Example:
            >>> Sweep((1.0, 100.0), {"SGD": 0.01}, (100.0,)).factors_at(100.0)
            (0.01, 0.3, 3.0)
        """
        if ratio not in self.tuned:
            return ()
        inverse = () if ratio <= 1 or 1 / ratio in self.factors else (1 / ratio,)
        return (*inverse, *self.factors)


def arm_of(sweep: Sweep, optimizer: str, clip: str, ratio: float, factor: float = 1.0) -> Arm:
    """A ratio under an optimizer, at a factor of its rate."""
    rate = float(f"{sweep.rates[optimizer] * factor:.6g}")
    options = (
        *OPTIMIZERS[optimizer],
        *(("optim_wrapper.clip_grad=None",) if clip == "off" else ()),
    )
    places: dict[str, float | str] = dict(optimizer=optimizer, clip=clip, b=ratio, factor=factor)
    method = "Sum" if ratio == 1 else f"Sum weights=[1,{ratio:g}]"
    return Arm(places, options, method, rate)


def run_scale(asked: Asked, sweep: Sweep) -> list[Result]:
    """Train and measure what the ledger lacks.

    Returns:
        The trainings: of the first seed every curve and the further rates, then every curve of
        the other seeds, where the rate is chosen anew at the rate that was best on the
        validation split, too. With ``ledger.plan`` none: what is lacking is printed.

    Raises:
        LossweaveError: wrong input, or a training that failed (its log is named).
    """
    if sweep.clips != ("off",) and not load_config(asked.config).optim_wrapper.get("clip_grad"):
        raise LossweaveError(f"{asked.config}: it does not clip, so --clips should be off alone")
    base = [arm_of(sweep, *curve, ratio) for curve in sweep.curves for ratio in sweep.ratios]
    further = [
        arm_of(sweep, *curve, ratio, factor)
        for curve in sweep.curves
        for ratio in sweep.ratios
        for factor in sweep.factors_at(ratio)
    ]
    first, others = asked.seeds[0], asked.seeds[1:]
    trainings = [(arm, first) for arm in (*base, *further)]
    book = Book(asked.ledger, asked.work_dir)
    if asked.ledger.plan:
        print(lacking(book, STUDY, asked, [*trainings, *product(base, others)]))
        if others and further:
            print("then those at the rates that these choose")
        return []
    swept = train_arms(book, STUDY, asked, trainings, _measured, "the first seed")
    chosen = [
        arm_of(sweep, optimizer, clip, ratio, factor)
        for (optimizer, clip, ratio), factor in best_factors(swept).items()
        if factor != 1
    ]
    rest = [(arm, seed) for seed in others for arm in (*base, *chosen)]
    return [*swept, *train_arms(book, STUDY, asked, rest, _measured, "further seeds")]


def best_factors(results: Sequence[Result]) -> dict[tuple[str, str, float], float]:
    """By optimizer, clipping and b, the factor of the rate with the best AP on validation data.

    Args:
        results: of the seed that chooses; of one AP the one with the factor nearest to 1 comes
            first, as the curves do.
    """

    def where(result: Result) -> tuple[str, str, float]:
        places = result.details[PLACES]
        return places["optimizer"], places["clip"], float(places["b"])

    best = best_by(results, where)
    return {place: float(one.details[PLACES]["factor"]) for place, one in best.items()}


def _measured(trial: Trial) -> dict[str, Any]:
    return dict(logged=logged_at_end(trial.folder))
