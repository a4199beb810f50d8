"""The unit of all that counts, learns and is skipped is the optimizer update."""

import copy
import math
from typing import Any

import pytest
import torch
from helpers.combiner_cases import EPOCH, TERMS, cases, config, losses_at
from torch import Tensor

from lossweave.combination import LossCombination, build_combination
from lossweave.combiners import UncertaintyWeighting
from lossweave.progress import Progress

CASES = cases()
PATTERNS = {term: f"loss_{term}" for term in TERMS}


def _losses(values: Tensor) -> dict[str, Tensor]:
    leaf = values.clone().requires_grad_()
    return {f"loss_{n}": x for n, x in zip(TERMS, leaf, strict=True)}


def _state(combination: LossCombination) -> dict[str, Tensor]:
    return {k: v.clone().nan_to_num(-7) for k, v in combination.state_dict().items()}


def _same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def _told(combiner: Any, **options: Any) -> LossCombination:
    combination = build_combination(combiner, PATTERNS, **options)
    combination.log = lambda message: None
    return combination


@pytest.mark.parametrize("case", CASES)
def test_forwards_of_an_update_teach_their_mean_once(case: str) -> None:
    several, plain = _told(config(case)), _told(config(case))
    for update in range(6):
        values = [losses_at(3 * update + k) for k in range(3)]
        for combination in (several, plain):
            combination.set_progress(Progress(update, 1, None, EPOCH))
        sum(several(_losses(x)) for x in values).backward()
        plain(_losses(torch.stack(values).mean(0))).backward()
    ours, theirs = several.node.combiner, plain.node.combiner
    for combination in (several, plain):
        combination.end_iteration()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], equal_nan=True)


@pytest.mark.parametrize("case", CASES)
def test_a_forward_that_no_backward_follows_changes_nothing(case: str) -> None:
    looked, plain = _told(config(case)), _told(config(case))
    for update in range(5):
        for combination in (looked, plain):
            combination.set_progress(Progress(update, 1, None, EPOCH))
        looked(_losses(losses_at(100 + update)))  # before the training forward
        one = looked(_losses(losses_at(update)))
        looked(_losses(losses_at(200 + update)))  # between it and its backward
        one.backward()
        looked(_losses(losses_at(300 + update)))  # after it, as a hook measures validation losses
        two = plain(_losses(losses_at(update)))
        two.backward()
        assert torch.equal(one, two)
        assert looked.last() == plain.last()
    assert _same(_state(looked), _state(plain))


def test_learning_is_asked_for_as_often_as_one_likes() -> None:
    once, often = (_told("UncertaintyWeighting") for _ in range(2))
    for combination in (once, often):
        combination.set_progress(Progress())
        combination(_losses(losses_at(0))).backward()
    for _ in range(3):
        often.end_iteration()
    assert _same(_state(once), _state(often)) and _state(once)["node.combiner.log_var"].any()


def test_an_accumulation_window_of_several_forwards_each_is_left_and_resumed() -> None:
    through, stopped, resumed, mean = (_told("UncertaintyWeighting") for _ in range(4))

    def iterate(combination: LossCombination, t: int) -> None:
        combination.set_progress(Progress(t, accumulation=2))
        for k in range(2):
            combination(_losses(losses_at(2 * t + k))).backward()

    for t in range(3):
        iterate(through, t)
        iterate(stopped, t)
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    for t in range(3, 6):
        iterate(through, t)
        iterate(resumed, t)
    assert _same(_state(through), _state(resumed))
    for update in range(3):
        mean.set_progress(Progress(update))
        mean(_losses(torch.stack([losses_at(4 * update + k) for k in range(4)]).mean(0))).backward()
    for name, value in _state(mean).items():
        torch.testing.assert_close(_state(through)[name], value)


@pytest.mark.parametrize("order", ["bad first", "bad last"])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("case", ["Sum", "UncertaintyWeighting", "PCGrad"])
def test_one_bad_forward_of_several_skips_the_update(case: str, together: bool, order: str) -> None:
    combination = _told(case, on_nonfinite="skip")
    before = _state(combination)
    combination.set_progress(Progress(0))
    good = losses_at(0)
    bad = torch.where(torch.arange(3) == 1, torch.nan, good)
    values = [bad, good] if order == "bad first" else [good, bad]
    if together:
        sum(combination(_losses(x)) for x in values).backward()
    else:
        for x in values:
            combination(_losses(x)).backward()
    assert combination.skipping and _same(_state(combination), before)
    combination.set_progress(Progress(1))
    assert not combination.skipping
    combination(_losses(good)).backward()
    assert not combination.skipping


