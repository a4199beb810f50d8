"""A sweep over lambda of an l1 and an l2 penalty, and over AdamW's decay beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.studies.arms.arm import Arm, Asked
from lossweave.studies.arms.logged import logged_at_end
from lossweave.studies.arms.study import lacking, train_arms
from lossweave.studies.ledger.book import Book
from lossweave.studies.ledger.result import Result
from lossweave.studies.regularisation.weights import sizes_in
from lossweave.studies.runs.method import Trial

__all__ = ["KINDS", "MODULES", "OTHERS", "STUDY", "Sweep", "arms_of", "run_regularisation"]

#: The study's name in a ledger.
STUDY = "regularisation"
#: What shrinks the weights: two penalties among the losses, and the optimizer by itself.
KINDS = ("l1", "l2", "decay")
#: Of RetinaNet, whose weights shrink, and what has to be named for the others.
MODULES = ("neck", "bbox_head.cls_convs", "bbox_head.reg_convs", "bbox_head.retina_reg")
OTHERS = ("backbone", "retina_cls")
_NAME = "loss_penalty"


@dataclass(frozen=True)
class Sweep:
    """What is swept.

    Args:
        lambdas: by kind, the strengths beside 0.
        modules: whose weights shrink, by the names of a :class:`lossweave.ParameterPenalty`.
            Not RetinaNet's last layer of classification: its biases begin at -4.6, which makes a
            box rare, and would be nearly all of an l2 penalty.
        others: what the optimizer's decay leaves alone: parts of the names of all others.
    """

    lambdas: Mapping[str, tuple[float, ...]]
    modules: tuple[str, ...] = MODULES
    others: tuple[str, ...] = OTHERS

    def __post_init__(self) -> None:
        for kind, values in self.lambdas.items():
            if any(value <= 0 for value in values) or len(set(values)) < len(values):
                raise LossweaveError(f"--{kind}: numbers above 0, each once; 0 is always there")
        if not any(self.lambdas.values()):
            raise LossweaveError("name at least one strength, by --l1, --l2 or --decay")
        if not self.modules or "*" in self.modules:
            raise LossweaveError("--modules: name parts of the detector, e.g. neck bbox_head")


def arms_of(sweep: Sweep) -> list[Arm]:
    """An arm without any, then one for each kind and strength, from the smallest."""
    plain = ("optim_wrapper.optimizer.weight_decay=0.0",)
    arms = [Arm({"kind": "none", "lambda": 0.0}, plain)]
    for kind, values in sweep.lambdas.items():
        for value in sorted(values):
            options = (
                _decay(value, sweep.others) if kind == "decay"
                else (*plain, *_penalty(kind, value, sweep.modules))
            )  # fmt: skip
            arms.append(Arm({"kind": kind, "lambda": value}, options))
    return arms


def run_regularisation(asked: Asked, sweep: Sweep) -> list[Result]:
    """Train and measure what the ledger lacks, one seed of all arms after the other.

    Returns:
        The trainings. With ``ledger.plan`` none: what is lacking is printed.

    Raises:
        LossweaveError: wrong input, or a training that failed (its log is named).
    """
    trainings = [(arm, seed) for seed in asked.seeds for arm in arms_of(sweep)]
    book = Book(asked.ledger, asked.work_dir)
    if asked.ledger.plan:
        print(lacking(book, STUDY, asked, trainings))
        return []
    return train_arms(book, STUDY, asked, trainings, partial(_measured, sweep.modules))


def _penalty(kind: str, value: float, modules: Sequence[str]) -> tuple[str, ...]:
    return (
        "model.penalty.type=lossweave.ParameterPenalty",
        f"model.penalty.kind={kind}",
        f"model.penalty.weight={value!r}",
        f"model.penalty.modules=[{','.join(modules)}]",
        f"model.penalty.name={_NAME}",
    )


def _decay(value: float, others: Sequence[str]) -> tuple[str, ...]:
    """AdamW's own; that of the others is multiplied by 0."""
    return (
        f"optim_wrapper.optimizer.weight_decay={value!r}",
        *(f"optim_wrapper.paramwise_cfg.custom_keys.{part}.decay_mult=0.0" for part in others),
    )


def _measured(modules: Sequence[str], trial: Trial) -> dict[str, Any]:
    logged = logged_at_end(trial.folder)
    checkpoint = (trial.folder / "last_checkpoint").read_text().strip()
    return dict(
        data=sum(v for n, v in logged.items() if n.startswith("loss_") and n != _NAME),
        penalty=logged.get(_NAME, 0.0),
        logged=logged,
        sizes=sizes_in(checkpoint, modules),
    )
