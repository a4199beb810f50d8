"""What people do around a detector: loops, wrappers, optimizers and hooks of their own."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase, SimpleTrainer, hooks
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from helpers.detectron2_toy import image_batch
from helpers.mmdet_support import ALL_COMBINERS, HELD, assert_same, combiner_config
from torch import nn

from lossweave.detectron2 import CombinerHook, build_numbered_train_loader, combine_losses
from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.progress import Progress


def _trainer(cfg: Any, *made: Any, model: Any = None, kind: Any = SimpleTrainer) -> Any:
    torch.manual_seed(0)
    model = build_model(cfg) if model is None else model
    trainer = kind(model, build_numbered_train_loader(cfg), build_optimizer(cfg, model))
    trainer.register_hooks(list(made))
    return trainer


def _train(cfg: Any, *made: Any, iterations: int = 4, **more: Any) -> Any:
    trainer = _trainer(cfg, *made, **more)
    trainer.train(0, iterations)
    return trainer


class Keep(HookBase):
    def __init__(self) -> None:
        self.taken: list[dict[str, torch.Tensor]] = []

    def after_step(self) -> None:
        named = self.trainer.model.named_parameters()
        self.taken.append({n: p.detach().clone() for n, p in named})


# --------------------------------------------------------------------- the host's contract


@pytest.mark.parametrize("name", ALL_COMBINERS)
def test_a_plain_loop(name: str, make_cfg) -> None:
    """As Detectron2's plain_train_net: the sum of a dictionary, and that reduced for the log."""
    model = build_model(make_cfg("retinanet", combiner_config(name))).train()
    model.loss_combination.set_progress(Progress(iterations_per_epoch=4))
    with EventStorage(0):
        losses = model(image_batch(0))
    assert isinstance(losses, dict)
    total = sum(losses.values())
    assert torch.isfinite(total).all(), losses
    reduced = {k: v.item() for k, v in comm.reduce_dict(losses).items()}
    assert sum(reduced.values()) == pytest.approx(total.item())
    total.backward()
    assert any(p.grad is not None for p in model.parameters())


class _OddLosses(nn.Module):
    """A detector whose losses are a number, one element, several, and a list."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(2, 2)

    def forward(self, batch: Any) -> dict[str, Any]:
        x = self.backbone(batch)
        return {"loss_cls": x.square().sum().view(1), "loss_box_reg": x.abs().sum(), "loss_x": 0.5}


@pytest.mark.parametrize("name", ["Sum", "Max", "Product", "PCGrad"])
def test_losses_that_are_numbers_or_of_one_element_need_no_storage(name: str) -> None:
    model = combine_losses(_OddLosses(), name).train()
    found = sum(model(torch.ones(3, 2)).values())
    found.sum().backward()
    assert model.backbone.weight.grad is not None and model.backbone.weight.grad.any()


def test_what_is_refused_before_training_leaves_nothing_on_the_optimizer(make_cfg) -> None:
    hook = CombinerHook()
    trainer = _trainer(make_cfg("retinanet", combiner_config("AutoLoss", **HELD)), hook)
    with pytest.raises(LossweaveError, match="AutoLoss asks for held-out losses"):
        hook.before_train()  # as a loop that calls no after_train when this fails
    assert not trainer.optimizer._optimizer_step_pre_hooks


# ------------------------------------------------------------------------- a seam bypassed


class OwnStep(SimpleTrainer):
    """Sums what the detector's own class returns."""

    def run_step(self) -> None:
        base = type(self.model).__mro__[2]
        total = sum(base.forward(self.model, next(self._data_loader_iter)).values())
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()


class Detached(SimpleTrainer):
    """Optimises something else than what the model returns."""

    def run_step(self) -> None:
        losses = self.model(next(self._data_loader_iter))
        self.optimizer.zero_grad()
        penalty = sum(p.square().sum() for p in self.model.parameters())
        (sum(losses.values()).detach() * penalty).backward()
        self.optimizer.step()


def test_a_trainer_that_goes_around_the_detector_is_named(make_cfg) -> None:
    cfg = make_cfg("retinanet", combiner_config("Max"))
    with pytest.raises(
        LossweaveError, match=r"OwnStep\.run_step never calls the forward of 'Combi"
    ):
        _train(cfg, CombinerHook(), kind=OwnStep)
    with pytest.raises(LossweaveError, match=r"Detached\.run_step runs its backward through somet"):
        _train(cfg, CombinerHook(), kind=Detached)


