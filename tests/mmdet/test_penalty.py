"""A penalty on parameters in MMDetection's configs: against weight decay, frozen, ranks, resume."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mmdet_support import assert_same, image_batch
from helpers.ranks import spawn
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from lossweave import ParameterPenalty
from lossweave.errors import LossweaveError

TERMS = dict(cls=["loss_cls"], loc=["loss_bbox"], penalty=["loss_penalty"])
#: So that no clipping and no decay of the optimizer's own is in the way.
PLAIN = dict(optim_wrapper__optimizer__weight_decay=0.0, optim_wrapper__clip_grad=None)


def l2(weight: float = 1e-3, **more: Any) -> dict[str, Any]:
    return dict(type="lossweave.ParameterPenalty", kind="l2", weight=weight, **more)


def build(cfg: Any) -> Any:
    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(cfg.model).train()


def losses_of(model: Any, rank: int = 0) -> dict[str, Any]:
    torch.manual_seed(7)
    return model(**model.data_preprocessor(image_batch(rank), True), mode="loss")


@pytest.mark.parametrize("combiner", [dict(type="Sum"), dict(type="Sum", weights=[1.0, 1.0])])
def test_l2_trains_as_sgds_weight_decay(make_config, train, combiner) -> None:
    options = {**PLAIN, "optim_wrapper__optimizer__weight_decay": 0.1}
    decayed = train(make_config("retinanet", dict(type="Sum"), "decayed", **options))
    cfg = make_config("retinanet", combiner, "penal", model=dict(penalty=l2(0.1)), **PLAIN)
    penal = train(cfg)
    one, other = decayed.model.state_dict(), penal.model.state_dict()
    assert one.keys() == other.keys()  # checkpoints keep their keys
    torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    without = train(make_config("retinanet", combiner, "without", **PLAIN)).model.state_dict()
    with pytest.raises(AssertionError):
        torch.testing.assert_close(other, without, rtol=1e-4, atol=1e-6)


def test_it_is_logged_and_no_term_claims_it(make_config) -> None:
    model = build(make_config("retinanet", dict(type="Max"), model=dict(penalty=l2(0.5))))
    root, logged = model.parse_losses(losses_of(model))
    expected = sum(p.square().sum() for p in model.parameters() if p.requires_grad) / 4
    assert logged["loss_penalty"].item() == pytest.approx(expected.item(), rel=1e-5)
    model.zero_grad()
    root.backward()
    never = model.bbox_head.retina_cls.weight  # Max trains the larger term; the penalty all
    assert never.grad is not None


@pytest.mark.parametrize("combiner", ["Sum", "GeometricMean", "PCGrad", "MGDA"])
def test_a_term_of_any_combiner(make_config, combiner) -> None:
    cfg = make_config("retinanet", dict(type=combiner), model=dict(penalty=l2(), terms=TERMS))
    model = build(cfg)
    root, _ = model.parse_losses(losses_of(model))
    root.backward()
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() for g in grads)
    logged = model.loss_combination.logged()
    assert logged["term_penalty"] > 0
    assert "weight_penalty" in logged


def test_a_boundary_above_the_penalised_parameters_is_refused(make_config) -> None:
    combiner = dict(type="PCGrad", boundary="features")
    model = build(make_config("retinanet", combiner, model=dict(penalty=l2(), terms=TERMS)))
    with pytest.raises(LossweaveError) as error:
        model.parse_losses(losses_of(model))
    assert "penalty" in str(error.value)
    assert "\n" not in str(error.value)


def test_beside_a_boundary_it_is_added_as_it_is(make_config) -> None:
    combiner = dict(type="PCGrad", boundary="features")
    model = build(make_config("retinanet", combiner, model=dict(penalty=l2(0.5))))
    other = build(make_config("retinanet", combiner, "other"))
    other.load_state_dict(model.state_dict())
    for one in (model, other):
        one.parse_losses(losses_of(one))[0].backward()
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        if p.requires_grad:
            torch.testing.assert_close(p.grad, q.grad + 0.5 * p.detach(), msg=name)


def test_frozen_modules_are_left_out(make_config) -> None:
    penalty = l2(1.0, modules=["backbone", "neck"])
    model = build(make_config("retinanet", dict(type="Sum"), model=dict(penalty=penalty)))
    frozen = [p for p in model.backbone.parameters() if not p.requires_grad]
    assert frozen  # the stem, by the stock config
    for p in model.backbone.parameters():
        p.requires_grad_(False)
    _, logged = model.parse_losses(losses_of(model))
    expected = sum(p.square().sum() for p in model.neck.parameters()) / 2
    assert logged["loss_penalty"].item() == pytest.approx(expected.item(), rel=1e-5)
    for p in model.neck.parameters():
        p.requires_grad_(False)
    root, logged = model.parse_losses(losses_of(model))
    root.backward()
    assert logged["loss_penalty"].item() == 0


def test_validation_losses_have_no_penalty(make_config) -> None:
    model = build(make_config("retinanet", dict(type="Sum"), model=dict(penalty=l2(1.0))))
    with torch.no_grad():
        _, logged = model.parse_losses(losses_of(model))
    assert "loss_penalty" not in logged


def test_several(make_config) -> None:
    penalties = [l2(0.1), dict(kind="l1", weight=0.01, modules="bbox_head", name="loss_sparse")]
    model = build(make_config("retinanet", dict(type="Sum"), model=dict(penalty=penalties)))
    _, logged = model.parse_losses(losses_of(model))
    expected = 0.01 * sum(p.abs().sum() for p in model.bbox_head.parameters())
    assert logged["loss_sparse"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert logged["loss_penalty"] > 0


def test_it_is_registered() -> None:
    found = MODELS.build(dict(type="lossweave.ParameterPenalty", kind="l1"))
    assert isinstance(found, ParameterPenalty)


@pytest.mark.parametrize(
    ("penalty", "words"),
    [
        (dict(kind="l7"), "ParameterPenalty: kind='l7' should be one of"),
        (dict(lamda=3), "ParameterPenalty has no argument 'lamda'"),
        (dict(modules="bakbone"), "matches no module with parameters; did you mean 'backbone'"),
        (7, "penalty=7 should be dict("),
    ],
)
def test_wrong_configs_end_when_the_model_is_built(make_config, penalty, words) -> None:
    cfg = make_config("retinanet", dict(type="Sum"), model=dict(penalty=penalty))
    with pytest.raises(LossweaveError) as error:
        build(cfg)
    assert words in str(error.value)


def test_a_resumed_run_ends_bit_identical(make_config) -> None:
    options = dict(model=dict(penalty=l2(0.1), terms=TERMS), iterations=4)
    combiner = dict(type="UncertaintyWeighting", lr=0.05)
    whole = Runner.from_cfg(make_config("retinanet", combiner, "whole", **options))
    whole.train()
    broken = make_config("retinanet", combiner, "broken", **{**options, "iterations": 4})
    (Path(broken.work_dir)).mkdir(parents=True, exist_ok=True)
    source = Path(whole.work_dir) / "iter_2.pth"
    if not source.exists():
        pytest.fail("the whole run kept no checkpoint of its second iteration")
    broken.load_from, broken.resume = str(source), True
    resumed = Runner.from_cfg(broken)
    resumed.train()
    assert resumed.iter == whole.iter
    assert_same(whole.model.state_dict(), resumed.model.state_dict())


def _two_ranks(rank: int, cfg: Any) -> None:
    from mmengine.model import MMDistributedDataParallel

    model = build(cfg)
    alone = [copy.deepcopy(model) for _ in range(2)]
    for find_unused in (False, True):
        model.zero_grad()
        wrapped = MMDistributedDataParallel(model, find_unused_parameters=find_unused)
        torch.manual_seed(7)
        data = model.data_preprocessor(image_batch(rank), True)
        model.parse_losses(wrapped(**data, mode="loss"))[0].backward()
        for other, one in enumerate(alone):  # the shards, one after the other
            one.zero_grad()
            one.parse_losses(losses_of(one, other))[0].backward()
        for name, p in model.named_parameters():
            if p.requires_grad:
                mean = sum(one.get_parameter(name).grad for one in alone) / 2
                torch.testing.assert_close(p.grad, mean, rtol=1e-4, atol=1e-6, msg=name)


def test_two_ranks_have_the_mean_gradient(make_config) -> None:
    cfg = make_config("retinanet", dict(type="Sum", weights=[1, 2, 3]),
                      model=dict(penalty=l2(0.2), terms=TERMS))  # fmt: skip
    spawn(_two_ranks, cfg)
