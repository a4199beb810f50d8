"""The part of a config that is about stages, in plain values; the same for every framework."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from lossweave.errors import LossweaveError
from lossweave.staged.four_step import build_schedule
from lossweave.staged.proposal_file import PAPER_SETTINGS
from lossweave.utils.fields import Allowed, between, check_value, near_names, read_fields

__all__ = ["OWN_KEYS", "Plan"]

#: Keys of a config that are about stages.
OWN_KEYS = ("schedule", "proposals", "evaluation")


@dataclass(frozen=True)
class _Proposals:
    """What a config says of training proposals."""

    nms_pre: Annotated[int, Allowed("at least 1, or -1 for all", lambda n: n == -1 or n >= 1)]
    nms: Mapping[str, Any]
    max_per_img: Annotated[int, between(1, 10**6)]
    min_bbox_size: Annotated[float, between(0, 1000)]  # no image has boxes of that side
    batch_size: Annotated[int, between(1, 10**6)] | None = None

    def __post_init__(self) -> None:
        check_value("proposals.nms: type", self.nms.get("type", "nms"), Literal["nms", "soft_nms"])
        threshold = self.nms.get("iou_threshold")
        check_value("proposals.nms: iou_threshold", threshold, Annotated[float, between(0, 1)])
        for name in self.nms:
            if name not in _NMS:
                raise LossweaveError(
                    f"proposals.nms has no field {name!r}; {near_names(name, _NMS)}"
                )


#: What the operators of MMCV take.
_NMS = (
    "type",
    "iou_threshold",
    "class_agnostic",
    "split_thr",
    "max_num",
    "offset",
    "score_threshold",
    "sigma",
    "min_score",
    "method",
)


@dataclass(frozen=True)
class _Evaluation:
    """What a config says of evaluations."""

    split: str
    stages: bool = True
    recall: tuple[Annotated[int, between(1, 10**6)], ...] = (100, 300, 1000)


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
        given = {} if config.get("proposals") is None else config["proposals"]
        check_value("proposals", given, Mapping)
        given = {**copy.deepcopy(dict(PAPER_SETTINGS)), **_plain(given)}
        if isinstance(given["nms"], Mapping):
            given["nms"] = {**PAPER_SETTINGS["nms"], **given["nms"]}
        self.proposal_batch_size = read_fields(_Proposals, given, "proposals").batch_size
        self.proposals = {key: given[key] for key in given if key != "batch_size"}
        given = {} if config.get("evaluation") is None else config["evaluation"]
        check_value("evaluation", given, Mapping)
        evaluation = read_fields(_Evaluation, {"split": splits[0], **given}, "evaluation")
        self.split = evaluation.split
        if self.split not in splits:
            words = " or ".join(map(repr, splits))
            raise LossweaveError(f"evaluation: split={self.split!r} should be {words}")
        self.evaluate_stages = evaluation.stages
        self.recall = evaluation.recall

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


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return value
    return [_plain(v) for v in value]
