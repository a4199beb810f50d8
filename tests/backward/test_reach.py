"""What the terms reach, found anew or recalled from the graph before."""

import copy
import pickle

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from lossweave.backward import Recall, _reach, gradient_root, surroundings
from lossweave.errors import LossweaveError


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per graph in which the passes were searched for."""
    made: list[int] = []
    search = _reach.staged

    def counted(*args):
        made.append(1)
        return search(*args)

    monkeypatch.setattr(_reach, "staged", counted)
    return made


def _leaves() -> list[torch.Tensor]:
    return [torch.full((6,), 0.1 * n, dtype=torch.float64).requires_grad_() for n in range(1, 6)]


@pytest.mark.parametrize("seed", range(12))
def test_a_graph_like_the_one_before_is_recalled(
    seed: int, searches: list[int], random_terms
) -> None:
    leaves, recall = _leaves(), Recall()
    surroundings(random_terms(seed, leaves), [], recall)
    terms = random_terms(seed, leaves)
    assert len(searches) == 1
    recalled = surroundings(terms, [], recall)
    assert len(searches) == 1
    fresh = surroundings(terms, [])
    assert [id(leaf) for leaf in recalled.leaves] == [id(leaf) for leaf in fresh.leaves]
    assert recalled.terms == fresh.terms
    assert recalled.passes == fresh.passes


def test_another_graph_is_searched(searches: list[int], random_terms) -> None:
    leaves, recall = _leaves(), Recall()
    for seed in (0, 1, 0, 2, 2):
        terms = random_terms(seed, leaves)
        known = surroundings(terms, [], recall)
        assert known.passes == surroundings(terms, []).passes
    assert len(searches) == 4 + 5  # all but the last of those that may recall, and the others


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: [(x * y).sum(), None],
        lambda x, y: [None, (2 * x).sum()],
        lambda x, y: [(x * x).sum(), (2 * x).sum()],
        lambda x, y: [(y * x).sum(), (2 * x).sum()],
        lambda x, y: [(x * y).sum(), (2 * y).sum()],
        lambda x, y: [(x * y.detach()).sum(), (2 * x).sum()],
        lambda x, y: [(2 * x).sum(), (x * y).sum()],
        lambda x, y: [x.sum(), (2 * x).sum()],
    ],
)
def test_small_differences_are_seen(change) -> None:
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    recall = Recall()
    surroundings([(x * y).sum(), (2 * x).sum()], [], recall)
    terms = change(x, y)
    found, fresh = surroundings(terms, [], recall), surroundings(terms, [])
    assert [id(leaf) for leaf in found.leaves] == [id(leaf) for leaf in fresh.leaves]
    assert (found.terms, found.passes) == (fresh.terms, fresh.passes)


def test_leaves_are_those_of_the_graph_at_hand() -> None:
    recall = Recall()
    for _ in range(2):
        x = torch.ones(3, requires_grad=True)
        found = surroundings([(2 * x).sum(), (3 * x).sum()], [], recall)
        assert found.leaves == [x] and found.leaves[0] is x


class Mean:
    private, elementwise = "plain", False

    def weights_of(self, gramian):
        return [1.5, 2.5]


def test_a_hook_that_comes_later_acts_once() -> None:
    x, recall = torch.ones(3, requires_grad=True), Recall()
    for hooked in (False, False, True):
        y = x
        for _ in range(30):
            y = y * 1.0
            if hooked:
                y.register_hook(lambda grad: grad * 1.1)
        terms = [y.sum(), (2 * y).sum()]
        around = surroundings(terms, [], recall)
        assert len(around.passes) == (2 if hooked else 4)
        gradient_root(torch.zeros(()), terms, around, [x], Mean()).backward()
        factor = 1.1**30 if hooked else 1.0
        torch.testing.assert_close(x.grad, torch.full((3,), 6.5 * factor))
        x.grad = None


def test_a_term_that_is_a_leaf() -> None:
    x, recall = torch.ones((), requires_grad=True), Recall()
    for _ in range(2):
        assert surroundings([x, 2 * x], [], recall).terms == [[0], [0]]


def test_a_checkpoint_that_hides_its_graph_is_refused_each_time() -> None:
    x, recall = torch.ones(3, requires_grad=True), Recall()
    for _ in range(2):
        y = checkpoint(torch.sin, x, use_reentrant=True)
        with pytest.raises(LossweaveError, match="reentrant"):
            surroundings([y.sum(), (2 * y).sum()], [], recall)


def test_what_is_recalled_can_be_copied_and_saved(random_terms) -> None:
    leaves, recall = _leaves(), Recall()
    surroundings(random_terms(3, leaves), [], recall)
    for other in (copy.deepcopy(recall), pickle.loads(pickle.dumps(recall))):
        assert vars(other) == vars(recall)
