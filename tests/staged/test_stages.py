"""Schedules as data: what they mean, and what is wrong with wrong ones."""

import pytest

from lossweave.errors import LossweaveError
from lossweave.staged.four_step import four_step
from lossweave.staged.stages import INITIAL, PARTS, Budget, Schedule, Stage

BELOW = ("backbone", "neck")
RPN, RCNN = Budget(80_000, 1, 1e-3, (60_000,)), Budget(40_000, 2, 1e-3, (30_000,))


def _stage(name: str = "one", **changes) -> Stage:
    given = dict(trained=(*BELOW, "rpn_head"), budget=Budget(5), init=dict.fromkeys(PARTS, INITIAL))
    return Stage(name, **{**given, **changes})


def _rcnn(name: str = "two", **changes) -> Stage:
    return _stage(name, **{"trained": (*BELOW, "roi_head"), "proposals": "one", **changes})


def test_what_a_stage_makes_and_shares() -> None:
    schedule = four_step(RPN, RCNN)
    assert [s.name for s in schedule.stages if schedule.makes_proposals(s.name)] == ["rpn1", "rpn2"]
    assert schedule.lineage("rcnn2", "backbone") == schedule.lineage("rpn2", "neck") == "rcnn1"
    assert not schedule.share(schedule["rpn1"], schedule["rcnn1"])
    assert schedule.share(schedule["rpn2"], schedule["rcnn2"])
    last = schedule.last("rpn_head", until="rcnn1")
    assert last is not None and last.name == "rpn1"


def test_terms_can_be_left_out() -> None:
    assert _stage(terms=("rpn_cls",)).active_terms == ("rpn_cls",)
    assert _stage().active_terms == ("rpn_cls", "rpn_loc")


# -------------------------------------------------------------------------------- wrong ones


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "at least one stage"),
        ([_stage(trained=())], "stage 'one' trains nothing"),
        ([_stage(frozen=("neck",))], "freezes 'neck', which it trains"),
        ([_stage(trained=("backbone", "nek", "rpn_head"))], "unknown part 'nek'; did you mean"),
        ([_stage(trained=("backbone.conv1", "rpn_head"))], "unknown part 'backbone.conv1'"),
        ([_stage(frozen=("stem.conv",))], "unknown part 'stem.conv'"),
        ([_stage(trained=BELOW)], "has no head"),
        ([_stage(trained=BELOW, frozen=("rpn_head",))], "trains no head"),
        ([_stage(trained=("backbone", "rpn_head"))], "neither trains nor freezes 'neck'"),
        ([_stage(), _stage()], "two stages are named 'one'"),
        ([_stage("step 1")], "not the name of a stage"),
        ([_stage(terms=())], "no active terms"),
        ([_stage(terms=("rpn_box",))], "unknown term 'rpn_box'"),
        ([_stage(terms=("roi_cls",))], "optimises 'roi_cls' but does not train 'roi_head'"),
        ([_stage(init={"backbone": INITIAL})], "where the weights of 'neck' come from"),
        ([_stage(init=dict.fromkeys(PARTS, "two")), _rcnn()], "from the later stage 'two'"),
        ([_stage(init=dict.fromkeys(PARTS, "one"))], "from itself"),
        ([_stage(init=dict.fromkeys(PARTS, "on"))], "unknown stage 'on'; did you mean 'one'"),
        ([_stage(), _rcnn(init=dict.fromkeys(PARTS, "one"))], "'one', which has no 'roi_head'"),
        ([_rcnn("one", proposals=None)], "needs `proposals`"),
        ([_rcnn("two", proposals="three"), _stage("three")], "proposals from the later stage"),
        ([_rcnn("one")], "proposals from itself"),
        ([_stage(), _rcnn(proposals="oen")], "unknown stage 'oen'; did you mean 'one'"),
        ([_stage(), _rcnn(), _rcnn("three", proposals="two")], "which has no RPN"),
        ([_stage(), _rcnn(trained=PARTS)], "an RPN of its own and fixed proposals"),
    ],
)
def test_wrong_definitions_are_one_line(stages, message) -> None:
    with pytest.raises(LossweaveError, match=message) as error:
        Schedule(stages)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(iterations=0),
        dict(iterations=1.5),
        dict(iterations=9, batch_size=0),
        dict(iterations=9, lr=-1.0),
        dict(iterations=9, drops=(6, 3)),
        dict(iterations=9, factor=0),
        dict(iterations=9, warmup=-1),
    ],
)
def test_wrong_budgets(wrong) -> None:
    with pytest.raises(LossweaveError, match="budget: "):
        Budget(**wrong)
