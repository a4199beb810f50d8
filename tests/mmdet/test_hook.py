"""What people do around a detector: steps, optimizers, totals and hooks of their own."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mmdet_support import assert_same, combiner_config
from mmdet.models import RetinaNet
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.runner import Runner

from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.mmdet.hook import _take_gradients


class OwnStep(RetinaNet):
    """Adds its losses itself."""

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Any]:
        losses = self(**self.data_preprocessor(data, True), mode="loss")
        total = sum(sum(x.mean() for x in parts) for parts in losses.values())
        optim_wrapper.update_params(total)
        return {"loss": total.detach()}


class OtherLoss(RetinaNet):
    """Asks parse_losses, and optimises something else."""

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Any]:
        losses = self(**self.data_preprocessor(data, True), mode="loss")
        _, log = self.parse_losses(losses)
        optim_wrapper.update_params(log["loss_cls"] + log["loss_bbox"])
        return log


class Renamed(RetinaNet):
    """Logs numbers under other names, and the sum as it is."""

    def parse_losses(self, losses: Any) -> Any:
        total, log = super().parse_losses(losses)
        return total, {f"train_{name}": float(value) for name, value in log.items()}


class Weighted(RetinaNet):
    """Weights one loss by itself."""

    def parse_losses(self, losses: Any) -> Any:
        total, log = super().parse_losses(losses)
        return total + 2 * log["loss_bbox"], log


class WeightedLater(RetinaNet):
    """Weights one loss by itself from the second step on."""

    def parse_losses(self, losses: Any) -> Any:
        total, log = super().parse_losses(losses)
        self.steps = getattr(self, "steps", 0) + 1
        return total + 2 * log["loss_bbox"] * (self.steps > 1), log


class Twice(RetinaNet):
    """Two forwards and two totals in one step, as semi-supervised detectors have them."""

    bad: int = -1

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Any]:
        self.steps = getattr(self, "steps", 0) + 1
        data = self.data_preprocessor(data, True)
        with optim_wrapper.optim_context(self):
            found = [self(**copy.deepcopy(data), mode="loss") for _ in range(2)]
        if self.steps == self.bad:
            found[0]["loss_bbox"] = [x * torch.nan for x in found[0]["loss_bbox"]]
        parsed = [self.parse_losses(losses) for losses in found]
        optim_wrapper.update_params((parsed[0][0] + parsed[1][0]) / 2)
        return parsed[1][1]


class SeveralOptimizers(RetinaNet):
    """One optimizer for the backbone, one for the rest."""

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Any]:
        losses = self(**self.data_preprocessor(data, True), mode="loss")
        total, log = self.parse_losses(losses)
        for wrapper in optim_wrapper.values():
            wrapper.zero_grad()
        total.backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
        return log


class Outer(BaseModel):
    """A detector inside a detector, whose parse_losses is never called."""

    def __init__(self, detector: Any, data_preprocessor: Any = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.student = MMDET_MODELS.build(detector)

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor") -> Any:
        return self.student(inputs, data_samples, mode)


class TwoWrappers:
    def __init__(self, optim_wrapper_cfg: Any, paramwise_cfg: Any = None) -> None:
        self.cfg = optim_wrapper_cfg

    def __call__(self, model: Any) -> OptimWrapperDict:
        model = getattr(model, "module", model)
        build = DefaultOptimWrapperConstructor(self.cfg)
        rest = torch.nn.ModuleList([model.neck, model.bbox_head])
        return OptimWrapperDict(backbone=build(model.backbone), rest=build(rest))


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    kinds = (
        OwnStep, OtherLoss, Renamed, Weighted, WeightedLater, Twice, SeveralOptimizers, Outer,
    )  # fmt: skip
    for kind in kinds:
        MMDET_MODELS.register_module(module=kind, force=True)
    OPTIM_WRAPPER_CONSTRUCTORS.register_module(module=TwoWrappers, force=True)
    yield
    for kind in kinds:
        del MMDET_MODELS.module_dict[kind.__name__]
    del OPTIM_WRAPPER_CONSTRUCTORS.module_dict["TwoWrappers"]


def _runner(cfg: Any, kind: str | None = None, *hooks: Hook) -> Runner:
    if kind is not None:
        cfg.model.base_detector = kind
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    return runner


class _Weights(Hook):
    priority = "LOWEST"

    def __init__(self) -> None:
        self.taken: list[dict[str, torch.Tensor]] = []

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        self.taken.append({n: p.detach().clone() for n, p in runner.model.named_parameters()})


# ------------------------------------------------------------------------- a seam bypassed


def test_a_train_step_that_adds_up_itself_is_named(make_config) -> None:
    cfg = make_config("retinanet", dict(type="Sum", weights=[0.0, 1.0]))
    with pytest.raises(LossweaveError, match=r"OwnStep\.train_step never asks parse_losses"):
        _runner(cfg, "OwnStep").train()


def test_a_train_step_that_optimises_something_else_is_named(make_config) -> None:
    cfg = make_config("retinanet", "UncertaintyWeighting")
    with pytest.raises(LossweaveError, match=r"OtherLoss\.train_step runs its backward through so"):
        _runner(cfg, "OtherLoss").train()


def test_a_detector_inside_a_detector_is_named(make_config) -> None:
    cfg = make_config("retinanet", "Max")
    inner = cfg.model.to_dict()
    preprocessor = inner.pop("data_preprocessor")
    cfg.model = dict(type="Outer", detector=inner, data_preprocessor=preprocessor, _delete_=True)
    cfg.model.pop("_delete_")
    words = r"BaseModel\.parse_losses adds up the losses of 'student' \(CombinedRetinaNet\)"
    with pytest.raises(LossweaveError, match=words):
        _runner(cfg).train()


# -------------------------------------------------------------------- a total of one's own


@pytest.mark.parametrize("name", ["Sum", "UncertaintyWeighting", "PCGrad"])
def test_a_log_of_numbers_under_other_names_trains(name, make_config) -> None:
    runner = _runner(make_config("retinanet", combiner_config(name)), "Renamed")
    runner.train()
    assert runner.iter == 4 and "train/train_loss_cls" in runner.message_hub.log_scalars


def test_a_total_of_the_detectors_own_is_kept_by_the_plain_sum_and_else_refused(
    make_config,
) -> None:
    taken = []
    for kind, combiner in (("Weighted", "Sum"), ("RetinaNet", dict(type="Sum", weights=[1, 3]))):
        weights = _Weights()
        _runner(make_config("retinanet", combiner, kind), kind, weights).train()
        taken.append(weights.taken[-1])
    for key in taken[0]:
        torch.testing.assert_close(taken[0][key], taken[1][key], rtol=1e-4, atol=1e-6)
    for combiner in (dict(type="Sum", weights=[1, 1.001]), "Max", "PCGrad"):
        cfg = make_config("retinanet", combiner, "refused")
        with pytest.raises(
            LossweaveError, match=r"Weighted\.parse_losses weights the losses by it"
        ):
            _runner(cfg, "Weighted").train()


def test_losses_that_are_weighted_later_are_noticed_in_that_iteration(make_config) -> None:
    cfg = make_config("retinanet", "Max", iterations=4)
    cfg.default_hooks.lossweave.interval = 50
    runner = _runner(cfg, "WeightedLater")
    with pytest.raises(LossweaveError, match=r"WeightedLater\.parse_losses weights the losses by"):
        runner.train()
    assert runner.iter == 1  # from 0: the second iteration


# --------------------------------------------------------------------------- the update


@pytest.mark.parametrize("name", ["UncertaintyWeighting", "FAMO", "GradNorm"])
def test_two_forwards_learn_once(name, make_config) -> None:
    runner = _runner(make_config("retinanet", combiner_config(name)), "Twice")
    runner.train()
    counts = [v for k, v in runner.model.state_dict().items() if k.endswith("adam.count")]
    assert len(counts) == 1 and counts[0].max() <= 4 and counts[0].max() >= 3


def test_two_forwards_and_the_first_is_not_finite(make_config) -> None:
    cfg = make_config("retinanet", "UncertaintyWeighting", model=dict(on_nonfinite="skip"))
    weights = _Weights()
    runner = _runner(cfg, "Twice", weights)
    runner.model.bad = 3
    runner.train()
    assert_same(weights.taken[1], weights.taken[2])
    assert any(not torch.equal(weights.taken[3][k], v) for k, v in weights.taken[2].items())
    assert all(p.isfinite().all() for p in runner.model.parameters())


class _Validation(Hook):
    """Measures losses with gradients on, as people do for curves of validation losses."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        model = runner.model
        state = torch.get_rng_state()
        norm = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) and m.training]
        kept = [(m, copy.deepcopy(m.state_dict())) for m in norm]
        losses = model(**model.data_preprocessor(copy.deepcopy(data_batch), True), mode="loss")
        model.parse_losses(losses)
        torch.set_rng_state(state)
        for module, old in kept:
            module.load_state_dict(old)


