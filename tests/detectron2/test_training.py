"""What the hook and the trainers do while a Detectron2 detector is trained."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from detectron2.engine import SimpleTrainer, hooks
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from helpers.mmdet_support import HELD, assert_same, combiner_config

from lossweave.detectron2 import CombinerHook, Trainer, build_numbered_train_loader
from lossweave.detectron2.configs import load_config, with_combiner
from lossweave.errors import LossweaveError


def _simple(cfg: Any, made: list[Any], iterations: int = 4) -> SimpleTrainer:
    torch.manual_seed(0)
    model = build_model(cfg)
    loader = build_numbered_train_loader(cfg)
    trainer = SimpleTrainer(model, loader, build_optimizer(cfg, model))
    trainer.register_hooks(made)
    trainer.train(0, iterations)
    return trainer


def _latest(trainer: Any) -> dict[str, float]:
    return {name: value for name, (value, _) in trainer.storage.latest().items()}


@pytest.mark.parametrize("hooked", [True, False])
def test_what_is_logged(make_cfg, hooked: bool) -> None:
    made = [CombinerHook(interval=20)] if hooked else []
    trainer = _simple(make_cfg("faster_rcnn", combiner_config("UncertaintyWeighting")), made, 20)
    found = _latest(trainer)
    raw = ("loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc")
    assert set(raw) <= set(found)
    assert len(trainer.storage.history("loss_cls").values()) == 20
    assert found["term_cls"] == pytest.approx(found["loss_cls"] + found["loss_rpn_cls"])
    assert {"term_loc", "weight_cls", "weight_loc"} <= set(found)
    # total_loss is what was optimised: the weights' halves times the terms, and their logarithms.
    assert found["total_loss"] < sum(found[name] for name in raw)
    history = [value for value, _ in trainer.storage.history("total_loss").values()]
    assert len(history) == 20 and len(set(history)) == 20


def test_measures_of_gradients_are_logged_and_written(make_cfg, tmp_path: Path) -> None:
    cfg = make_cfg(
        "retinanet", dict(type="PCGrad", boundary="features"), SOLVER__MAX_ITER=20,
        LOSSWEAVE__NUMBERED_DRAWS=True, DATASETS__TEST=(),
    )  # fmt: skip
    Trainer(cfg).train()
    lines = (tmp_path / "run" / "metrics.json").read_text().splitlines()
    written = json.loads(lines[-1])
    names = {"grad_norm_cls", "grad_norm_loc", "cos_cls_loc", "weight_cls", "loss_cls"}
    assert names <= set(written), written
    assert written["iteration"] == 19 and -1 <= written["cos_cls_loc"] <= 1


class _Spoil(CombinerHook):
    """Makes one loss of one iteration infinite."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def before_step(self) -> None:
        super().before_step()
        weight = self._model.head.bbox_pred.weight
        if self.trainer.iter == self.at:
            self._kept = weight.detach().clone()
            weight.data.fill_(float("nan"))
        elif self.trainer.iter == self.at + 1:
            weight.data.copy_(self._kept)


def test_an_update_is_skipped(make_cfg) -> None:
    weights = []

    class Keep(hooks.HookBase):
        def after_step(self) -> None:
            state = self.trainer.model.state_dict().items()
            weights.append({k: v.clone() for k, v in state if "running" not in k})

    cfg = make_cfg("retinanet", combiner_config("IMTLL"), LOSSWEAVE__ON_NONFINITE="skip")
    trainer = _simple(cfg, [_Spoil(at=2), Keep()])
    own = [
        {k: v for k, v in w.items() if "bbox_pred.weight" not in k and "tracked" not in k
         and "window" not in k} for w in weights
    ]  # fmt: skip
    assert_same(own[1], own[2])
    assert any(not torch.equal(own[2][k], own[3][k]) for k in own[2])
    assert _latest(trainer)["skipped_updates"] == 1
    history = trainer.storage.history("total_loss").values()
    assert [value == 0 for value, _ in history] == [False, False, True, False]


def test_a_loss_that_is_not_finite_ends_the_run_by_name(make_cfg) -> None:
    words = r"iteration 2: loss_box_reg \(term 'loc'\) is nan; lower the learning rate"
    hook = _Spoil(at=2)
    with pytest.raises(FloatingPointError):
        _simple(make_cfg("retinanet", combiner_config("IMTLL")), [hook])
    assert hook.failure().startswith("iteration 2: loss_box_reg (term 'loc') is nan; lower")

    class Trained(Trainer):
        def build_hooks(self) -> list[Any]:
            made = super().build_hooks()
            self.combiner_hook = made[1] = _Spoil(at=2)
            return made

    from lossweave.detectron2.run import train_explained

    trainer = Trained(make_cfg("retinanet", combiner_config("IMTLL")))
    with pytest.raises(LossweaveError, match=words):
        train_explained(trainer.combiner_hook, trainer.train)