class Wrapper(nn.Module):
    def __init__(self, detector: nn.Module, calls: bool = True) -> None:
        super().__init__()
        self.detector, self.calls = detector, calls

    def forward(self, batch: Any) -> Any:
        if self.calls:
            return self.detector(batch)
        return {"loss": sum(p.square().sum() for p in self.detector.parameters())}


@pytest.mark.parametrize(
    "combiner",
    [
        combiner_config("Alternating"),
        combiner_config("FAMO", recompute=True),
        combiner_config("DWA"),
    ],
)
def test_a_combination_inside_a_wrapper_is_served(combiner: Any, make_cfg) -> None:
    states = []
    for wrapped in (False, True):
        cfg = make_cfg("retinanet", combiner)
        torch.manual_seed(0)
        model = build_model(cfg)
        trainer = _train(cfg, CombinerHook(interval=2), model=Wrapper(model) if wrapped else model)
        assert "weight_cls" in trainer.storage.histories()
        states.append({k: v.nan_to_num() for k, v in model.state_dict().items()})
    assert_same(*states)


def test_a_wrapper_that_never_calls_the_detector_is_named(make_cfg) -> None:
    cfg = make_cfg("retinanet", combiner_config("Max"))
    model = Wrapper(build_model(cfg), calls=False)
    with pytest.raises(LossweaveError, match=r"Wrapper\.forward never calls the forward of 'detec"):
        _train(cfg, CombinerHook(), model=model)


# -------------------------------------------------------------------------- the update


class Twice(SimpleTrainer):
    """Two forwards a step; one of them may be spoiled."""

    bad = -1

    def run_step(self) -> None:
        data = next(self._data_loader_iter)
        one = self.model(copy.deepcopy(data))
        weight = self.model.head.bbox_pred.weight
        kept = weight.detach().clone()
        if self.iter == self.bad:
            weight.data.fill_(float("nan"))
        two = self.model(data)
        weight.data.copy_(kept)
        self.optimizer.zero_grad()
        ((sum(one.values()) + sum(two.values())) / 2).backward()
        self.optimizer.step()


def test_two_forwards_learn_once_and_are_skipped_together(make_cfg) -> None:
    cfg = make_cfg("retinanet", combiner_config("UncertaintyWeighting"))
    model = _train(cfg, CombinerHook(), kind=Twice).model
    assert model.loss_combination.combiner.adam.count.tolist() == [4, 4]

    class Spoiled(Twice):
        bad = 2

    cfg = make_cfg("retinanet", combiner_config("UncertaintyWeighting"),
                   LOSSWEAVE__ON_NONFINITE="skip")  # fmt: skip
    keep = Keep()
    model = _train(cfg, CombinerHook(), keep, kind=Spoiled).model
    assert_same(keep.taken[1], keep.taken[2])
    assert any(not torch.equal(keep.taken[3][k], v) for k, v in keep.taken[2].items())
    assert model.loss_combination.combiner.adam.count.tolist() == [3, 3]


class Validate(HookBase):
    """Measures losses in training mode, with gradients on."""

    def after_step(self) -> None:
        model = self.trainer.model
        kept = {n: b.clone() for n, b in model.named_buffers() if "loss_combination" not in n}
        normalizer, state = model.loss_normalizer, torch.get_rng_state()
        losses = model(image_batch(3))
        assert sum(losses.values()).isfinite()
        torch.set_rng_state(state)
        model.loss_normalizer = normalizer
        for name, buffer in model.named_buffers():
            if name in kept:
                buffer.copy_(kept[name])


@pytest.mark.parametrize("hooked", [True, False])
@pytest.mark.parametrize("name", ["UncertaintyWeighting", "FAMO", "GradNorm"])
def test_a_hook_that_measures_losses_changes_nothing(name: str, hooked: bool, make_cfg) -> None:
    states, logged = [], []
    for more in ([], [Validate()]):
        made = [*more, CombinerHook(interval=2)] if hooked else more
        trainer = _train(make_cfg("retinanet", combiner_config(name)), *made)
        states.append({k: v.nan_to_num(-7) for k, v in trainer.model.state_dict().items()})
        logged.append(trainer.storage.history("loss_cls").values())
    assert_same(*states)
    assert logged[0] == logged[1] and len(logged[0]) == 4


