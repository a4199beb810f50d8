"""The host's part of the protocol, on a loop without a framework."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lossweave.combination import LossCombination, build_combination
from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.host.hook import HostHook
from lossweave.host.optimizer_step import torch_optimizers
from lossweave.progress import Progress


class Model(nn.Module):
    """Two terms on one weight; the combination is inside a part of it, as in a wrapper."""

    def __init__(self, combiner: Any = "Sum", **options: Any) -> None:
        super().__init__()
        self.detector = nn.Linear(2, 2, bias=False)
        nn.init.constant_(self.detector.weight, 1.0)
        self.detector.loss_combination = build_combination(combiner, **options)

    @property
    def combination(self) -> LossCombination:
        found = self.detector.loss_combination
        assert isinstance(found, LossCombination)
        return found

    def losses(self, scale: float = 1.0) -> dict[str, Tensor]:
        cls, loc = self.detector(torch.ones(2)).square() * scale
        return {"loss_cls": cls, "loss_bbox": loc}


class EverySecond:
    """An optimizer object that wraps another and steps every second time."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.hidden = {"inner": inner}
        self.calls = 0

    def step(self) -> None:
        self.calls += 1
        if self.calls % 2 == 0:
            self.hidden["inner"].step()
            self.hidden["inner"].zero_grad()


def _loop(
    model: Model, optimizer: Any, host: HostHook, values: list[float], accumulation: int = 1
) -> Iterator[Tensor]:
    """Train; give the weight after every iteration."""
    host.begin(model, [optimizer])
    for t, scale in enumerate(values):
        host.begin_iteration(Progress(t, accumulation, len(values)))
        model.combination(model.losses(scale)).backward()
        optimizer.step()
        if isinstance(optimizer, torch.optim.Optimizer):
            optimizer.zero_grad()
        host.end_iteration(
            lambda _: model.losses(), lambda _: model.losses(), lambda path, _: f"{path} bypassed"
        )
        yield model.detector.weight.detach().clone()
    host.end()


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def test_the_combination_is_found_wherever_it_is() -> None:
    host, model = HostHook(), Model("UncertaintyWeighting")
    assert len(list(_loop(model, _sgd(model), host, [1.0, 1.0]))) == 2
    assert list(host.combinations) == ["detector"]
    assert set(host.logged()) == {"term_cls", "term_loc", "weight_cls", "weight_loc"}


def test_what_is_refused_after_it_has_begun_leaves_nothing_on_the_optimizer() -> None:
    host, model = HostHook(), Model("UncertaintyWeighting")
    optimizer = _sgd(model)
    with pytest.raises(KeyboardInterrupt), host.begun(model, [optimizer]):
        assert optimizer._optimizer_step_pre_hooks
        raise KeyboardInterrupt
    assert not optimizer._optimizer_step_pre_hooks
    with host.begun(model, [optimizer]):
        pass
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    host.end()
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize(
    "combiner", ["UncertaintyWeighting", "Alternating", "AutoLoss", "GradNorm"]
)
def test_an_optimizer_that_wraps_another_is_seen_through(combiner: str) -> None:
    model = Model(combiner)
    optimizer = EverySecond(_sgd(model))
    weights = list(_loop(model, optimizer, HostHook(), [1.0] * 6, accumulation=2))
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(weights)]
    assert moved == [True, False, True, False, True]
    assert model.combination.combiner.progress.update == 2


def test_what_no_optimizer_is_found_in() -> None:
    assert torch_optimizers(object()) == [] and torch_optimizers(None) == []

    class Opaque:
        def step(self) -> None:
            pass

    for combiner, options, who in [
        ("Alternating", {}, "Alternating"),
        ("AutoLoss", {}, "AutoLoss"),
        ("Max", {"on_nonfinite": "skip"}, "on_nonfinite='skip'"),
    ]:
        with pytest.raises(LossweaveError, match=rf"{who} has to see the step .*\(Opaque\)"):
            HostHook().begin(Model(combiner, **options), [Opaque()])
    model = Model("UncertaintyWeighting")  # learns without it
    list(_loop(model, Opaque(), HostHook(), [1.0] * 2))
    assert model.combination.combiner.get_buffer("log_var").all()


