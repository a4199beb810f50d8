"""What the terms reach, found anew or known from the graph before."""

import copy
import pickle

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from lossweave.backward import GraphCache, _reach, gradient_root, reachability_of
from lossweave.errors import LossweaveError
from lossweave.utils.torch_compat import takes_edges


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per graph in which the passes were searched for."""
    made: list[int] = []
    search = _reach.cut_passes

    def counted(*args):
        made.append(1)
        return search(*args)

    monkeypatch.setattr(_reach, "cut_passes", counted)
    return made


def _leaves() -> list[torch.Tensor]:
    return [torch.full((6,), 0.1 * n, dtype=torch.float64).requires_grad_() for n in range(1, 6)]


@pytest.mark.parametrize("seed", range(12))
def test_a_graph_like_the_one_before_is_not_searched(
    seed: int, searches: list[int], random_terms
) -> None:
    leaves, cache = _leaves(), GraphCache()
    reachability_of(random_terms(seed, leaves), [], cache)
    terms = random_terms(seed, leaves)
    assert len(searches) == 1
    known = reachability_of(terms, [], cache)
    assert len(searches) == 1
    fresh = reachability_of(terms, [])
    assert [id(leaf) for leaf in known.leaves] == [id(leaf) for leaf in fresh.leaves]
    assert known.terms == fresh.terms
    assert known.passes == fresh.passes


def test_another_graph_is_searched(searches: list[int], random_terms) -> None:
    leaves, cache = _leaves(), GraphCache()
    for seed in (0, 1, 0, 2, 2):
        terms = random_terms(seed, leaves)
        known = reachability_of(terms, [], cache)
        assert known.passes == reachability_of(terms, []).passes
    assert len(searches) == 4 + 5  # all but the last of those that have a cache, and the others


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
    cache = GraphCache()
    reachability_of([(x * y).sum(), (2 * x).sum()], [], cache)
    terms = change(x, y)
    found, fresh = reachability_of(terms, [], cache), reachability_of(terms, [])
    assert [id(leaf) for leaf in found.leaves] == [id(leaf) for leaf in fresh.leaves]
    assert (found.terms, found.passes) == (fresh.terms, fresh.passes)


def test_leaves_are_those_of_the_graph_at_hand() -> None:
    cache = GraphCache()
    for _ in range(2):
        x = torch.ones(3, requires_grad=True)
        found = reachability_of([(2 * x).sum(), (3 * x).sum()], [], cache)
        assert found.leaves == [x] and found.leaves[0] is x


class Mean:
    private, elementwise, remembers = "plain", False, False

    def weights_of(self, gramian):
        return [1.5, 2.5]


def test_a_hook_that_comes_later_acts_once() -> None:
    x, cache = torch.ones(3, requires_grad=True), GraphCache()
    for hooked in (False, False, True):
        y = x
        for _ in range(30):
            y = y * 1.0
            if hooked:
                y.register_hook(lambda grad: grad * 1.1)
        terms = [y.sum(), (2 * y).sum()]
        reachability = reachability_of(terms, [], cache)
        assert len(reachability.passes) == (4 if takes_edges() else 2)
        gradient_root(torch.zeros(()), terms, reachability, [x], Mean()).backward()
        factor = 1.1**30 if hooked else 1.0
        torch.testing.assert_close(x.grad, torch.full((3,), 6.5 * factor))
        x.grad = None


def test_a_term_that_is_a_leaf() -> None:
    x, cache = torch.ones((), requires_grad=True), GraphCache()
    for _ in range(2):
        assert reachability_of([x, 2 * x], [], cache).terms == [[0], [0]]


def test_a_checkpoint_that_hides_its_graph_is_refused_each_time() -> None:
    x, cache = torch.ones(3, requires_grad=True), GraphCache()
    for _ in range(2):
        y = checkpoint(torch.sin, x, use_reentrant=True)
        with pytest.raises(LossweaveError, match="reentrant"):
            reachability_of([y.sum(), (2 * y).sum()], [], cache)


def test_what_is_cached_can_be_copied_and_saved(random_terms) -> None:
    leaves, cache = _leaves(), GraphCache()
    reachability_of(random_terms(3, leaves), [], cache)
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert vars(other) == vars(cache)
