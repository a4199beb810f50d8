"""Two detectors that share no parameter: what a sum of their losses couples, and what it does not.

A linear combiner multiplies each term's gradient by a number. Where two tasks share nothing, and
the optimizer looks at every element of a parameter by itself, the one does not notice the other.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mmdet_support import image_batch
from helpers.mmdet_toy import toy_config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from lossweave.combination import build_combination
from lossweave.combiners import combiner_class, combiner_names
from lossweave.progress import Progress

TASKS = ("one", "other")
TERMS = {task: f"loss_{task}_*" for task in TASKS}
UPDATES = 4
LINEAR = [
    name for name in combiner_names()
    if combiner_class(name).linear and combiner_class(name).__module__.startswith("lossweave.")
]  # fmt: skip

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=1e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-3),
}


@pytest.fixture(scope="module")
def detectors(data: Path, tmp_path_factory: pytest.TempPathFactory) -> nn.ModuleDict:
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = toy_config("retinanet", data, tmp_path_factory.mktemp("independent")).model
    return nn.ModuleDict({task: MODELS.build(model).train() for task in TASKS})


def losses_of(detector: Any, task: str, update: int) -> dict[str, Tensor]:
    """A detector's losses on its own pictures, summed as the framework does it."""
    batch = detector.data_preprocessor(image_batch(rank=update + 10 * TASKS.index(task)), True)
    losses = detector(**batch, mode="loss")
    return {
        f"loss_{task}_{name.removeprefix('loss_')}": sum(part.mean() for part in parts)
        for name, parts in losses.items()
    }


def together(
    detectors: nn.ModuleDict, combiner: Any, optimizer: str, clip: float | None = None
) -> tuple[nn.ModuleDict, list[dict[str, float]]]:
    """Both trained by one optimizer from their combined losses; the weights of every update.

    A weight of nan says that the task had no gradient.
    """
    models = copy.deepcopy(detectors)
    combination = build_combination(combiner, TERMS)
    stepper = OPTIMIZERS[optimizer](models.parameters())
    weights = []
    for update in range(UPDATES):
        combination.set_progress(Progress(update, max_iterations=UPDATES, iterations_per_epoch=2))
        stepper.zero_grad()
        entries: dict[str, Tensor] = {}
        for task in TASKS:
            entries |= losses_of(models[task], task, update)
        combination(entries).backward()
        logged = combination.logged()
        found = {task: logged[f"weight_{task}"] for task in TASKS}
        for task in TASKS:
            if all(p.grad is None for p in models[task].parameters()):
                found[task] = float("nan")
        weights.append(found)
        if clip is not None:
            nn.utils.clip_grad_norm_(models.parameters(), clip)
        stepper.step()
    return models, weights


def alone(
    detectors: nn.ModuleDict, task: str, weights: list[float], optimizer: str,
    clip: float | None = None,
) -> nn.Module:
    """One of them trained by itself, its loss times the weight of every update."""
    model = copy.deepcopy(detectors[task])
    stepper = OPTIMIZERS[optimizer](model.parameters())
    for update, weight in enumerate(weights):
        stepper.zero_grad()
        losses = losses_of(model, task, update)
        if weight == weight:
            first, *others = losses.values()
            total = first
            for loss in others:
                total = total + loss
            total.backward(torch.tensor(weight))
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        stepper.step()
    return model


