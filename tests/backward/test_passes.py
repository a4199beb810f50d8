"""The terms' graphs above and below a cut: the same gradients, on less memory."""

import pytest
import torch
from torch import nn

from lossweave.backward import gradient_root, reach, reachability_of
from lossweave.backward._passes import cut_passes
from lossweave.studies.benchmark.memory import peak_bytes
from lossweave.utils.torch_compat import takes_edges

needs_edges = pytest.mark.skipif(
    not takes_edges(), reason="this torch starts no backward at an edge of the graph, so no cut"
)


class Mean:
    private, elementwise, remembers = "plain", False, False

    def weights_of(self, gramian):
        self.gramian = gramian
        return [1.5 + k for k in range(len(gramian))]


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed: int, random_terms) -> None:
    generator = torch.Generator().manual_seed(seed)
    leaves = [
        torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(5)
    ]
    rows = [
        torch.autograd.grad(term, leaves, allow_unused=True, retain_graph=True)
        for term in random_terms(seed, leaves)
    ]
    rows = [[torch.zeros(6).double() if g is None else g for g in row] for row in rows]
    terms = random_terms(seed, leaves)
    method = Mean()
    root = gradient_root(torch.zeros(()), terms, reachability_of(terms, []), leaves, method)
    root.backward()
    count = [sum(bool(row[i].any()) for row in rows) for i in range(5)]
    shared = torch.stack(
        [torch.cat([g for g, n in zip(row, count, strict=True) if n > 1]) for row in rows]
    )
    torch.testing.assert_close(method.gramian, shared @ shared.T)
    for i, leaf in enumerate(leaves):
        weights = (1.5, 2.5, 3.5) if count[i] > 1 else (1, 1, 1)
        expected = sum(w * row[i] for w, row in zip(weights, rows, strict=True))
        torch.testing.assert_close(torch.zeros(6).double() if leaf.grad is None else leaf.grad,
                                   expected)  # fmt: skip


class Pyramid(nn.Module):
    """A residual trunk, a pyramid over three of its stages, and two heads over all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(12)])
        self.lateral = nn.ModuleList([nn.Conv2d(8, 8, 1) for _ in range(3)])
        self.smooth = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)])
        self.heads = nn.ModuleList([nn.Conv2d(8, 2, 3, padding=1) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        levels = []
        for number, layer in enumerate(self.trunk):
            x = x + torch.tanh(layer(x))
            if number % 4 == 3:
                levels.append(x)
                x = nn.functional.avg_pool2d(x, 2)
        top = self.lateral[2](levels[2])
        features = [top]
        for lateral, level in zip(self.lateral[1::-1], levels[1::-1], strict=True):
            top = lateral(level) + nn.functional.interpolate(top, scale_factor=2.0)
            features.append(top)
        features = [layer(f) for layer, f in zip(self.smooth, features, strict=True)]
        return [
            torch.stack([head(torch.relu(f)).square().mean() for f in features]).sum()
            for head in self.heads
        ]


@needs_edges
def test_a_pyramid_is_cut_between_the_stages_of_its_trunk() -> None:
    model = Pyramid()
    terms = model(torch.randn(1, 8, 16, 16))
    place = {id(p): i for i, p in enumerate(model.parameters())}
    edges: dict = {}
    walks = [reach([term], edges=edges) for term in terms]
    ends = [sorted(place[id(leaf)] for leaf in walk.leaves) for walk in walks]
    passes = cut_passes(terms, walks, ends, place, edges)
    assert [p.term for p in passes] == [0, 1, 0, 1]
    assert [p.root for p in passes] == [True, True, False, False]
    assert [p.keep for p in passes] == [True, False, True, False]
    for k in range(2):  # each parameter is met on one side only
        met = [i for p in passes if p.term == k for i in p.ends]
        assert sorted(met) == ends[k]
    late = {name for name, p in model.named_parameters() if place[id(p)] in passes[2].ends}
    assert {"trunk.0.weight", "trunk.3.weight"} < late
    assert not any(name.startswith("heads") for name in late)


@needs_edges
def test_peak_memory_is_near_that_of_one_backward() -> None:
    model = Pyramid()
    x = torch.randn(2, 8, 128, 128)

    def plain() -> None:
        sum(model(x)).backward()
        model.zero_grad()

    def ours() -> None:
        terms = model(x)
        reachability = reachability_of(terms, [])
        parameters = list(model.parameters())
        gradient_root(torch.zeros(()), terms, reachability, parameters, Mean()).backward()
        model.zero_grad()

    def passes() -> None:
        terms = model(x)
        for k, term in enumerate(terms):
            torch.autograd.grad(
                term, list(model.trunk.parameters()), retain_graph=k == 0, allow_unused=True
            )

    for call in (plain, ours, passes):
        call()
    stock = peak_bytes(plain)
    assert peak_bytes(ours) < 1.08 * stock
    assert peak_bytes(passes) > 1.10 * stock  # so there was something to gain


def test_a_graph_whose_nodes_do_not_tell_their_order() -> None:
    import threading

    x = torch.ones(3, requires_grad=True)
    made: list[torch.Tensor] = []

    def late() -> None:  # another thread counts its nodes from the beginning
        made.append((base * 2).sum())
        made.append((base * 3).sum())

    base = x
    for _ in range(50):
        base = base * 1.0
    thread = threading.Thread(target=late)
    thread.start()
    thread.join()
    root = gradient_root(torch.zeros(()), made, reachability_of(made, []), [x], Mean())
    root.backward()
    torch.testing.assert_close(x.grad, torch.full((3,), 1.5 * 2 + 2.5 * 3))


def test_hooks_on_tensors_act_once() -> None:
    x = torch.ones(3, requires_grad=True)
    y, watched = x, []
    for number in range(40):
        y = y * 1.0
        if number % 2:
            y.register_hook(lambda grad: grad * 1.1)
        else:
            y.register_hook(lambda grad: watched.append(1))
    terms = [y.sum(), (2 * y).sum()]
    reachability = reachability_of(terms, [])
    assert len(reachability.passes) == (4 if takes_edges() else 2)
    gradient_root(torch.zeros(()), terms, reachability, [x], Mean()).backward()
    torch.testing.assert_close(x.grad, torch.full((3,), (1.5 + 2 * 2.5) * 1.1**20))
    assert len(watched) == 20


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad + 0 * ctx.saved_tensors[0]


def test_functions_written_in_python_outlive_what_is_above_them() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x
    for number in range(40):
        y = Doubled.apply(y) if number % 3 else 0.5 * y
    terms = [y.sum(), (3 * y).sum()]
    reachability = reachability_of(terms, [])
    assert len(reachability.passes) == (4 if takes_edges() else 2)
    root = gradient_root(torch.zeros(()), terms, reachability, [x], Mean())
    factor = 2.0**26 * 0.5**14
    del y, terms, reachability
    root.backward()
    torch.testing.assert_close(x.grad, torch.full((3,), factor * (1.5 + 3 * 2.5)))