@pytest.mark.parametrize("name", ["UncertaintyWeighting", "FAMO", "DWA", "GradNorm"])
@pytest.mark.parametrize("priority", ["HIGH", "LOW"])
def test_a_hook_that_measures_losses_with_gradients_changes_nothing(
    name, priority, make_config
) -> None:
    states = []
    for hooks in ((), (_Validation(),)):
        cfg = make_config("retinanet", combiner_config(name), f"with_{len(hooks)}")
        runner = Runner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook, priority)
        runner.train()
        state = runner.model.state_dict()
        states.append({k: v.nan_to_num(-7) for k, v in state.items()})
    assert_same(*states)


@pytest.mark.parametrize("name", ["Sum", "AutoLoss", "UncertaintyWeighting", "PCGrad", "FAMO"])
def test_a_dictionary_of_optimizers(name, make_config) -> None:
    more = dict(recompute=True) if name == "FAMO" else {}
    cfg = make_config("retinanet", combiner_config(name, **more), param_scheduler=[])
    cfg.optim_wrapper.constructor = "TwoWrappers"
    runner = _runner(cfg, "SeveralOptimizers")
    before = {n: p.detach().clone() for n, p in runner.model.named_parameters()}
    runner.train()
    moved = {n.split(".")[0] for n, p in runner.model.named_parameters()
             if not torch.equal(p, before[n])}  # fmt: skip
    assert runner.iter == 4 and moved == {"backbone", "neck", "bbox_head"}
    assert "train/weight_cls" in runner.message_hub.log_scalars


