"""The schedules with a name: Faster R-CNN's four steps, joint training, stages of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args

from lossweave.errors import LossweaveError
from lossweave.staged.stages import FRESH, INITIAL, PARTS, Budget, Schedule, Stage, listed
from lossweave.utils.fields import between, check_value, read_fields

__all__ = ["SCHEDULES", "STEP4", "build_schedule", "four_step", "joint"]

_Step4 = Literal["py-faster-rcnn", "matlab", "mx-rcnn"]
#: How step 4 starts its RoI head in the three public implementations.
STEP4: tuple[str, ...] = get_args(_Step4)
_Rounds = Annotated[int, between(1, 100)]
_PREDICTORS = ("roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg")


def four_step(
    rpn: Budget,
    rcnn: Budget,
    *,
    step4: str = "py-faster-rcnn",
    stop_after: int | None = None,
    rounds: int = 1,
    shared: Sequence[str] = ("backbone", "neck"),
    parts: Sequence[str] = PARTS,
    predictors: Sequence[str] = _PREDICTORS,
) -> Schedule:
    """Faster R-CNN's 4-step alternating training.

    ========  ==================================  ==============================  ===========
    Stage     trains                              starts from                     proposals
    ========  ==================================  ==============================  ===========
    rpn1      all below the RPN, and the RPN      pretrained weights
    rcnn1     all below the RoI head, and it      pretrained weights              of rpn1
    rpn2      the RPN; the shared parts frozen    rcnn1; the RPN of rpn1
    rcnn2     the RoI head; the same frozen       rpn2; the RoI head by ``step4``  of rpn2
    ========  ==================================  ==============================  ===========

    Every further round is another pair (rpn3, rcnn3, ...) like steps 3 and 4, each head going
    on from its last weights.

    Args:
        rpn: budget of each RPN stage.
        rcnn: budget of each Fast R-CNN stage.
        step4: where the RoI head of step 4 starts: 'py-faster-rcnn' keeps the layers of rcnn1
            and makes the two predictors afresh; 'matlab' goes on from all of rcnn1; 'mx-rcnn'
            merges rpn2 and rcnn1, in which rpn2 wins where both have a part. With all of
            backbone and neck shared the last two are the same.
        stop_after: 2 stops at two separate networks; None means after the last step.
        rounds: of steps 3 and 4.
        shared: what is frozen from step 3 on; without 'neck', both networks keep a neck of
            their own, and there is no unified detector.
        parts: the parts that the detector has.
        predictors: modules that 'py-faster-rcnn' makes afresh.

    Raises:
        LossweaveError: an unknown option.

    Source: Ren et al., "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
    Networks", 2015, section 3.2; the variants of step 4 are those of the implementations named.

    Example:
        >>> schedule = four_step(Budget(80_000, 1), Budget(40_000, 2))
        >>> [(s.name, s.trained[-1], s.frozen) for s in schedule.stages][2:]
        [('rpn2', 'rpn_head', ('backbone', 'neck')), ('rcnn2', 'roi_head', ('backbone', 'neck'))]
        >>> schedule.unified, four_step(Budget(9), Budget(9), stop_after=2).unified
        (True, False)
    """
    check_value("schedule: step4", step4, _Step4)
    check_value("schedule: stop_after", stop_after, Literal[2, 4] | None)
    check_value("schedule: rounds", rounds, _Rounds)
    shared = listed(shared)
    check_value("schedule: shared", shared, tuple[Literal["backbone", "neck"], ...])
    below = tuple(part for part in ("backbone", "neck") if part in parts)
    if "backbone" not in shared:
        raise LossweaveError(
            f"schedule: shared={list(shared)} should be ['backbone'] or ['backbone', 'neck']"
        )
    frozen = tuple(part for part in below if part in shared)
    own = tuple(part for part in below if part not in shared)
    first = dict.fromkeys(below, INITIAL)
    stages = [
        Stage("rpn1", (*below, "rpn_head"), rpn, init={**first, "rpn_head": INITIAL}),
        Stage(
            "rcnn1",
            (*below, "roi_head"),
            rcnn,
            init={**first, "roi_head": INITIAL},
            proposals="rpn1",
        ),
    ]
    for number in () if stop_after == 2 else range(2, rounds + 2):
        last_rpn, last_rcnn = f"rpn{number - 1}", f"rcnn{number - 1}"
        here = f"rpn{number}"
        stages.append(
            Stage(
                here,
                (*own, "rpn_head"),
                rpn,
                frozen,
                init={**dict.fromkeys(below, last_rcnn), "rpn_head": last_rpn},
            )
        )
        init = {**dict.fromkeys(frozen, here), "roi_head": last_rcnn}
        init.update(dict.fromkeys(own, last_rcnn if step4 == "matlab" else here))
        if step4 == "py-faster-rcnn":
            init.update(dict.fromkeys(predictors, FRESH))
        stages.append(
            Stage(f"rcnn{number}", (*own, "roi_head"), rcnn, frozen, init=init, proposals=here)
        )
    return Schedule(stages, parts)


def joint(budget: Budget, *, parts: Sequence[str] = PARTS) -> Schedule:
    """Approximate joint training: all parts in one stage, each step on its own proposals.

    Args:
        budget: of the stage.
        parts: the parts that the detector has.

    Example:
        >>> [stage.name for stage in joint(Budget(70_000, 2)).stages]
        ['joint']
    """
    init = dict.fromkeys(parts, INITIAL)
    return Schedule([Stage("joint", tuple(parts), budget, init=init)], parts)


@dataclass(frozen=True)
class _FourStep:
    """What a config says of four steps."""

    rpn: Budget
    rcnn: Budget
    step4: _Step4 = "py-faster-rcnn"
    stop_after: Literal[2, 4] | None = None
    rounds: _Rounds = 1
    shared: tuple[Literal["backbone", "neck"], ...] = ("backbone", "neck")


@dataclass(frozen=True)
class _Joint:
    """What a config says of joint training."""

    joint: Budget


@dataclass(frozen=True)
class _Stages:
    """What a config says of stages of its own."""

    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class _Beside:
    """All that one config may say, for whichever training: none of it may be meaningless."""

    type: str = "four_step"
    rpn: Budget | None = None
    rcnn: Budget | None = None
    joint: Budget | None = None
    stages: tuple[Stage, ...] | None = None
    step4: _Step4 = "py-faster-rcnn"
    stop_after: Literal[2, 4] | None = None
    rounds: _Rounds = 1
    shared: tuple[Literal["backbone", "neck"], ...] = ("backbone", "neck")


#: Names that a config may give, and what each of them reads.
SCHEDULES: Mapping[str, type] = {"four_step": _FourStep, "joint": _Joint, "stages": _Stages}
_LISTS = ("drops", "trained", "frozen", "terms", "shared")


def build_schedule(
    config: Mapping[str, Any],
    parts: Sequence[str] = PARTS,
    predictors: Sequence[str] | None = None,
) -> Schedule:
    """The schedule that a config describes.

    Args:
        config: ``dict(type='four_step', rpn=dict(iterations=...), rcnn=dict(...), step4=...)``,
            ``dict(type='joint', joint=dict(iterations=...))`` or
            ``dict(type='stages', stages=[dict(name=..., trained=..., ...), ...])``. Keys of
            the other types may stand beside, so that one config serves both trainings.
        parts: the parts that the detector has.
        predictors: as for :func:`four_step`; None means its default.

    Raises:
        LossweaveError: an unknown type or key, or a wrong schedule.

    Example:
        >>> plan = dict(type="joint", joint=dict(iterations=100), rpn=dict(iterations=7))
        >>> build_schedule(plan).stages[0].budget.iterations
        100
    """
    if not isinstance(config, Mapping):
        raise LossweaveError(f"schedule={config!r} should be a dict, e.g. dict(type='four_step')")
    kind = config.get("type", "four_step")
    if not isinstance(kind, str) or kind not in SCHEDULES:
        raise LossweaveError(f"schedule: type={kind!r} should be one of {', '.join(SCHEDULES)}")
    read_fields(_Beside, _listed(config), "schedule")
    declared = SCHEDULES[kind]
    given = {k: v for k, v in _listed(config).items() if k in _names(declared)}
    read: Any = read_fields(declared, given, "schedule")
    if isinstance(read, _Joint):
        return joint(read.joint, parts=parts)
    if isinstance(read, _Stages):
        return Schedule(read.stages, parts)
    return four_step(**vars(read), parts=parts, predictors=predictors or _PREDICTORS)


def _names(declared: Any) -> list[str]:
    return [each.name for each in fields(declared)]


def _listed(value: Any) -> Any:
    """The config with lists where it has one name or number for them."""
    if isinstance(value, Mapping):
        return {k: listed(v) if k in _LISTS else _listed(v) for k, v in value.items()}
    return [_listed(v) for v in value] if isinstance(value, (list, tuple)) else value
