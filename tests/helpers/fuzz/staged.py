"""Trainings in stages: what their configs may say, up to the moment where the first would train."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.fuzz.values import COUNT, INF, NAN, Field

__all__ = ["STAGED", "STAGED_FIELDS", "Reached", "lazy_text", "mmdet_text", "ready_stages"]

_BUDGET = {"iterations": 3, "batch_size": 2, "lr": 0.01, "drops": [2]}
STAGED: dict[str, Any] = {
    "schedule": {"type": "four_step", "rpn": _BUDGET, "rcnn": _BUDGET, "joint": _BUDGET},
    "proposals": {"max_per_img": 60, "min_bbox_size": 4},
    "evaluation": {"split": "test", "recall": [10, 100]},
}

STAGED_FIELDS = (
    Field("schedule", (5, [], "four_step", {})),
    Field("schedule.type", ("four_stp", 5, None, "", []), ("joint", "four_step")),
    Field("schedule.rpn", (5, [], {}, None)),
    Field("schedule.rpn.iterations", (*COUNT[0],), COUNT[1]),
    Field("schedule.rcnn.lr", (-1.0, 0, 1e30, INF, NAN, "fast", True, [0.1], {}), (0.1,)),
    Field("schedule.rpn.batch_size", (0, -1, 1.5, True, "x", []), (1,)),
    Field("schedule.rpn.drops", ("x", [0], [2, 1], [1.5], True, {}, -1), ([2], [])),
    Field("schedule.rcnn.factor", (0, 2, NAN, "x", True), (0.5,)),
    Field("schedule.rcnn.warmup", (-1, 1.5, "x", True), (1,)),
    Field("schedule.rpn.warmup_factor", (0, 2, INF, "x"), (0.5,)),
    Field("schedule.rpn.itrations", (3,)),
    Field("schedule.rpnn", (_BUDGET,)),
    Field("schedule.step4", ("x", 5, [], True), ("py-faster-rcnn",)),
    Field("schedule.shared", (5, "x", ["x"], [], ["neck"])),
    Field("schedule.rounds", (0, -1, True, 1.5, "x"), (2,)),
    Field("schedule.stop_after", (0, 1, 3, "x", True), (2,)),
    Field("proposals", (5, "x", [1])),
    Field("proposals.max_per_img", (0, -3, "many", 1.5, True, None), (10,)),
    Field("proposals.min_bbox_size", (-1, 10000, "x", NAN, True), (0,)),
    Field("proposals.nms", (5, {"type": "x"}, {"iou_threshold": 7}, {"iou_threshold": "x"})),
    Field("proposals.nms_pre", (0, -3, "x", 1.5, True), (-1, 100)),
    Field("proposals.batch_size", (0, -1, "x", True), (1,)),
    Field("proposals.max_per_imgs", (60,)),
    Field("evaluation", (5, "x", [1])),
    Field("evaluation.split", ("tst", 5, None, "")),
    Field("evaluation.stages", ("yes", 5, []), (False,)),
    Field("evaluation.recall", ([0], ["x"], 5, [1.5], [-1], "x"), ([5],)),
    Field("evaluation.recal", ([5],)),
)


class Reached(BaseException):
    """The first stage would be trained now."""


def _tree(changes: Mapping[str, Any]) -> dict[str, Any]:
    tree = copy.deepcopy(STAGED)
    for path, value in changes.items():
        node: Any = tree
        *above, last = path.split(".")
        for key in above:
            node[key] = node = copy.deepcopy(node[key])
        node[last] = value
    return tree


def mmdet_text(changes: Mapping[str, Any]) -> str:
    """A config whose base is the toy's."""
    lines = ["_base_ = '../staged_base.py'", "inf, nan = float('inf'), float('nan')"]
    lines += [f"{key} = {value!r}" for key, value in _tree(changes).items()]
    return "\n".join([*lines, ""])


def lazy_text(changes: Mapping[str, Any]) -> str:
    """The toy's LazyConfig."""
    from helpers.detectron2_staged_toy import LAZY

    lines = [f"{key} = {value!r}" for key, value in _tree(changes).items()]
    return "\n".join([LAZY, "inf, nan = float('inf'), float('nan')", *lines, ""])


@contextmanager
def ready_stages(folder: Path) -> Iterator[None]:
    """With the toys' data and base config; no stage is trained."""
    from helpers.detectron2_toy import register_data
    from helpers.mmdet_staged_toy import staged_config
    from helpers.mmdet_toy import write_data

    def stop(*_: Any, **__: Any) -> None:
        raise Reached

    data = write_data(folder / "data")
    register_data(data)
    cfg = staged_config(data, folder / "unused")
    for key in (*STAGED, "work_dir"):
        cfg.pop(key, None)
    cfg.dump(folder / "staged_base.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lossweave.staged.training.StagedTraining._train", stop)
        yield
