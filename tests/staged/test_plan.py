"""The part of a config that is about stages: what it means, and what is wrong with wrong ones."""

import copy
from typing import Any

import pytest

from lossweave.errors import LossweaveError
from lossweave.staged.plan import Plan
from lossweave.staged.proposal_file import PAPER_SETTINGS

PARTS = ("backbone", "neck", "rpn_head", "roi_head")
BUDGET = dict(iterations=10)
FOUR = dict(type="four_step", rpn=BUDGET, rcnn=BUDGET, joint=BUDGET)


def _plan(**changes: Any) -> Plan:
    return Plan({"schedule": FOUR, **changes}, PARTS)


def test_what_is_missing_is_the_papers() -> None:
    plan = _plan()
    assert plan.proposals == dict(PAPER_SETTINGS) and plan.proposal_batch_size is None
    assert (plan.kind, plan.split, plan.evaluate_stages) == ("alternating", "val", True)
    assert plan.recall == (100, 300, 1000)
    assert [s.name for s in plan.schedule.stages] == ["rpn1", "rcnn1", "rpn2", "rcnn2"]


def test_what_is_given() -> None:
    given = dict(
        schedule={**FOUR, "type": "joint"},
        proposals=dict(max_per_img=7, batch_size=3),
        evaluation=dict(split="test", stages=False, recall=[5]),
    )
    kept = copy.deepcopy(given)
    plan = Plan(given, PARTS)
    assert given == kept, "a plan changes nothing that it was given"
    assert plan.proposals == {**PAPER_SETTINGS, "max_per_img": 7} and plan.proposal_batch_size == 3
    assert (plan.kind, plan.split, plan.evaluate_stages) == ("joint", "test", False)
    assert _plan(proposals=dict(nms=dict(type="soft_nms"))).proposals["nms"]["iou_threshold"] == 0.7
    assert plan.recall == (5,) and _plan(evaluation=dict(recall=[])).recall == ()
    assert plan.options() == {
        "schedule": given["schedule"],
        "proposals": plan.proposals,
        "evaluation": dict(split="test", stages=False, recall=[5]),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(schedule=dict(type="five_step")), "type='five_step' should be one of"),
        (dict(proposals=dict(nms_thr=0.7)), "'nms_thr'"),
        (dict(evaluation=dict(split="dev")), "split='dev'"),
        (dict(evaluation=dict(recal=[1])), "no field 'recal'; did you mean 'recall'"),
        (dict(proposals=5), "proposals=5 should be"),
        (dict(proposals=dict(max_per_img="many")), "proposals.max_per_img='many' should be"),
        (dict(proposals=dict(max_per_img=-3)), "proposals.max_per_img=-3 should be between 1 and"),
        (dict(proposals=dict(max_per_img=True)), "proposals.max_per_img=True"),
        (dict(proposals=dict(min_bbox_size=10000)), "min_bbox_size=10000 should be between 0 and"),
        (dict(proposals=dict(min_bbox_size=-1)), "min_bbox_size=-1 should be"),
        (dict(proposals=dict(nms_pre=-5)), "nms_pre=-5 should be at least 1, or -1 for all"),
        (dict(proposals=dict(nms_pre=0)), "nms_pre=0 should be"),
        (dict(proposals=dict(nms=dict(type="nms", iou_threshold=7))), "iou_threshold=7 should be"),
        (dict(proposals=dict(nms=dict(type="os.system"))), "type='os.system' should be one of"),
        (dict(proposals=dict(nms=dict(iou_threshold=None))), "nms: iou_threshold=None should be"),
        (dict(proposals=dict(nms=dict(iou_thr=0.7, iou_threshold=0.7))), "no field 'iou_thr'; did"),
        (dict(schedule=FOUR | dict(joint=5)), "schedule.joint=5 should be"),
        (dict(schedule=FOUR | dict(joint=dict(iterations=0))), "schedule.joint.iterations=0"),
        (dict(proposals=dict(nms=0.7)), "proposals.nms=0.7 should be"),
        (dict(proposals=dict(batch_size=0)), "proposals.batch_size=0 should be"),
        (dict(evaluation=[1]), "evaluation=.1. should be"),
        (dict(evaluation=dict(recall=[0])), r"evaluation\.recall=\[0\] should be"),
        (dict(evaluation=dict(recall=100)), r"evaluation\.recall=100 should be a list"),
        (dict(evaluation=dict(stages="no")), r"evaluation\.stages='no' should be True or False"),
        (dict(evaluation=dict(split=3)), "split=3 should be"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message) as error:
        _plan(**changes)
    assert "\n" not in str(error.value)


def test_a_config_without_a_schedule_is_refused() -> None:
    with pytest.raises(LossweaveError, match="no `schedule`"):
        Plan({}, PARTS)
