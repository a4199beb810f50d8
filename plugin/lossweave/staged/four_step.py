"""The schedules with a name: Faster R-CNN's four steps, joint training, stages of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.staged.stages import FRESH, INITIAL, PARTS, Budget, Schedule, Stage

__all__ = ["SCHEDULES", "STEP4", "build_schedule", "four_step", "joint"]

#: How step 4 starts its RoI head in the three public implementations.
STEP4 = ("py-faster-rcnn", "matlab", "mx-rcnn")
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
    if step4 not in STEP4:
        raise LossweaveError(f"schedule: step4={step4!r} should be one of {', '.join(STEP4)}")
    if stop_after not in (None, 2, 4):
        raise LossweaveError(f"schedule: stop_after={stop_after!r} should be 2, or None for all")
    if not isinstance(rounds, int) or rounds < 1:
        raise LossweaveError(f"schedule: rounds={rounds!r} should be at least 1")
    below = tuple(part for part in ("backbone", "neck") if part in parts)
    shared = (shared,) if isinstance(shared, str) else tuple(shared)
    if "backbone" not in shared or not set(shared) <= {"backbone", "neck"}:
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


#: Names that a config may give, and the keys that each of them reads.
SCHEDULES: Mapping[str, tuple[str, ...]] = {
    "four_step": ("rpn", "rcnn", "step4", "stop_after", "rounds", "shared"),
    "joint": ("joint",),
    "stages": ("stages",),
}


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
    kind = config.get("type", "four_step")
    if kind not in SCHEDULES:
        raise LossweaveError(f"schedule: type={kind!r} should be one of {', '.join(SCHEDULES)}")
    allowed = ["type", *(key for keys in SCHEDULES.values() for key in keys)]
    for key in config:
        _known("schedule", key, allowed)
    given = {key: config[key] for key in SCHEDULES[kind] if key in config}
    if kind == "stages":
        found = given.get("stages")
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise LossweaveError("schedule: type='stages' needs `stages`, a list of dicts")
        return Schedule([_stage(s) for s in found], parts)
    budgets = ("joint",) if kind == "joint" else ("rpn", "rcnn")
    for name in budgets:
        if name not in given:
            raise LossweaveError(f"schedule: type={kind!r} needs {name}=dict(iterations=...)")
        given[name] = _budget(f"schedule.{name}", given[name])
    if kind == "joint":
        return joint(given["joint"], parts=parts)
    return four_step(**given, parts=parts, predictors=predictors or _PREDICTORS)


def _stage(config: Mapping[str, Any]) -> Stage:
    names = [f.name for f in fields(Stage)]
    for key in config:
        _known("a stage", key, names)
    for name in ("name", "trained", "budget"):
        if name not in config:
            raise LossweaveError(f"a stage of the schedule has no {name!r}")
    budget = _budget(f"stage {config['name']!r}", config["budget"])
    return Stage(**{**config, "budget": budget})


def _budget(where: str, config: Any) -> Budget:
    if not isinstance(config, Mapping) or "iterations" not in config:
        raise LossweaveError(f"{where}={config!r} should be dict(iterations=...)")
    for key in config:
        _known(where, key, [f.name for f in fields(Budget)])
    return Budget(**config)


def _known(where: str, key: str, allowed: Sequence[str]) -> None:
    if key not in allowed:
        near = get_close_matches(str(key), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(allowed)}"
        raise LossweaveError(f"{where}: unknown key {key!r}{hint}")