# ------------------------------------------------------------------------- not finite


class _Spoil(Hook):
    """Makes gradients, or weights, that are not finite."""

    def __init__(self, gradients: set[int] = frozenset(), weights: int = -1) -> None:
        self.gradients, self.weights = gradients, weights

    def before_train(self, runner) -> None:
        self.at = 0
        first = next(p for p in runner.model.parameters() if p.requires_grad)
        first.register_hook(lambda grad: grad * torch.nan if self.at in self.gradients else grad)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.at = runner.iter

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter == self.weights:
            next(runner.model.bbox_head.parameters()).data.fill_(torch.nan)


@pytest.mark.parametrize("name", ["Sum", "UncertaintyWeighting", "PCGrad"])
@pytest.mark.parametrize("clipped", [True, False])
def test_a_gradient_that_is_not_finite_is_skipped(name, clipped, make_config) -> None:
    cfg = make_config("retinanet", combiner_config(name), model=dict(on_nonfinite="skip"))
    if not clipped:
        cfg.optim_wrapper.clip_grad = None
    weights = _Weights()
    runner = _runner(cfg, None, _Spoil({2}), weights)
    runner.train()
    assert_same(weights.taken[1], weights.taken[2])
    assert any(not torch.equal(weights.taken[3][k], v) for k, v in weights.taken[2].items())
    assert runner.message_hub.log_scalars["train/skipped_updates"].current() == 1


def test_skips_in_a_row_have_a_limit(make_config) -> None:
    cfg = make_config("retinanet", "Sum", model=dict(on_nonfinite="skip"), iterations=6)
    cfg.default_hooks.lossweave.max_skips = 3
    with pytest.raises(NonFiniteLossError, match="3 updates in a row were skipped"):
        _runner(cfg, None, _Spoil({1, 2, 3, 4})).train()
    with pytest.raises(LossweaveError, match="max_skips=0"):
        cfg.default_hooks.lossweave.max_skips = 0
        Runner.from_cfg(cfg)


def test_without_a_combiner_a_loss_that_is_not_finite_ends_the_run(make_config, tmp_path) -> None:
    cfg = make_config("retinanet", None)
    cfg.default_hooks.lossweave = dict(type="lossweave.CombinerHook")
    cfg.optim_wrapper.optimizer.lr = 1e30
    cfg.optim_wrapper.clip_grad = None
    cfg.param_scheduler = []
    with pytest.raises(NonFiniteLossError, match=r"iteration \d: .*loss.* is (nan|inf).*; lower t"):
        _runner(cfg).train()


def test_weights_that_are_not_finite_are_not_saved(make_config) -> None:
    cfg = make_config("retinanet", "Sum", default_hooks__checkpoint__interval=2)
    runner = _runner(cfg, None, _Spoil(weights=1))
    with pytest.raises(NonFiniteLossError, match=r"weights of 'bbox_head\..*' are not finite"):
        runner.train()
    assert not list(Path(cfg.work_dir).rglob("*.pth"))


# ------------------------------------------------------- learned state of another training


class _Said(Hook):
    """What the combination says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def before_train(self, runner) -> None:
        runner.model.loss_combination.log = self.lines.append


@pytest.mark.parametrize("left", [False, True])
def test_learned_state_that_comes_with_the_weights(left, make_config) -> None:
    first = _runner(make_config("retinanet", combiner_config("UncertaintyWeighting"), "first"))
    first.train()
    path = str(Path(first.work_dir) / "iter_4.pth")
    learned = first.model.loss_combination.combiner.log_var.clone()
    more = dict(loaded_state="leave") if left else {}
    cfg = make_config("retinanet", combiner_config("UncertaintyWeighting", lr=0.0), "second",
                      model=more, iterations=2)  # fmt: skip
    cfg.load_from = path
    said = _Said()
    runner = _runner(cfg, None, said)
    runner.train()
    lines = [line for line in said.lines if "learned state of UncertaintyWeighting" in line]
    assert len(lines) == 1 and ("is left out" in lines[0]) == left
    found = runner.model.loss_combination.combiner.log_var
    assert torch.equal(found, torch.zeros_like(found) if left else learned)
    assert learned.all()


def test_gathered_gradients_of_another_model_are_refused() -> None:
    """A checkpoint within an accumulation window has them; a wrong one leaves none behind."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3))
    ones = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    for wrong in ({"1.weight": torch.ones(3, 2)}, {"0.bias": torch.ones(4)}):
        with pytest.raises(LossweaveError, match="an accumulation window of another model") as said:
            _take_gradients(model, {"0.weight": ones["0.weight"], **wrong})
        assert repr(*wrong) in str(said.value) and "\n" not in str(said.value)
        assert model[0].weight.grad is None
    _take_gradients(model, ones)
    assert all(torch.equal(p.grad, ones[name]) for name, p in model.named_parameters())