def test_idle_heads_have_no_gradient(make_cfg) -> None:
    held: list[set[str]] = []

    class Look(hooks.HookBase):
        def before_train(self) -> None:
            self.trainer.optimizer.register_step_pre_hook(self.look)

        def look(self, *_: Any) -> None:
            named = self.trainer.model.named_parameters()
            held.append({name for name, p in named if p.grad is None and "head" in name})

    options = dict(type="Alternating", schedule={"cls": 1, "loc": 1})
    _simple(make_cfg("retinanet", options), [CombinerHook(), Look()])
    cls = {"head.cls_subnet.0.weight", "head.cls_subnet.0.bias"}
    cls |= {"head.cls_score.weight", "head.cls_score.bias"}
    assert held[1] == held[3] == cls
    assert held[0] == held[2] and not held[0] & cls and len(held[0]) == 4


@pytest.mark.parametrize(
    ("options", "who"),
    [
        (dict(type="DWA"), "DWA"),
        (dict(type="FAMO", recompute=True), "FAMO"),
        (dict(type="Alternating", schedule={"cls": 1, "loc": 1}), "Alternating"),
    ],
)
def test_what_needs_the_hook_says_so(make_cfg, options, who) -> None:
    with pytest.raises(LossweaveError, match=rf"{who} needs the lossweave hook; add to the train"):
        _simple(make_cfg("retinanet", options), [])


def test_without_the_hook_the_iteration_is_the_trainers(make_cfg) -> None:
    trainer = _simple(make_cfg("retinanet", dict(type="RandomWeighting")), [], 3)
    combination = trainer.model.loss_combination
    assert combination.combiner.progress.iteration == 2 and not combination.hooked


def test_held_out_losses_leave_no_trace(make_cfg) -> None:
    """Two trainings that differ by the measuring alone; the policy does not learn."""
    states = []
    for more in (HELD, {}):
        cfg = make_cfg("retinanet", combiner_config("AutoLoss", **{**more, "lr": 0.0, "seed": 3}))
        data = build_numbered_train_loader(cfg)
        trainer = _simple(cfg, [CombinerHook(held_out=data, held_out_batches=2)])
        state = trainer.model.state_dict().items()
        states.append({k: v for k, v in state if "loss_combination" not in k})
        combiner = trainer.model.loss_combination.combiner
        states[-1]["normalizer"] = torch.tensor(trainer.model.loss_normalizer)
        assert combiner.previous.isfinite().all() and (combiner.norms > 0).any()
    assert_same(*states)
    with pytest.raises(LossweaveError, match="AutoLoss asks for held-out losses; give their"):
        _simple(make_cfg("retinanet", combiner_config("AutoLoss", **HELD)), [CombinerHook()])


def test_accumulation_is_told(make_cfg) -> None:
    hook = CombinerHook(accumulation=2)
    trainer = _simple(make_cfg("retinanet", combiner_config("UncertaintyWeighting")), [hook], 4)
    assert trainer.model.loss_combination.combiner.progress.update == 1
    with pytest.raises(LossweaveError, match="accumulation=0 should be at least 1"):
        CombinerHook(accumulation=0)


def test_clipping_sees_the_combined_gradient(make_cfg) -> None:
    clip = {"SOLVER__CLIP_GRADIENTS__ENABLED": True, "SOLVER__CLIP_GRADIENTS__CLIP_VALUE": 1e-5}
    cfg = make_cfg("retinanet", combiner_config("SquaredSum"), **clip)
    trainer = _simple(cfg, [CombinerHook()], 2)
    grads = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    assert max(g.abs().max() for g in grads) <= 1.001e-5
    assert any((g.abs() > 0.99e-5).any() for g in grads)


def test_wrong_patterns_end_the_run_before_the_first_update(make_cfg) -> None:
    cfg = make_cfg("retinanet", dict(type="Max"))
    cfg.LOSSWEAVE.TERM_PATTERNS.cls = ["loss_cls"]
    cfg.LOSSWEAVE.TERM_PATTERNS.loc = ["loss_box"]
    with pytest.raises(LossweaveError, match="did you mean 'loss_box_reg'"):
        _simple(cfg, [CombinerHook()])


def test_a_lazy_model(data) -> None:
    logging.getLogger("detectron2").setLevel(logging.WARNING)
    cfg = load_config("lossweave::detectron2/demo/faster_rcnn_demo.py")
    with_combiner(cfg, "PCGrad", {"boundary": "features"}, "head")
    cfg.model.model.backbone.bottom_up.pretrained = False
    model = instantiate(cfg.model)
    assert model.loss_combination.names == ("rpn_cls", "rpn_loc", "roi_cls", "roi_loc")
    assert model.loss_combination.label == "PCGrad"
