"""The penalty on parameters, against torch's own weight decay and subgradients."""

import copy
import pickle

import pytest
import torch
from torch import nn

from lossweave.combination import build_combination
from lossweave.combination.penalty import ParameterPenalty, penalized, read_penalties
from lossweave.errors import LossweaveError


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({
        "backbone": nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4)),
        "bbox_head": nn.ModuleDict({"cls": nn.Linear(4, 2), "reg": nn.Linear(4, 1)}),
    })  # fmt: skip


def losses(model: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    features = model["backbone"](x)
    return {
        "loss_cls": model["bbox_head"]["cls"](features).square().mean(),
        "loss_bbox": model["bbox_head"]["reg"](features).abs().mean(),
    }


def grads(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_l2_is_torchs_weight_decay(model):
    other = copy.deepcopy(model)
    decayed = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.03)
    penal = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    penalty = ParameterPenalty("l2", weight=0.03)
    combination = build_combination("Sum")
    for seed in range(5):
        decayed.zero_grad()
        sum(losses(model, seed).values()).backward()
        decayed.step()
        penal.zero_grad()
        combination(penalized(losses(other, seed), [penalty], other)).backward()
        penal.step()
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=1e-5, atol=1e-7)


def test_l1_gradient_is_the_sign(model):
    with torch.no_grad():
        model["backbone"][0].weight[0, 0] = 0.0
    ParameterPenalty("l1", weight=0.5)(model).backward()
    for name, grad in grads(model).items():
        assert torch.equal(grad, 0.5 * model.get_parameter(name).detach().sign())
    assert model["backbone"][0].weight.grad[0, 0] == 0


def test_values(model):
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    found = ParameterPenalty("l1", weight=2.0)(model)
    assert found.item() == pytest.approx(2 * theta.abs().sum().item())
    found = ParameterPenalty("l2", weight=2.0)(model)
    assert found.item() == pytest.approx((theta @ theta).item())
    assert ParameterPenalty("l2", weight=0)(model).item() == 0


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ("backbone", {"backbone.0.weight", "backbone.0.bias", "backbone.2.weight",
                      "backbone.2.bias"}),
        ("backbone.2", {"backbone.2.weight", "backbone.2.bias"}),
        ("*.reg", {"bbox_head.reg.weight", "bbox_head.reg.bias"}),
        (["*.cls", "backbone.0"], {"bbox_head.cls.weight", "bbox_head.cls.bias",
                                   "backbone.0.weight", "backbone.0.bias"}),
        (["back*", "backbone.0"], {"backbone.0.weight", "backbone.0.bias", "backbone.2.weight",
                                   "backbone.2.bias"}),
    ],
)  # fmt: skip
def test_named_modules_alone(model, modules, expected):
    penalty = ParameterPenalty("l2", weight=1.0, modules=modules)
    penalty.check(model)
    assert {name for name, _ in penalty.of(model)} == expected
    penalty(model).backward()
    assert set(grads(model)) == expected


def test_everything_is_meant_by_default(model):
    model.register_parameter("scale", nn.Parameter(torch.ones(1)))  # in no module
    assert [name for name, _ in ParameterPenalty().of(model)] == list(
        dict(model.named_parameters())
    )


def test_a_shared_parameter_counts_once(model):
    model["twin"] = model["bbox_head"]["cls"]
    value = ParameterPenalty("l1", weight=1.0, modules=["twin", "bbox_head.cls"])(model)
    assert value.item() == pytest.approx(
        sum(p.abs().sum().item() for p in model["twin"].parameters())
    )


def test_frozen_parameters_are_left_out_while_they_are(model):
    penalty = ParameterPenalty("l2", weight=1.0, modules="backbone")
    for p in model["backbone"][0].parameters():
        p.requires_grad_(False)
    alone = sum(p.square().sum().item() for p in model["backbone"][2].parameters()) / 2
    assert penalty(model).item() == pytest.approx(alone)
    for p in model["backbone"].parameters():
        p.requires_grad_(False)
    found = penalty(model)
    assert found.item() == 0
    assert not found.requires_grad
    for p in model["backbone"].parameters():
        p.requires_grad_(True)
    assert penalty(model).item() > alone


