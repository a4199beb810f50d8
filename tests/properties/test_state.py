"""Every combiner's state: resumed, copied, pickled and reset at any point of a run."""

import copy
import io
import pickle

import pytest
import torch
from helpers.combiner_cases import EPOCH, TERMS, cases, config, losses_at, make, run, same

from lossweave.combination import LossCombination, build_combination
from lossweave.combiners import Combiner
from lossweave.progress import Progress

CASES = cases()


def _reloaded(combiner: Combiner, case: str) -> Combiner:
    saved = io.BytesIO()
    torch.save(combiner.state_dict(), saved)
    saved.seek(0)
    fresh = make(case)
    fresh.load_state_dict(torch.load(saved))
    return fresh


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("first", [1, 5, 6])
def test_a_resumed_run_ends_bit_identical(case: str, first: int) -> None:
    through, stopped = make(case), make(case)
    run(through, 0, first)
    run(stopped, 0, first)
    resumed = _reloaded(stopped, case)
    assert same(run(through, first, 17), run(resumed, first, 17))


@pytest.mark.parametrize("case", CASES)
def test_copies_go_on_alike_and_apart(case: str) -> None:
    combiner = make(case)
    run(combiner, 0, 5)
    copies = [copy.deepcopy(combiner), pickle.loads(pickle.dumps(combiner))]
    expected = run(copy.deepcopy(combiner), 5, 12)
    for other in copies:
        assert same(run(other, 5, 12), expected)
    assert same(run(combiner, 5, 12), expected)  # what the copies learned is theirs


@pytest.mark.parametrize("case", CASES)
def test_reset_is_a_new_start(case: str) -> None:
    combiner = make(case)
    run(combiner, 0, 7)
    combiner.reset()
    assert same(run(combiner, 0, 7), run(make(case), 0, 7))


@pytest.mark.parametrize("case", CASES)
def test_what_learns_has_state_and_nothing_else_has(case: str) -> None:
    combiner = make(case)
    assert bool(combiner.state_dict()) == combiner.learns
    assert not list(combiner.parameters())  # the host's optimizer has nothing to find


def _combination(case: str) -> LossCombination:
    return build_combination(config(case), {t: f"loss_{t}" for t in TERMS})


def _iterate(
    combination: LossCombination, start: int, stop: int, accumulation: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    found = []
    for t in range(start, stop):
        combination.set_progress(Progress(t, accumulation, 19, EPOCH * accumulation))
        variable = losses_at(t).requires_grad_()
        losses = {f"loss_{n}": x for n, x in zip(TERMS, variable.unbind(), strict=True)}
        if t % 5 == 3:
            del losses["loss_b"]
        root = combination(losses)
        root.backward()
        assert variable.grad is not None
        found.append((root.detach(), variable.grad))
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("first", [6, 7, 8])
def test_a_checkpoint_inside_an_accumulation_window(
    case: str, accumulation: int, first: int
) -> None:
    through, stopped, resumed = (_combination(case) for _ in range(3))
    _iterate(through, 0, first, accumulation)
    _iterate(stopped, 0, first, accumulation)
    resumed.load_state_dict(stopped.state_dict())
    expected = _iterate(through, first, 19, accumulation)
    for (value, grad), (other, theirs) in zip(
        _iterate(resumed, first, 19, accumulation), expected, strict=True
    ):
        assert torch.equal(value, other) and torch.equal(grad, theirs)
    for name, saved in through.state_dict().items():
        assert torch.equal(saved.nan_to_num(-7), resumed.state_dict()[name].nan_to_num(-7))


def _trained(combination: LossCombination, values: torch.Tensor) -> None:
    losses = {f"loss_{n}": x for n, x in zip(TERMS, values.requires_grad_(), strict=True)}
    combination(losses).backward()
    combination.end_iteration()


@pytest.mark.parametrize("case", CASES)
def test_a_window_teaches_what_its_mean_teaches(case: str) -> None:
    windowed, plain = _combination(case), _combination(case)
    for update in range(8):
        micro = [losses_at(2 * update), losses_at(2 * update + 1)]
        for k, losses in enumerate(micro):
            windowed.set_progress(Progress(2 * update + k, 2, None, 2 * EPOCH))
            _trained(windowed, losses)
        plain.set_progress(Progress(update, 1, None, EPOCH))
        _trained(plain, (micro[0] + micro[1]) / 2)
    ours, theirs = windowed.node.combiner.state_dict(), plain.node.combiner.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], equal_nan=True)


@pytest.mark.parametrize("case", CASES)
def test_a_combination_is_copied_and_pickled(case: str) -> None:
    combination = _combination(case)
    _iterate(combination, 0, 5, 2)
    copies = [copy.deepcopy(combination), pickle.loads(pickle.dumps(combination))]
    expected = _iterate(combination, 5, 12, 2)
    for other in copies:
        for (value, grad), (ours, theirs) in zip(
            _iterate(other, 5, 12, 2), expected, strict=True
        ):
            assert torch.equal(value, ours) and torch.equal(grad, theirs)


@pytest.mark.parametrize("case", CASES)
def test_looking_without_gradients_teaches_nothing(case: str) -> None:
    combination = _combination(case)
    _iterate(combination, 0, 3, 1)
    before = {n: v.clone() for n, v in combination.state_dict().items()}
    with torch.no_grad():
        combination({f"loss_{n}": x for n, x in zip(TERMS, losses_at(50), strict=True)})
    for name, value in before.items():
        assert torch.equal(value.nan_to_num(-7), combination.state_dict()[name].nan_to_num(-7))
