"""A resumed run ends bit-identical to one that was never stopped."""

from typing import Any

import pytest
import torch
from detectron2.engine import HookBase
from helpers.detectron2_toy import DATA
from helpers.mmdet_support import ALL_COMBINERS, HELD, assert_same, combiner_config

from lossweave.detectron2.yaml import Trainer

#: Times, and what counts from the start of a process.
VARYING = ("time", "data_time", "eta_seconds", "conflict")


class _Stop(HookBase):
    def __init__(self, trainer: Any, after: int) -> None:
        self._checkpointer, self._after = trainer.checkpointer, after

    def after_step(self) -> None:
        if self.trainer.iter + 1 == self._after:
            self._checkpointer.save(f"model_{self.trainer.iter:07d}", iteration=self.trainer.iter)
            raise KeyboardInterrupt


def _run(cfg: Any, stop_after: int | None = None, resume: bool = False) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.build_writers = lambda: []  # files that no one reads
    trainer.resume_or_load(resume)
    if stop_after is not None:
        trainer.register_hooks([_Stop(trainer, stop_after)])
    try:
        trainer.train()
    except KeyboardInterrupt:
        assert stop_after is not None
    return trainer


def _check(make_cfg, *args, stop_after: int = 3, iterations: int = 5, **changes) -> None:
    changes = {
        "SOLVER__MAX_ITER": iterations, "LOSSWEAVE__NUMBERED_DRAWS": True,
        "SOLVER__STEPS": (4,), "DATASETS__TEST": (), **changes,
    }  # fmt: skip
    whole = _run(make_cfg(*args, name="whole", **changes))
    broken = make_cfg(*args, name="broken", **changes)
    _run(broken, stop_after=stop_after)
    resumed = _run(broken, resume=True)
    assert resumed.start_iter == stop_after and resumed.iter == whole.iter == iterations
    weights = [t.model.state_dict() for t in (whole, resumed)]
    assert_same(*({k: v.nan_to_num() for k, v in state.items()} for state in weights))
    states = [t.optimizer.state_dict() for t in (whole, resumed)]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for key, state in states[0]["state"].items():
        assert torch.equal(state["momentum_buffer"], states[1]["state"][key]["momentum_buffer"])
    ends = [
        {k: v for k, v in t.storage.latest().items() if k not in VARYING} for t in (whole, resumed)
    ]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("terms", ["loss", "auto"])
def test_terms_that_follow_from_the_losses(terms: str, make_cfg) -> None:
    changes = dict(LOSSWEAVE__TERMS=terms)
    _check(make_cfg, "faster_rcnn", combiner_config("UncertaintyWeighting"), **changes)


@pytest.mark.parametrize("name", ALL_COMBINERS)
def test_every_combiner(name: str, make_cfg) -> None:
    _check(make_cfg, "retinanet", combiner_config(name))


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (dict(type="PCGrad", boundary="representation"), {}),
        (dict(type="UncertaintyWeighting", lr=0.1), dict(DATALOADER__NUM_WORKERS=2)),
        (dict(type="FAMO", lr=0.1, recompute=True), {}),
        (dict(type="DWA"), {}),
        (combiner_config("AutoLoss", **HELD), dict(LOSSWEAVE__HELD_OUT=(DATA,))),
        (
            dict(type="Alternating", schedule={"cls": 1, "loc": 2}),
            dict(DATALOADER__ASPECT_RATIO_GROUPING=False),
        ),
    ],
    ids=["representation", "workers", "second look", "epochs", "held out", "turns"],
)
def test_faster_rcnn(options, changes, make_cfg) -> None:
    _check(make_cfg, "faster_rcnn", options, stop_after=4, iterations=8, **changes)


def test_the_comparison_can_fail(make_cfg) -> None:
    with pytest.raises(AssertionError, match="differ"):
        _check(make_cfg, "retinanet", combiner_config("Max"), LOSSWEAVE__NUMBERED_DRAWS=False)