def test_a_bad_forward_that_no_backward_follows_skips_nothing() -> None:
    combination = _told("UncertaintyWeighting", on_nonfinite="skip")
    combination.set_progress(Progress(0, accumulation=2))
    combination(_losses(torch.full((3,), math.nan)))
    combination(_losses(losses_at(0))).backward()
    assert not combination.skipping
    combination.set_progress(Progress(1, accumulation=2))
    combination(_losses(losses_at(1))).backward()
    combination.end_iteration()
    assert not combination.skipping and _state(combination)["node.combiner.log_var"].any()


def test_a_gradient_that_is_not_finite_skips_the_update() -> None:
    combination = _told("UncertaintyWeighting", on_nonfinite="skip")
    before = _state(combination)
    combination.set_progress(Progress(0))
    combination(_losses(losses_at(0))).backward()
    combination.update.note(torch.tensor(False))
    combination.end_iteration()
    assert combination.skipping and _same(_state(combination), before)


def test_without_the_hook_roots_of_one_backward_are_one_update() -> None:
    alone, by_hand = _told("UncertaintyWeighting"), UncertaintyWeighting()
    by_hand.bind(TERMS)
    for t in range(4):
        values = [losses_at(2 * t), losses_at(2 * t + 1)]
        sum(alone(_losses(x)) for x in values).backward()
        by_hand.update(torch.stack(values).mean(0), torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(_state(alone)["node.combiner.log_var"], by_hand.log_var)
    assert alone.combiner.progress.iteration == 3


def test_logs_show_the_mean_over_an_update() -> None:
    combination = _told("Sum")
    combination.set_progress(Progress())
    values = [losses_at(0), losses_at(1)]
    sum(combination(_losses(x)) for x in values).backward()
    found = [entry["value"] for entry in combination.last().values()]
    assert found == pytest.approx(torch.stack(values).mean(0).tolist())


# -------------------------------------------------------------------- present, not trainable


def _half_frozen(frozen: str) -> tuple[dict[str, Tensor], Tensor]:
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    losses = {f"loss_{n}": x * 1 for n, x in zip(TERMS, w, strict=True)}
    losses[f"loss_{frozen}"] = losses[f"loss_{frozen}"].detach()
    return losses, w


@pytest.mark.parametrize("boundary", [None, "skip"])
@pytest.mark.parametrize("frozen", TERMS)
@pytest.mark.parametrize("case", CASES)
def test_a_frozen_term_ends_nothing_and_is_said_once(case: str, frozen: str, boundary: Any) -> None:
    combination = build_combination(
        config(case), PATTERNS, on_nonfinite="skip" if boundary else "raise"
    )
    said: list[str] = []
    combination.log = said.append
    for t in range(4):
        combination.set_progress(Progress(t, 1, None, EPOCH))
        losses, w = _half_frozen(frozen)
        combination(losses).backward()
        at = TERMS.index(frozen)
        assert w.grad is None or w.grad[at] == 0
        combination.end_iteration()
    told = [line for line in said if "needs no gradient" in line]
    assert len(told) == 1 and repr(frozen) in told[0]


@pytest.mark.parametrize("case", CASES)
def test_with_every_term_frozen_a_backward_runs_and_trains_nothing(case: str) -> None:
    combination = _told(config(case))
    combination.set_progress(Progress(0, 1, None, EPOCH))
    combination({name: x.detach() for name, x in _losses(losses_at(0)).items()}).backward()


@pytest.mark.parametrize("name", ["PCGrad", "MGDA", "GradNorm", "GradDrop", "UPGrad"])
@pytest.mark.parametrize("everything", [True, False])
def test_frozen_terms_of_combiners_of_gradients(name: str, everything: bool) -> None:
    combination = _told(name)
    combination.set_progress(Progress())
    losses, w = _half_frozen("a")
    if everything:
        losses = {key: x.detach() for key, x in losses.items()}
    combination(losses).backward()
    assert w.grad is None if everything else w.grad is not None and w.grad[0] == 0
