"""The schedules with a name: the paper's four steps and its variants, and how configs say them."""

import pytest

from lossweave.errors import LossweaveError
from lossweave.staged.four_step import STEP4, build_schedule, four_step, joint
from lossweave.staged.stages import FRESH, INITIAL, PARTS, Budget

BELOW = ("backbone", "neck")
BUDGET = dict(iterations=4)
RPN, RCNN = Budget(80_000, 1, 1e-3, (60_000,)), Budget(40_000, 2, 1e-3, (30_000,))


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


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(type="3_step"), "type='3_step' should be one of"),
        (dict(rpn=dict(iterations=1)), "schedule needs the field 'rcnn'"),
        (dict(type="joint"), "schedule needs the field 'joint'"),
        (
            dict(type="joint", joint=dict(iterations=1), step5=2),
            "no field 'step5'; did you mean 'step4'",
        ),
        (dict(type="joint", joint=dict(iters=1)), "schedule.joint has no field 'iters'"),
        (dict(type="stages"), "schedule needs the field 'stages'"),
        (dict(type="stages", stages=[dict(name="a", trained=[])]), "needs the field 'budget'"),
        (dict(type="stages", stages=[dict(nam="a")]), "no field 'nam'; did you mean 'name'"),
    ],
)
def test_wrong_configs(config, message) -> None:
    with pytest.raises(LossweaveError, match=message) as error:
        build_schedule(config)
    assert "\n" not in str(error.value)


STAGE = dict(
    name="one", trained=["backbone", "neck", "rpn_head"], budget=BUDGET,
    init=dict.fromkeys(("backbone", "neck", "rpn_head"), "initial"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (5, "schedule=5 should be a dict"),
        ("four_step", "schedule='four_step' should be a dict"),
        (dict(type=["joint"]), r"type=\['joint'\] should be one of"),
        (dict(rpn=5, rcnn=BUDGET), "schedule.rpn=5 should be a dict of"),
        (dict(rpn=BUDGET, rcnn=BUDGET, shared=5), "schedule.shared=.5,. should be"),
        (dict(rpn=BUDGET, rcnn=BUDGET, shared=["head"]), "schedule.shared=.*head.*should be"),
        (dict(rpn=BUDGET, rcnn=BUDGET, rounds=True), "schedule.rounds=True should be"),
        (dict(rpn=BUDGET, rcnn=BUDGET, stop_after="2"), "schedule.stop_after='2' should be"),
        (dict(rpn=BUDGET, rcnn=BUDGET, step4=["matlab"]), "schedule.step4=.*should be one of"),
        (dict(type="stages", stages=5), "schedule.stages=5 should be a list"),
        (dict(type="stages", stages=[5]), r"schedule.stages=\[5\] should be a list of a dict"),
        (dict(type="stages", stages=[STAGE | dict(name=5)]), r"stages\[0\]\.name=5 should be"),
        (dict(type="stages", stages=[STAGE | dict(init=["initial"])]), r"stages\[0\]\.init=.*dict"),
        (
            dict(type="stages", stages=[STAGE | dict(init=dict(neck=5))]),
            r"stages\[0\]\.init=.*dict",
        ),
        (dict(type="stages", stages=[STAGE | dict(trained=[1])]), r"stages\[0\]\.trained=.*list"),
        (dict(type="stages", stages=[STAGE | dict(terms=dict(a=1))]), r"stages\[0\]\.terms="),
        (dict(type="stages", stages=[STAGE | dict(budget=None)]), r"stages\[0\]\.budget=None"),
    ],
)
def test_what_means_nothing_is_refused(config, message) -> None:
    with pytest.raises(LossweaveError, match=message) as error:
        build_schedule(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(lr=float("inf")), dict(lr=float("nan")), dict(lr="fast"), dict(lr=True), dict(lr=0),
        dict(drops=None), dict(drops="soon"), dict(drops=[2.5]), dict(drops=[0]),
        dict(iterations="many"), dict(iterations=True), dict(iterations=None),
        dict(batch_size=2.0), dict(factor=1.5), dict(factor=0), dict(warmup=0.5),
        dict(warmup_factor=float("nan")),
    ],
)  # fmt: skip
def test_budgets_that_mean_nothing_are_refused(wrong) -> None:
    ((name, _),) = wrong.items()
    config = dict(rpn=BUDGET | wrong, rcnn=BUDGET)
    with pytest.raises(LossweaveError, match=rf"schedule\.rpn\.{name}=.* should be") as error:
        build_schedule(config)
    assert "\n" not in str(error.value)


def test_one_name_or_number_is_a_list_of_one() -> None:
    config = dict(rpn=BUDGET | dict(drops=3), rcnn=BUDGET, shared="backbone")
    found = build_schedule(config)
    assert found["rpn1"].budget.drops == (3,) and found["rpn2"].frozen == ("backbone",)


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
