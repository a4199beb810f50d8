"""Box losses with training boxes of which a share is grossly wrong, tested on clean ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config
from lossweave.studies.arms.arm import Arm, Asked
from lossweave.studies.arms.findings import best_by
from lossweave.studies.arms.study import PLACES, lacking, train_arms
from lossweave.studies.box_losses.errors import box_errors
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.result import Result
from lossweave.studies.runs.boxes import boxes_of
from lossweave.studies.runs.method import Trial
from lossweave.studies.runs.training import parsed_options

__all__ = ["LOSSES", "SHARE", "STUDY", "BoxLoss", "arm_of", "run_box_losses"]

#: The study's name in a ledger.
STUDY = "box_losses"
_LOSS = "model.bbox_head.loss_bbox"
#: Where the config has the share of wrong boxes.
SHARE = "train_dataloader.dataset.pipeline.2.share"


@dataclass(frozen=True)
class BoxLoss:
    """A box loss, and the weights that are tried for it.

    Args:
        options: ``--cfg-options`` that make it the head's.
        weights: three, a factor of 3 apart.
        text: what it is.
    """

    options: tuple[str, ...]
    weights: tuple[float, ...]
    text: str


#: By name, from the one that minds outliers most. The weights are around that at which a box of
#: the usual error (0.15 in the head's units) has about the gradient that L1 has with weight 1.
LOSSES: Mapping[str, BoxLoss] = {
    "L2": BoxLoss((f"{_LOSS}.type=MSELoss",), (1.0, 3.0, 9.0), "squared error of the offsets"),
    "SmoothL1": BoxLoss(
        (f"{_LOSS}.type=SmoothL1Loss", f"{_LOSS}.beta=0.11"),
        (0.3, 1.0, 3.0),
        "squared below 0.11, absolute above",
    ),
    "L1": BoxLoss((f"{_LOSS}.type=L1Loss",), (0.3, 1.0, 3.0), "absolute error of the offsets"),
    "GIoU": BoxLoss(
        ("model.bbox_head.reg_decoded_bbox=True", f"{_LOSS}.type=GIoULoss"),
        (0.6, 2.0, 6.0),
        "1 - GIoU of the decoded boxes",
    ),
}


def arm_of(loss: str, weight: float, share: float) -> Arm:
    """A box loss with a weight, and a share of wrong boxes."""
    options = (*LOSSES[loss].options, f"{_LOSS}.loss_weight={weight:g}")
    wrong = (f"{SHARE}={share:g}",) if share else ()
    return Arm(dict(loss=loss, weight=weight, share=share), (*options, *wrong))


def run_box_losses(
    asked: Asked, losses: Sequence[str], shares: Sequence[float]
) -> list[Result]:
    """Train and measure what the ledger lacks.

    Returns:
        The trainings: first those of the first seed on clean boxes by which each loss's weight
        is chosen (best AP on the validation split), then every loss at its weight with every
        share and seed. With ``ledger.plan`` none: what is lacking is printed.

    Raises:
        LossweaveError: wrong input, or a training that failed (its log is named).
    """
    _check(asked, losses, shares)
    asked = replace(asked, boxes=True)
    book = Book(asked.ledger, asked.work_dir)
    sweep = [
        (arm_of(loss, weight, 0.0), asked.seeds[0])
        for loss in losses
        for weight in LOSSES[loss].weights
    ]
    if asked.ledger.plan:
        print(lacking(book, STUDY, asked, sweep))
        print(f"then {len(losses) * (len(shares) * len(asked.seeds) - 1)} more, at the weights "
              "that these choose")  # fmt: skip
        return []
    tuned = train_arms(book, STUDY, asked, sweep, _measured, "weights of the losses")
    chosen = best_weights(tuned)
    every = [
        (arm_of(loss, chosen[loss], share), seed)
        for seed in asked.seeds
        for share in shares
        for loss in losses
    ]
    known = {(arm.name, seed) for arm, seed in sweep}
    rest = [(arm, seed) for arm, seed in every if (arm.name, seed) not in known]
    return [*tuned, *train_arms(book, STUDY, asked, rest, _measured, "trainings")]


def best_weights(results: Sequence[Result]) -> dict[str, float]:
    """By loss, the weight with the best AP on the validation split, on clean boxes.

    Args:
        results: of the seed that chooses.
    """
    clean = [result for result in results if not result.details[PLACES]["share"]]
    best = best_by(clean, lambda result: str(result.details[PLACES]["loss"]))
    return {loss: float(result.details[PLACES]["weight"]) for loss, result in best.items()}


def _check(asked: Asked, losses: Sequence[str], shares: Sequence[float]) -> None:
    for loss in losses:
        if loss not in LOSSES:
            raise LossweaveError(f"--losses: {loss!r} should be one of {', '.join(LOSSES)}")
    if not losses or len(set(losses)) < len(losses):
        raise LossweaveError("--losses: name at least one, each once")
    if 0.0 not in shares or len(set(shares)) < len(shares):
        raise LossweaveError("--shares: 0 should be among them, and each should be there once")
    pipeline = load_config(asked.config).train_dataloader.dataset.pipeline
    if len(pipeline) < 3 or pipeline[2]["type"] != "lossweave.GrossBoxErrors":
        raise LossweaveError(
            f"{asked.config}: the third step of the training pipeline should be "
            "lossweave.GrossBoxErrors, whose share is set"
        )


def _measured(trial: Trial) -> dict[str, Any]:
    cfg = load_config(trial.config, parsed_options(trial.options))
    return dict(boxes=box_errors(cfg.test_evaluator.ann_file, boxes_of(trial)).as_dict())