class EverySecond:
    """An optimizer object that gathers gradients over two calls."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.calls = inner, 0

    def zero_grad(self) -> None:
        if self.calls % 2 == 0:
            self.inner.zero_grad()

    def step(self) -> None:
        self.calls += 1
        if self.calls % 2 == 0:
            self.inner.step()

    def state_dict(self) -> Any:
        return self.inner.state_dict()


@pytest.mark.parametrize("name", ["Sum", "UncertaintyWeighting", "AutoLoss", "Alternating", None])
def test_an_optimizer_that_wraps_another(name: str | None, make_cfg) -> None:
    cfg = make_cfg("retinanet", None if name is None else combiner_config(name))
    keep = Keep()
    trainer = _trainer(cfg, CombinerHook(accumulation=2), keep)
    trainer.optimizer = EverySecond(trainer.optimizer)
    trainer.train(0, 6)
    moved = [any(not torch.equal(a[k], b[k]) for k in a)
             for a, b in zip(keep.taken, keep.taken[1:], strict=False)]  # fmt: skip
    assert moved == [True, False, True, False, True]
    if name is not None:
        assert trainer.model.loss_combination.combiner.progress.update == 2


# -------------------------------------------------------------------------- not finite


class SpoilGradient(HookBase):
    def __init__(self, at: set[int]) -> None:
        self.at = at

    def before_train(self) -> None:
        first = next(p for p in self.trainer.model.parameters() if p.requires_grad)
        first.register_hook(lambda g: g * torch.nan if self.trainer.iter in self.at else g)


@pytest.mark.parametrize("name", ["Sum", "UncertaintyWeighting", "PCGrad"])
def test_a_gradient_that_is_not_finite_is_skipped(name: str, make_cfg) -> None:
    cfg = make_cfg("retinanet", combiner_config(name), LOSSWEAVE__ON_NONFINITE="skip")
    keep = Keep()
    _train(cfg, CombinerHook(), SpoilGradient({2}), keep)
    assert_same(keep.taken[1], keep.taken[2])
    assert all(p.isfinite().all() for p in keep.taken[3].values())
    assert any(not torch.equal(keep.taken[3][k], v) for k, v in keep.taken[2].items())
    with pytest.raises(NonFiniteLossError, match="2 updates in a row were skipped"):
        _train(cfg, CombinerHook(max_skips=2), SpoilGradient({1, 2, 3}))


def test_weights_that_are_not_finite_are_not_saved(make_cfg, tmp_path: Path) -> None:
    class Spoil(HookBase):
        def after_step(self) -> None:
            self.trainer.model.head.bbox_pred.weight.data.fill_(float("inf"))

    trainer = _trainer(make_cfg("retinanet", combiner_config("Max")), CombinerHook(), Spoil())
    folder = tmp_path / "saved"
    checkpointer = DetectionCheckpointer(trainer.model, str(folder), trainer=trainer)
    trainer.register_hooks([hooks.PeriodicCheckpointer(checkpointer, 1)])
    with pytest.raises(NonFiniteLossError, match=r"weights of 'head\.bbox_pred\.weight' are not"):
        trainer.train(0, 3)
    assert not list(folder.glob("*.pth"))


def test_without_a_combiner_a_loss_that_is_not_finite_is_told(make_cfg) -> None:
    hook = CombinerHook()
    cfg = make_cfg("retinanet", None, SOLVER__BASE_LR=1e30)
    with pytest.raises(FloatingPointError):
        _train(cfg, hook)
    assert "total_loss is nan; lower the learning rate or clip gradients" in hook.failure()


@pytest.mark.parametrize("left", [False, True])
def test_learned_state_that_comes_with_the_weights(left: bool, make_cfg, tmp_path: Path) -> None:
    first = _train(make_cfg("retinanet", combiner_config("UncertaintyWeighting")), CombinerHook())
    DetectionCheckpointer(first.model, str(tmp_path)).save("first")
    learned = first.model.loss_combination.combiner.log_var.clone()
    cfg = make_cfg("retinanet", combiner_config("UncertaintyWeighting", lr=0.0),
                   LOSSWEAVE__LOADED_STATE="leave" if left else "take")  # fmt: skip
    trainer = _trainer(cfg, CombinerHook())
    DetectionCheckpointer(trainer.model).resume_or_load(str(tmp_path / "first.pth"), resume=False)
    said: list[str] = []
    trainer.model.loss_combination.log = said.append
    trainer.train(0, 2)
    lines = [line for line in said if "learned state of UncertaintyWeighting" in line]
    assert len(lines) == 1 and ("is left out" in lines[0]) == left
    found = trainer.model.loss_combination.combiner.log_var
    assert learned.all() and torch.equal(found, torch.zeros_like(found) if left else learned)
