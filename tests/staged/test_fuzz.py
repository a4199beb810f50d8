"""Plans with one value changed: refused in one line, or among those that mean something."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from lossweave.errors import LossweaveError
from lossweave.staged.plan import Plan
from lossweave.staged.stages import PARTS

BUDGET = dict(
    iterations=4, batch_size=2, lr=0.1, drops=[2], factor=0.1, warmup=1, warmup_factor=0.1
)
BELOW = dict(backbone="initial", neck="initial")
PLANS: dict[str, dict[str, Any]] = {
    "four_step": dict(
        schedule=dict(
            type="four_step", rpn=BUDGET, rcnn=BUDGET, joint=BUDGET, step4="matlab",
            stop_after=2, rounds=1, shared=["backbone", "neck"],
        ),
        proposals=dict(
            nms_pre=-1, nms=dict(type="nms", iou_threshold=0.7), max_per_img=10,
            min_bbox_size=3, batch_size=2,
        ),
        evaluation=dict(split="val", stages=True, recall=[1, 2]),
    ),
    "joint": dict(schedule=dict(type="joint", joint=BUDGET)),
    "stages": dict(
        schedule=dict(
            type="stages",
            stages=[
                dict(
                    name="a", trained=["backbone", "neck", "rpn_head"], frozen=["backbone.conv1"],
                    terms=["rpn_cls"], init=BELOW | dict(rpn_head="initial"), budget=BUDGET,
                ),
                dict(
                    name="b", trained=["roi_head"], frozen=["backbone", "neck"], proposals="a",
                    init=dict(backbone="a", neck="a", roi_head="initial"), budget=BUDGET,
                ),
            ],
        )
    ),
}  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 5, 2.5, float("inf"), float("nan"), "", "x", "fast", "../x", b"x",
    [], [None], ["x"], [[1]], {}, {"x": 1}, {1: 2}, (), 10**30, set(), object(), print,
)  # fmt: skip
#: Whole numbers and lists that mean something wherever such are asked for.
FINE = (None, True, False, 0, -1, 5, 2.5, "x", "fast", [], {}, (), 10**30)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(item, (*path, key))


def _with(plan: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = here = copy.deepcopy(plan)
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return made


@pytest.mark.parametrize("name", sorted(PLANS))
def test_one_value_changed(name: str) -> None:
    plan = PLANS[name]
    cases = [(path, value) for path in _paths(plan) for value in VALUES]
    refused = 0
    for path, value in random.Random(0).sample(cases, min(len(cases), 600)):
        try:
            Plan(_with(plan, path, value), PARTS)
        except LossweaveError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 400
        else:
            assert any(value is fine or value == fine for fine in FINE), (path, value)
    assert refused > 100