def test_a_combination_that_is_never_asked_ends_the_first_update() -> None:
    host, model = HostHook(), Model()
    host.begin(model, [_sgd(model)])
    host.begin_iteration(Progress(0))
    sum(model.losses().values()).backward()
    with pytest.raises(LossweaveError, match="detector bypassed"):
        host.end_iteration(lambda _: {}, lambda _: {}, lambda path, _: f"{path} bypassed")


def test_a_root_that_is_not_optimised_ends_the_first_update() -> None:
    host, model = HostHook(), Model()
    host.begin(model, [_sgd(model)])
    host.begin_iteration(Progress(0))
    losses = model.losses()
    model.combination(losses)
    sum(losses.values()).backward()
    with pytest.raises(LossweaveError, match="1 forwards"):
        host.end_iteration(lambda _: {}, lambda _: {}, lambda _, c: f"{c.update.forwards} forwards")


def test_a_later_phase_without_it_is_said_once_and_logs_nothing() -> None:
    host, model, said = HostHook(), Model(), []
    list(_loop(model, _sgd(model), host, [1.0]))
    model.combination.log = said.append
    for t in (1, 2):
        host.begin_iteration(Progress(t))
        sum(model.losses().values()).backward()
        host.end_iteration(lambda _: {}, lambda _: {}, lambda path, _: f"{path} bypassed")
        assert host.logged() == {}
    assert said == ["in this update, detector bypassed"]


def test_a_gradient_that_is_not_finite_skips_the_update_before_the_step() -> None:
    model = Model("UncertaintyWeighting", on_nonfinite="skip")
    bad = iter([False, True, True, False])
    model.detector.weight.register_hook(lambda grad: grad * torch.nan if next(bad) else grad)
    optimizer, host = _sgd(model), HostHook()
    seen, learned = [], []
    for weight in _loop(model, optimizer, host, [1.0] * 4):
        momentum = optimizer.state[model.detector.weight]["momentum_buffer"].clone()
        seen.append(torch.cat([weight, momentum]))
        learned.append(model.combination.combiner.get_buffer("log_var").clone())
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[2])
    assert not torch.equal(seen[2], seen[3]) and seen[3].isfinite().all()
    assert torch.equal(learned[0], learned[2]) and not torch.equal(learned[2], learned[3])
    assert host.skipped == 2 and host.in_a_row == 0


def test_too_many_skips_in_a_row_end_the_run_and_outlast_a_resume() -> None:
    nan = float("nan")
    model = Model("Sum", on_nonfinite="skip")
    host = HostHook(max_skips=3)
    list(_loop(model, _sgd(model), host, [1.0, nan, nan, 1.0, nan, nan]))
    assert host.state_dict() == {"skipped": 4, "in_a_row": 2}
    resumed = HostHook(max_skips=3)
    resumed.load_state_dict(host.state_dict())
    with pytest.raises(NonFiniteLossError, match="3 updates in a row were skipped"):
        list(_loop(model, _sgd(model), resumed, [nan]))
    assert model.detector.weight.isfinite().all()


@pytest.mark.parametrize("combined", [True, False])
def test_a_loss_that_is_not_finite(combined: bool) -> None:
    host = HostHook()
    host.begin(Model() if combined else nn.Linear(1, 1), [])
    host.begin_iteration(Progress(7))
    assert host.look({"loss_cls": 1.0}, "loss") == ""
    what = r"loss_cls \(term 'cls'\) is nan" if combined else "loss_cls is nan"
    with pytest.raises(NonFiniteLossError, match=f"iteration 7: {what}; lower the learning rate"):
        host.look({"loss_cls": float("nan")}, "loss")


def test_weights_that_are_not_finite_are_not_saved() -> None:
    model, host = Model(), HostHook()
    host.check_weights()
    host.begin(model, [_sgd(model)])
    host.check_weights()
    model.detector.weight.data[0, 1] = torch.inf
    with pytest.raises(NonFiniteLossError, match=r"weights of 'detector\.weight' are not finite"):
        host.check_weights()