def apart(one: nn.Module, other: nn.Module) -> float:
    """The distance of two models' weights, relative to their norm."""
    a = torch.cat([p.detach().flatten() for p in one.parameters()])
    b = torch.cat([p.detach().flatten() for p in other.parameters()])
    return ((a - b).norm() / b.norm()).item()


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether weights and statistics are equal to the last bit."""
    mine, yours = one.state_dict(), other.state_dict()
    return mine.keys() == yours.keys() and all(torch.equal(mine[k], yours[k]) for k in mine)


def test_there_are_linear_combiners() -> None:
    assert {"Sum", "Convex", "Alternating", "RandomWeighting"} <= set(LINEAR)


@pytest.mark.parametrize("combiner", [*LINEAR, {"type": "Sum", "weights": [2.0, 0.3]}], ids=str)
def test_each_ends_as_alone_under_sgd(detectors: nn.ModuleDict, combiner: Any) -> None:
    both, weights = together(detectors, combiner, "SGD")
    for task in TASKS:
        single = alone(detectors, task, [row[task] for row in weights], "SGD")
        assert same(both[task], single), (task, apart(both[task], single))
        trained = any(row[task] > 0 for row in weights)
        assert (apart(both[task], detectors[task]) > 0) == trained


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_each_ends_as_alone_with_one_adam(detectors: nn.ModuleDict, optimizer: str) -> None:
    """Adam, too, looks at every element by itself; and all elements have made as many steps."""
    both, weights = together(detectors, "Sum", optimizer)
    for task in TASKS:
        single = alone(detectors, task, [row[task] for row in weights], optimizer)
        assert same(both[task], single)


def test_adam_forgets_the_weights_of_the_sum(detectors: nn.ModuleDict) -> None:
    """But for its epsilon and the decay that is in the gradient."""
    plain, _ = together(detectors, "Sum", "AdamW")
    weighted, _ = together(detectors, {"type": "Sum", "weights": [10.0, 0.1]}, "AdamW")
    moved = apart(plain["one"], detectors["one"])
    assert apart(weighted["one"], plain["one"]) < 0.1 * moved
    sgd, _ = together(detectors, "Sum", "SGD")
    weighted, _ = together(detectors, {"type": "Sum", "weights": [10.0, 0.1]}, "SGD")
    assert apart(weighted["one"], sgd["one"]) > apart(sgd["one"], detectors["one"])


def test_clipping_by_the_global_norm_couples_them(detectors: nn.ModuleDict) -> None:
    clip = 0.5
    both, weights = together(detectors, "Sum", "SGD", clip)
    for task in TASKS:
        single = alone(detectors, task, [row[task] for row in weights], "SGD", clip)
        moved = apart(single, detectors[task])
        assert apart(both[task], single) > 0.05 * moved  # each takes room from the other


def test_clipping_that_never_acts_does_not(detectors: nn.ModuleDict) -> None:
    both, weights = together(detectors, "Sum", "SGD", clip=1e6)
    for task in TASKS:
        single = alone(detectors, task, [row[task] for row in weights], "SGD", clip=1e6)
        assert same(both[task], single)


@pytest.mark.parametrize("combiner", ["Product", "SquaredSum", "GeometricMean"])
def test_a_combiner_that_is_not_linear_couples_them(
    detectors: nn.ModuleDict, combiner: str
) -> None:
    """The weight of each loss is made of the other's value."""
    both, weights = together(detectors, combiner, "SGD")
    single = alone(detectors, "one", [weights[0]["one"]] * UPDATES, "SGD")
    assert not same(both["one"], single)


def test_separate_backward_calls_add_up_to_the_sums() -> None:
    """What they share included: to the last bit where nothing is, else as close as float64 is."""
    torch.manual_seed(0)
    trunk = nn.Linear(5, 6).double()
    heads = nn.ModuleList(nn.Linear(6, 2).double() for _ in range(3))
    data = torch.randn(4, 5, dtype=torch.float64)

    def losses() -> list[Tensor]:
        shared = torch.tanh(trunk(data))
        return [head(shared).square().mean() for head in heads]

    for loss in losses():
        loss.backward(retain_graph=True)
    separate = [p.grad.clone() for p in (*trunk.parameters(), *heads.parameters())]
    trunk.zero_grad()
    heads.zero_grad()
    combination = build_combination("Sum", {k: f"loss_{k}" for k in "abc"})
    combination(dict(zip(("loss_a", "loss_b", "loss_c"), losses(), strict=True))).backward()
    summed = [p.grad for p in (*trunk.parameters(), *heads.parameters())]
    torch.testing.assert_close(separate, summed, rtol=1e-13, atol=1e-15)
    assert all(map(torch.equal, separate[2:], summed[2:]))
