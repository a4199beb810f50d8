"""The part of a config that is about stages, in plain values; the same for every framework."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.staged.four_step import build_schedule
from lossweave.staged.proposal_file import PAPER_SETTINGS

__all__ = ["OWN_KEYS", "Plan"]

#: Keys of a config that are about stages.
OWN_KEYS = ("schedule", "proposals", "evaluation")


class Plan:
    """Schedule, proposals and evaluation of a staged training, checked.

    Args:
        config: with ``schedule``, and if need be ``proposals`` (settings of the RPN for training
            proposals; missing ones are the paper's) and ``evaluation`` (``split``; ``stages``:
            whether stages before the last are evaluated; ``recall``: the counts of the average
            recall, empty for none).
        parts: the parts that the detector has.
        splits: data that can be evaluated, the default first.
        predictors: modules that step 4 makes afresh; None means those of MMDetection.

    Raises:
        LossweaveError: whatever is wrong with them, in one line.

    Example:
        >>> config = dict(schedule=dict(type="joint", joint=dict(iterations=10)))
        >>> plan = Plan(config, ("backbone", "rpn_head", "roi_head"))
        >>> plan.kind, plan.recall, plan.proposals["max_per_img"]
        ('joint', (100, 300, 1000), 2000)
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        parts: Sequence[str],
        splits: Sequence[str] = ("val", "test"),
        predictors: Sequence[str] | None = None,
    ) -> None:
        if "schedule" not in config:
            raise LossweaveError("the config has no `schedule`, e.g. dict(type='four_step', ...)")
        self._given = _plain(config["schedule"])
        self.schedule = build_schedule(self._given, parts, predictors)
        self.kind = "joint" if self._given.get("type") == "joint" else "alternating"
        given = _plain(config.get("proposals") or {})
        _known("proposals", given, (*PAPER_SETTINGS, "batch_size"))
        self.proposal_batch_size: int | None = given.pop("batch_size", None)
        self.proposals = {**copy.deepcopy(dict(PAPER_SETTINGS)), **given}
        evaluation = _plain(config.get("evaluation") or {})
        _known("evaluation", evaluation, ("split", "stages", "recall"))
        self.split: str = evaluation.get("split", splits[0])
        if self.split not in splits:
            words = " or ".join(map(repr, splits))
            raise LossweaveError(f"evaluation: split={self.split!r} should be {words}")
        self.evaluate_stages = bool(evaluation.get("stages", True))
        self.recall: tuple[int, ...] = tuple(evaluation.get("recall") or ())
        if "recall" not in evaluation:
            self.recall = (100, 300, 1000)

    def options(self) -> dict[str, Any]:
        """What the record keeps of them."""
        return {
            "schedule": self._given,
            "proposals": self.proposals,
            "evaluation": {
                "split": self.split,
                "stages": self.evaluate_stages,
                "recall": list(self.recall),
            },
        }


def _known(where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            raise LossweaveError(f"{where}: unknown key {key!r}; there are {', '.join(known)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, str) or not isinstance(value, Sequence):
        return value
    return [_plain(v) for v in value]
