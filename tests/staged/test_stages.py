"""Schedules as data: what they mean, and what is wrong with wrong ones."""

import pytest

from lossweave.errors import LossweaveError
from lossweave.staged.four_step import STEP4, build_schedule, four_step, joint
from lossweave.staged.stages import FRESH, INITIAL, PARTS, Budget, Schedule, Stage

BELOW = ("backbone", "neck")
RPN, RCNN = Budget(80_000, 1, 1e-3, (60_000,)), Budget(40_000, 2, 1e-3, (30_000,))


def _stage(name: str = "one", **changes) -> Stage:
    given = dict(trained=(*BELOW, "rpn_head"), budget=Budget(5), init=dict.fromkeys(PARTS, INITIAL))
    return Stage(name, **{**given, **changes})


def _rcnn(name: str = "two", **changes) -> Stage:
    return _stage(name, **{"trained": (*BELOW, "roi_head"), "proposals": "one", **changes})


# ------------------------------------------------------------------------------ the paper's


def test_the_papers_schedule() -> None:
    """Against the table of py-faster-rcnn's schedule."""
    rpn1, rcnn1, rpn2, rcnn2 = four_step(RPN, RCNN).stages
    assert [s.trained for s in (rpn1, rcnn1)] == [(*BELOW, "rpn_head"), (*BELOW, "roi_head")]
    assert [s.trained for s in (rpn2, rcnn2)] == [("rpn_head",), ("roi_head",)]
    assert rpn2.frozen == rcnn2.frozen == BELOW and not rpn1.frozen and not rcnn1.frozen
    assert [s.proposals for s in (rpn1, rcnn1, rpn2, rcnn2)] == [None, "rpn1", None, "rpn2"]
    assert all(s.source(p) == INITIAL for s in (rpn1, rcnn1) for p in s.network)
    assert rpn2.source("backbone.conv1.weight") == "rcnn1"
    assert rcnn2.source("backbone.conv1.weight") == "rpn2"
    passes = sum(s.budget.images for s in four_step(RPN, RCNN).stages)
    assert passes == 320_000 and passes / (70_000 * 2) == pytest.approx(2.29, abs=0.01)


@pytest.mark.parametrize(
    ("step4", "shared", "neck", "fc6", "cls"),
    [
        ("py-faster-rcnn", BELOW, "rpn2", "rcnn1", FRESH),
        ("matlab", BELOW, "rpn2", "rcnn1", "rcnn1"),
        ("mx-rcnn", BELOW, "rpn2", "rcnn1", "rcnn1"),
        ("py-faster-rcnn", ("backbone",), "rpn2", "rcnn1", FRESH),
        ("matlab", ("backbone",), "rcnn1", "rcnn1", "rcnn1"),
        ("mx-rcnn", ("backbone",), "rpn2", "rcnn1", "rcnn1"),
    ],
)
def test_starts_of_step_4(step4, shared, neck, fc6, cls) -> None:
    assert step4 in STEP4
    last = four_step(RPN, RCNN, step4=step4, shared=shared).stages[-1]
    found = [
        last.source(path)
        for path in (
            "neck.fpn_convs.0.conv.weight",
            "roi_head.bbox_head.shared_fcs.0.weight",
            "roi_head.bbox_head.fc_cls.weight",
        )
    ]
    assert found == [neck, fc6, cls]


def test_variants() -> None:
    names = [s.name for s in four_step(RPN, RCNN, rounds=3).stages]
    assert names == ["rpn1", "rcnn1", "rpn2", "rcnn2", "rpn3", "rcnn3", "rpn4", "rcnn4"]
    assert four_step(RPN, RCNN, rounds=3).unified
    two = four_step(RPN, RCNN, stop_after=2)
    assert [s.name for s in two.stages] == ["rpn1", "rcnn1"] and not two.unified
    necks = four_step(RPN, RCNN, shared=["backbone"])
    assert necks["rpn2"].trained == ("neck", "rpn_head") and not necks.unified
    bare = four_step(RPN, RCNN, parts=("backbone", "rpn_head", "roi_head"))
    assert bare.unified and bare["rpn2"].frozen == ("backbone",)
    (whole,) = joint(Budget(7)).stages
    assert whole.trained == PARTS and joint(Budget(7)).unified


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


def test_from_a_config() -> None:
    both = dict(
        type="four_step",
        rpn=dict(iterations=4, drops=[3]),
        rcnn=dict(iterations=2),
        joint=dict(iterations=3, batch_size=2),
    )
    assert [s.budget.iterations for s in build_schedule(both).stages] == [4, 2, 4, 2]
    assert build_schedule(both).stages[0].budget.drops == (3,)
    assert build_schedule({**both, "type": "joint"}).stages[0].budget == Budget(3, 2)
    stages = [dict(name="a", trained=list(PARTS), budget=dict(iterations=1))]
    stages[0]["init"] = dict.fromkeys(PARTS, INITIAL)
    assert build_schedule(dict(type="stages", stages=stages)).stages[0].trained == PARTS


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


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(type="3_step"), "type='3_step' should be one of"),
        (dict(rpn=dict(iterations=1)), "needs rcnn="),
        (dict(type="joint"), "needs joint="),
        (dict(type="joint", joint=dict(iterations=1), step5=2), "unknown key 'step5'"),
        (dict(type="joint", joint=dict(iters=1)), "should be dict"),
        (dict(type="stages"), "needs `stages`"),
        (dict(type="stages", stages=[dict(name="a", trained=[])]), "no 'budget'"),
        (dict(type="stages", stages=[dict(nam="a")]), "unknown key 'nam'; did you mean 'name'"),
    ],
)
def test_wrong_configs(config, message) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_schedule(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(step4="caffe"), "step4='caffe'"),
        (dict(stop_after=3), "stop_after=3"),
        (dict(rounds=0), "rounds=0"),
        (dict(shared=["neck"]), "shared="),
    ],
)
def test_wrong_options(options, message) -> None:
    with pytest.raises(LossweaveError, match=message):
        four_step(RPN, RCNN, **options)
