"""The named moments of every kind of training, in the order in which a training comes to them."""

import signal
from dataclasses import replace

from helpers.kills.traps import Trap, at_call, at_file, in_iteration

__all__ = ["KINDS", "moments", "signals", "some"]

#: Kinds of training: MMDetection's and Detectron2's four steps, and plain ones.
KINDS = ("mmdet/staged", "detectron2/staged", "mmdet/plain", "detectron2/plain", "detectron2/yaml")
STAGES = ("rpn1", "rcnn1", "rpn2", "rcnn2")


def moments(kind: str) -> list[Trap]:
    """All of them."""
    host, _, what = kind.partition("/")
    return _staged(host) if what == "staged" else _plain(host, what)


def some(kind: str) -> list[Trap]:
    """One of each sort, for the suite."""
    return [trap for trap in moments(kind) if trap.name in _SOME]


def signals(kind: str) -> list[Trap]:
    """Requests to stop, in the moments of a staged training: in stages and outside of them."""
    host = kind.split("/")[0]
    adapter, propose = _ADAPTER.format(host), f"lossweave.{host}.staged.proposals:propose"
    asked = [
        (in_iteration("rpn1", 2), signal.SIGTERM),
        (in_iteration("rpn1", 4, "in the last iteration of rpn1"), signal.SIGINT),
        (at_call(propose, 2, "in the proposal pass of rpn1"), signal.SIGHUP),
        (at_call(f"{adapter}.fit", 1, "before rcnn1 is trained"), signal.SIGINT),
        (at_call(_EVALUATION[host], 1, "in the evaluation of rcnn1"), signal.SIGTERM),
        (at_file("rpn2/final.pth", "after"), signal.SIGTERM),
        (at_call(_EVALUATION[host], 2, "in the last evaluation"), signal.SIGHUP),
    ]
    return [replace(trap, number=number) for trap, number in asked]


#: The file of the checkpoint after a stage's nth iteration.
_CHECKPOINT = {"mmdet": "iter_{}.pth", "detectron2": "model_{:07d}.pth"}


def _checkpoint(host: str, number: int) -> str:
    return _CHECKPOINT[host].format(number if host == "mmdet" else number - 1)


def _notes(host: str, folder: str, number: int) -> list[Trap]:
    """In the note of the last checkpoint; MMEngine writes its own in place."""
    if host == "mmdet":
        name = f"in the note of {folder}'s last checkpoint"
        return [in_iteration(folder, number, name, "empty note")]
    return [at_file(f"{folder}/last_checkpoint", "half")]


_ADAPTER = "lossweave.{}.staged.training:StagedAdapter"


def _staged(host: str) -> list[Trap]:
    adapter = _ADAPTER.format(host)
    found = [
        at_call(f"{adapter}.check", 1, "while the config is checked", "after"),
        at_file("record.json", "half", name="in the record's first write"),
        at_file("record.json", "after", name="after the record's first write"),
        at_file("run/initial.pth", "half", name="in the first weights' write"),
        at_file("run/initial.pth", "after", name="after the first weights' write"),
    ]
    for stage in STAGES:
        found += _one_stage(host, stage)
    found += [
        at_call(f"{adapter}.evaluate", 1, "before the last evaluation"),
        at_call(_EVALUATION[host], 2, "in the last evaluation"),
        # At the start, for the proposals of either RPN, after the evaluation, at the end.
        at_file("record.json", "before", 4, "in the record's last write but one"),
        at_file("record.json", "half", 5, "in the record's last write"),
    ]
    return found


#: What is called for every batch of an evaluation.
_EVALUATION = {
    "mmdet": "mmdet.evaluation:CocoMetric.process",
    "detectron2": "detectron2.evaluation:COCOEvaluator.process",
}


def _one_stage(host: str, stage: str) -> list[Trap]:
    second, adapter = _checkpoint(host, 2), _ADAPTER.format(host)
    propose = f"lossweave.{host}.staged.proposals:propose"
    rpn, first = stage.startswith("rpn"), stage == "rpn1"
    found = [
        at_file(f"{stage}/initial.pth", "half"),
        at_file(f"{stage}/initial.pth", "after"),
        at_call(f"{adapter}.fit", 1, f"before {stage} is trained"),
        in_iteration(stage, 1),
        at_file(f"{stage}/{_checkpoint(host, 1)}", "after"),
        in_iteration(stage, 2),
    ]
    if stage in ("rpn1", "rcnn2"):
        found += [
            at_file(f"{stage}/{second}", "half"),
            at_file(f"{stage}/{second}", "before"),
            at_file(f"{stage}/{second}", "after"),
            *_notes(host, stage, 3),
        ]
    found += [
        in_iteration(stage, 4, f"iteration 4 of {stage}, the newest checkpoint cut", "truncate"),
        at_file(f"{stage}/final.pth", "half"),
        at_file(f"{stage}/final.pth", "after"),
    ]
    if rpn:
        found += [
            at_call(propose, 2, f"in the proposal pass of {stage}"),
            at_file(f"{stage}/proposals.npz", "half"),
            at_file(f"{stage}/proposals.npz", "after"),
        ]
    if first:
        found += [
            at_call(propose, 2, "in the evaluation's pass of rpn1"),
            at_file("rpn1/test_recall.npz", "after", name="between the evaluation's two files"),
            at_file("record.json", "half", 2, "in the record's write after rpn1"),
        ]
    if stage == "rcnn1":
        found.append(at_call(_EVALUATION[host], 1, "in the evaluation of rcnn1"))
    return found


def _plain(host: str, what: str) -> list[Trap]:
    first, second, third = (_checkpoint(host, number) for number in (1, 2, 3))
    found = [
        in_iteration("run", 1),
        at_file(f"run/{first}", "half"),
        at_file(f"run/{first}", "after"),
        in_iteration("run", 2),
        at_file(f"run/{second}", "half"),
        at_file(f"run/{second}", "before"),
        *_notes(host, "run", 3),
        at_file(f"run/{third}", "after"),
        in_iteration("run", 4, "iteration 4 of run, the newest checkpoint cut", "truncate"),
        at_call(_EVALUATION[host], 2, "in the evaluation"),
    ]
    return found


_SOME = {
    "in the record's first write",
    "rpn1/iter_2.pth, half",
    "rpn1/model_0000001.pth, before",
    "iteration 4 of rpn1, the newest checkpoint cut",
    "in the proposal pass of rpn1",
    "in the evaluation's pass of rpn1",
    "rcnn1/initial.pth, after",
    "iteration 2 of rcnn1",
    "in the evaluation of rcnn1",
    "rpn2/final.pth, after",
    "in the last evaluation",
    "iteration 2 of run",
    "run/iter_2.pth, half",
    "run/model_0000001.pth, before",
    "in the evaluation",
}