def test_half_precision_parameters_are_summed_in_float32(model):
    value = ParameterPenalty("l2", weight=1.0)(model.to(torch.bfloat16))
    assert value.dtype == torch.float32


def test_added_as_it_is_where_no_term_claims_it(model):
    penalty = ParameterPenalty("l2", weight=0.2)
    combination = build_combination("Product")
    combination(penalized(losses(model), [penalty], model)).backward()
    mixed = grads(model)
    model.zero_grad()
    build_combination("Product")(losses(model)).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(mixed[name], p.grad + 0.2 * p.detach())


TERMS = {"cls": "loss_cls", "loc": "loss_bbox", "penalty": "loss_penalty"}


def test_a_term_of_a_combiner_of_values(model):
    penalty = ParameterPenalty("l2", weight=0.2)
    combination = build_combination(dict(type="Sum", weights=[1, 1, 3]), TERMS)
    combination(penalized(losses(model), [penalty], model)).backward()
    mixed = grads(model)
    model.zero_grad()
    sum(losses(model).values()).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(mixed[name], p.grad + 3 * 0.2 * p.detach())


@pytest.mark.parametrize("combiner", ["PCGrad", "MGDA"])
def test_a_term_of_a_combiner_of_gradients(model, combiner):
    penalty = ParameterPenalty("l1", weight=0.2)
    combination = build_combination(combiner, TERMS)
    root = combination(penalized(losses(model), [penalty], model))
    root.backward()
    assert set(grads(model)) == set(dict(model.named_parameters()))
    assert all(grad.isfinite().all() for grad in grads(model).values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(kind="l3"), "ParameterPenalty: kind='l3' should be one of 'l1', 'l2'"),
        (dict(weight=-1.0), "ParameterPenalty: weight=-1.0 should be at least 0"),
        (dict(weight=float("nan")), "weight=nan should be"),
        (dict(weight="much"), "weight='much' should be"),
        (dict(name="penalty"), "name='penalty' should have 'loss' in it"),
        (dict(name="loss"), "name='loss' should have 'loss' in it, and more"),
        (dict(modules=[]), "modules=[] should name at least one"),
        (dict(lamda=1.0), "ParameterPenalty has no argument 'lamda'"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, words):
    with pytest.raises(LossweaveError) as error:
        ParameterPenalty(**arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (3, "penalty=3 should be dict("),
        ([dict(), dict()], "two of the name 'loss_penalty'"),
        (dict(type="Sum"), "type='Sum' should be 'lossweave.ParameterPenalty'"),
        (dict(kind="l2", modles="x"), "has no argument 'modles'"),
    ],
)
def test_wrong_configs_are_one_line(values, words):
    with pytest.raises(LossweaveError) as error:
        read_penalties(values)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_configs():
    assert read_penalties(None) == ()
    one = ParameterPenalty("l1")
    assert read_penalties(one) == (one,)
    for kind in ("lossweave.ParameterPenalty", "ParameterPenalty", ParameterPenalty):
        (found,) = read_penalties(dict(type=kind, kind="l1", weight=2))
        assert (found.kind, found.weight) == ("l1", 2)


def test_unknown_modules_are_refused_with_near_names(model):
    with pytest.raises(LossweaveError) as error:
        ParameterPenalty(modules="backbon").check(model)
    assert "modules='backbon' matches no module with parameters" in str(error.value)
    assert "'backbone'" in str(error.value)


def test_a_loss_of_the_same_name_is_refused(model):
    with pytest.raises(LossweaveError, match="is a loss of the detector's own"):
        penalized(losses(model), [ParameterPenalty(name="loss_cls")], model)


def test_pickles_and_copies(model):
    penalty = ParameterPenalty("l1", 0.5, ["backbone"])
    for twin in (copy.deepcopy(penalty), pickle.loads(pickle.dumps(penalty))):
        assert repr(twin) == repr(penalty)
        assert torch.equal(twin(model), penalty(model))
