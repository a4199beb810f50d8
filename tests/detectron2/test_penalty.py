"""A penalty on parameters in Detectron2's configs, yaml and lazy."""

from typing import Any

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.modeling import build_model
from helpers.detectron2_toy import forward, image_batch
from helpers.mmdet_support import assert_same

from lossweave import ParameterPenalty
from lossweave.detectron2 import combine_losses
from lossweave.detectron2.yaml import Trainer
from lossweave.errors import LossweaveError

TERMS = {"cls": ["loss_cls"], "loc": ["loss_box_reg"], "penalty": ["loss_penalty"]}


def built(cfg: Any) -> Any:
    torch.manual_seed(0)
    return build_model(cfg).train()


def total(losses: Any) -> torch.Tensor:
    return sum(losses.values())


@pytest.mark.parametrize("weights", [None, [1.0, 1.0]])
def test_gradient_is_that_of_weight_decay(make_cfg, weights) -> None:
    combiner = dict(type="Sum", **({} if weights is None else {"weights": weights}))
    plain = built(make_cfg("retinanet", combiner, name="plain"))
    penalty = [dict(kind="l2", weight=0.5)]
    penal = built(make_cfg("retinanet", combiner, name="penal", LOSSWEAVE__PENALTY=penalty))
    assert plain.state_dict().keys() == penal.state_dict().keys()
    for model in (plain, penal):
        total(forward(model, image_batch(0))).backward()
    for (name, p), q in zip(penal.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad + 0.5 * p.detach(), msg=name)


def test_plain_sum_returns_it_among_the_losses(make_cfg) -> None:
    penalty = [dict(type="ParameterPenalty", kind="l1", weight=0.1, modules="backbone")]
    model = built(make_cfg("retinanet", dict(type="Sum"), LOSSWEAVE__PENALTY=penalty))
    losses = forward(model, image_batch(0))
    expected = 0.1 * sum(p.abs().sum().item() for p in model.backbone.parameters())
    assert losses["loss_penalty"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("combiner", ["GeometricMean", "PCGrad"])
def test_a_term_of_any_combiner(make_cfg, combiner) -> None:
    cfg = make_cfg("retinanet", dict(type=combiner), LOSSWEAVE__PENALTY=[dict(weight=1e-3)])
    for term, patterns in TERMS.items():
        cfg.LOSSWEAVE.TERM_PATTERNS[term] = patterns
    model = built(cfg)
    total(forward(model, image_batch(0))).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert model.loss_combination.logged()["term_penalty"] > 0


def test_lazy_config(make_cfg) -> None:
    stock = built(make_cfg("retinanet"))
    lazy = L(combine_losses)(
        model=L(lambda: stock)(), combiner="Max",
        penalty=[L(ParameterPenalty)(kind="l2", weight=0.1),
                 dict(kind="l1", weight=0.1, name="loss_sparse")],
    )  # fmt: skip
    model = instantiate(lazy)
    assert [penalty.name for penalty in model.loss_penalties] == ["loss_penalty", "loss_sparse"]
    total(forward(model, image_batch(0))).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("penalty", "words"),
    [
        ([dict(kind="l7")], "ParameterPenalty: kind='l7' should be one of"),
        ([dict(modules="backbon")], "matches no module with parameters; did you mean 'backbone"),
        ([7], "penalty=7 should be dict("),
    ],
)
def test_wrong_configs_end_when_the_model_is_built(make_cfg, penalty, words) -> None:
    cfg = make_cfg("retinanet", dict(type="Sum"), LOSSWEAVE__PENALTY=penalty)
    with pytest.raises(LossweaveError) as error:
        built(cfg)
    assert words in str(error.value)


def test_a_trainer_trains_logs_and_resumes(make_cfg) -> None:
    def run(name: str, stop: int, resume: bool) -> Trainer:
        cfg = make_cfg(
            "retinanet", dict(type="UncertaintyWeighting"), name=name, DATASETS__TEST=(),
            LOSSWEAVE__PENALTY=[dict(weight=0.01)], LOSSWEAVE__NUMBERED_DRAWS=True,
            SOLVER__CHECKPOINT_PERIOD=2, SOLVER__MAX_ITER=4,
        )  # fmt: skip
        torch.manual_seed(0)
        trainer = Trainer(cfg)
        trainer.build_writers = lambda: []
        trainer.resume_or_load(resume)
        trainer.max_iter = stop
        trainer.train()
        return trainer

    whole = run("whole", 4, False)
    run("broken", 2, False)
    resumed = run("broken", 4, True)
    assert resumed.start_iter == 2
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    assert whole.storage.latest()["loss_penalty"][0] > 0
