"""Hooks of the user's see one backward a step: that of the combined scalar."""

import gc
import random
import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lossweave.backward import Boundary, _hooks, gradient_root, reachability_of
from lossweave.combination import build_combination
from lossweave.errors import LossweaveError
from lossweave.progress import Progress


class Fixed:
    """Given weights, whatever the Gramian is; or a product of rows, element by element."""

    def __init__(self, *weights: float, private: str = "plain", elementwise: bool = False) -> None:
        self.weights, self.private, self.elementwise = list(weights), private, elementwise
        self.remembers = False

    def weights_of(self, gramian: Tensor) -> list[float]:
        return self.weights

    def mix(self, rows: Sequence[Tensor], key: int) -> Tensor:
        return torch.stack(list(rows)).abs().sum(0)


def _run(terms: list[Tensor], method: Fixed, points: Sequence = (), scale: float = 1.0) -> None:
    reachability = reachability_of(terms, points)
    root = gradient_root(torch.zeros(()), terms, reachability, reachability.leaves, method)
    (scale * root).backward()


class Watched:
    """A hook that keeps what it sees and changes it."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor, self.seen = factor, []

    def __call__(self, grad: Tensor) -> Tensor:
        self.seen.append(grad.clone())
        return grad * self.factor


def test_on_a_leaf() -> None:
    x, hook = torch.ones(2, requires_grad=True), Watched(0.1)
    x.register_hook(hook)
    after: list[Tensor] = []
    x.register_post_accumulate_grad_hook(lambda leaf: after.append(leaf.grad.clone()))
    _run([(2 * x).sum(), x.sum()], Fixed(1.0, 1.0))
    assert [seen.tolist() for seen in hook.seen] == [[3.0, 3.0]]
    torch.testing.assert_close(x.grad, torch.full((2,), 0.3))
    torch.testing.assert_close(after, [x.grad])


def test_on_a_leaf_that_one_term_reaches() -> None:
    x, y, hook = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True), Watched(0.1)
    y.register_hook(hook)
    _run([(2 * x * y).sum(), x.sum()], Fixed(5.0, 1.0))
    assert len(hook.seen) == 1
    torch.testing.assert_close(y.grad, torch.full((2,), 0.2))


def test_on_a_tensor_between_and_on_a_loss() -> None:
    x, middle, loss = torch.ones(2, requires_grad=True), Watched(0.5), Watched(10.0)
    y = 3 * x
    y.register_hook(middle)
    terms = [(2 * y).sum(), y.sum()]
    terms[0].register_hook(loss)
    _run(terms, Fixed(1.0, 100.0), scale=4.0)
    assert [seen.tolist() for seen in loss.seen] == [4.0]
    assert [seen.tolist() for seen in middle.seen] == [[4 * (20 + 100.0)] * 2]
    torch.testing.assert_close(x.grad, torch.full((2,), 4 * 120 * 0.5 * 3))


def test_hooks_that_are_gone_or_on_another_graph_change_nothing() -> None:
    x = torch.ones(2, requires_grad=True)
    y, other = 3 * x, 5 * x
    y.register_hook(Watched(7.0)).remove()
    hook = Watched()
    other.register_hook(hook)
    _run([(2 * y).sum(), y.sum()], Fixed(1.0, 1.0))
    torch.testing.assert_close(x.grad, torch.full((2,), 9.0))
    assert not hook.seen
    other.sum().backward()  # it is where it was
    assert len(hook.seen) == 1


def _hooked_graph(
    seed: int, leaves: list[Tensor], hooked: bool, made: Callable
) -> tuple[list[Tensor], list[Watched]]:
    """The terms of a random graph with linear and non-linear hooks on some of its tensors."""
    draw, hooks = random.Random(seed), []

    def hook_on(tensor: Tensor) -> None:
        if draw.random() < 0.3 and hooked and tensor.requires_grad:
            hook = Watched(draw.choice([0.5, 2.0, -1.0]))
            tensor.register_hook(hook)
            hooks.append(hook)

    terms = made(seed, leaves, hook_on)
    for tensor in (*leaves, *terms):
        hook_on(tensor)
    return terms, hooks


def _fresh_leaves() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(5)
    ]


@pytest.mark.parametrize("seed", range(12))
def test_what_hooks_see_is_one_ordinary_backward(seed: int, random_terms) -> None:
    """With weighted private tensors the combined scalar is sum_k w_k L_k, which has one."""
    weights = (0.5, -2.0, 3.0)
    stock, ours = _fresh_leaves(), _fresh_leaves()
    terms, expected = _hooked_graph(seed, stock, True, random_terms)
    sum(w * term for w, term in zip(weights, terms, strict=True)).backward()
    terms, found = _hooked_graph(seed, ours, True, random_terms)
    _run(terms, Fixed(*weights, private="weighted"))
    assert any(hook.seen for hook in expected)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one.seen, other.seen)
    for one, other in zip(stock, ours, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("seed", range(12))
def test_hooks_that_only_look_change_nothing(seed: int, random_terms) -> None:
    plain, watched = _fresh_leaves(), _fresh_leaves()
    terms, _ = _hooked_graph(seed, plain, False, random_terms)
    _run(terms, Fixed(0.5, -2.0, 3.0))
    terms, hooks = _hooked_graph(seed, watched, True, random_terms)
    for hook in hooks:
        hook.factor = 1.0
    _run(terms, Fixed(0.5, -2.0, 3.0))
    assert {len(hook.seen) for hook in hooks} <= {0, 1}
    for one, other in zip(plain, watched, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_parameter_of_one_term_keeps_its_plain_gradient() -> None:
    x, own = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    shared, private = Watched(), Watched(2.0)
    y = 3 * x
    y.register_hook(shared)
    z = y * own
    z.register_hook(private)
    _run([z.sum(), y.sum()], Fixed(10.0, 100.0))
    assert [seen.tolist() for seen in private.seen] == [[1.0, 1.0]]
    assert [seen.tolist() for seen in shared.seen] == [[10 * 2 + 100.0] * 2]
    torch.testing.assert_close(own.grad, torch.full((2,), 2 * 3.0))
    torch.testing.assert_close(x.grad, torch.full((2,), 3 * 120.0))


class Net(nn.Module):
    """Features that two heads of one layer each share."""

    def __init__(self, boundary: Boundary, inplace: bool = False) -> None:
        super().__init__()
        self.base = nn.Linear(3, 4)
        self.heads = nn.ModuleList([nn.Linear(4, 1) for _ in range(2)])
        self.boundary, self.inplace = boundary, inplace
        self.below, self.features = Watched(0.5), Watched(0.1)

    def forward(self, x: Tensor) -> list[Tensor]:
        base = self.base(x)
        base.register_hook(self.below)
        features = self.boundary.features(1.0 * base)
        features.register_hook(self.features)
        if self.inplace:
            features.relu_()
        return [head(features).square().mean() for head in self.heads]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    ("where", "elementwise"), [("features", False), ("features", True), ("parameters", False)]
)
def test_on_features(where: str, elementwise: bool, inplace: bool) -> None:
    boundary = Boundary(where)
    torch.manual_seed(0)
    model, x = Net(boundary, inplace), torch.randn(5, 3)
    with boundary.caught(model):
        terms = model(x)
    _run(terms, Fixed(0.5, 2.0, elementwise=elementwise), boundary.take(terms))
    assert len(model.features.seen) == len(model.below.seen) == 1
    torch.testing.assert_close(model.below.seen[0], 0.1 * model.features.seen[0])
    torch.manual_seed(0)
    plain = Net(Boundary("parameters"), inplace)
    plain.features.factor = plain.below.factor = 1.0
    losses = plain(x)
    rows = [torch.autograd.grad(loss, plain.base.weight, retain_graph=True)[0] for loss in losses]
    if elementwise:
        assert model.features.seen[0].min() >= 0
    else:
        expected = 0.1 * 0.5 * (0.5 * rows[0] + 2.0 * rows[1])
        torch.testing.assert_close(model.base.weight.grad, expected)


def test_module_backward_hooks_run_once() -> None:
    boundary = Boundary("parameters")
    torch.manual_seed(0)
    model = Net(boundary)
    seen: dict[str, list[Tensor]] = {}
    for name in ("base", "heads.0"):
        module = model.get_submodule(name)
        module.register_full_backward_hook(
            lambda m, i, o, name=name: seen.setdefault(name, []).append(o[0])
        )
        module.register_full_backward_pre_hook(
            lambda m, o, name=name: seen.setdefault(name + " before", []).append(o[0])
        )
    x = torch.randn(5, 3, requires_grad=True)
    _run(model(x), Fixed(0.5, 2.0))
    assert {name: len(grads) for name, grads in seen.items()} == {
        "base": 1, "base before": 1, "heads.0": 1, "heads.0 before": 1
    }  # fmt: skip
    torch.testing.assert_close(seen["base"][0], 0.5 * model.below.seen[0])


def test_a_feature_s_retained_gradient_is_the_combined_one() -> None:
    boundary = Boundary("features")
    model = nn.Linear(3, 4)
    features = boundary.features(model(torch.randn(5, 3)))
    features.retain_grad()
    terms = [(2 * features).sum(), features.sum()]
    _run(terms, Fixed(0.5, 2.0), boundary.take(terms))
    torch.testing.assert_close(features.grad, torch.full((5, 4), 3.0))


def test_element_by_element_there_is_no_gradient_between() -> None:
    x = torch.ones(2, requires_grad=True)
    y = 3 * x
    y.register_hook(Watched())
    with pytest.raises(LossweaveError, match="element by element, so a hook on a tensor between"):
        _run([(2 * y).sum(), y.sum()], Fixed(1.0, 1.0, elementwise=True))


def test_element_by_element_a_term_s_own_hooks_are_called() -> None:
    x, hook = torch.ones(2, requires_grad=True), Watched(0.5)
    y = x.exp()
    z = 3 * y
    z.register_hook(hook)
    _run([z.sum(), y.sum()], Fixed(1.0, 1.0, elementwise=True))
    assert len(hook.seen) == 1
    torch.testing.assert_close(x.grad, 2.5 * torch.ones(2).exp())


def test_two_forwards_before_a_backward() -> None:
    x, hooks = torch.ones(2, requires_grad=True), [Watched(2.0), Watched(10.0)]
    roots = []
    for hook in hooks:
        y = 3 * x
        y.register_hook(hook)
        terms = [(2 * y).sum(), y.sum()]
        found = reachability_of(terms, [])
        roots.append(gradient_root(torch.zeros(()), terms, found, [x], Fixed(1.0, 1.0)))
    del y, terms, found
    sum(roots).backward()
    assert [len(hook.seen) for hook in hooks] == [1, 1]
    torch.testing.assert_close(x.grad, torch.full((2,), 9.0 * 12))


def test_hooks_are_looked_for_only_where_some_were_registered(monkeypatch) -> None:
    x = torch.ones(2, requires_grad=True)
    _run([(2 * x).sum(), x.sum()], Fixed(1.0, 1.0))
    looked: list[int] = []
    look = _hooks._registered
    monkeypatch.setattr(_hooks, "_registered", lambda *ids: looked.append(1) or look(*ids))
    for _ in range(3):
        _run([(2 * x).sum(), x.sum()], Fixed(1.0, 1.0))
    assert not looked
    boundary = Boundary(["0"])
    model = nn.Sequential(nn.Linear(2, 2))
    with boundary.caught(model):  # hooks of its own
        terms = list(model(torch.ones(1, 2)).sum(0))
    _run(terms, Fixed(1.0, 1.0), boundary.take(terms))
    assert not looked
    x.register_hook(Watched())
    _run([(2 * x).sum(), x.sum()], Fixed(1.0, 1.0))
    assert looked


def test_hooks_that_are_removed_again_are_not_looked_for_among_old_objects(monkeypatch) -> None:
    x, module, hook = torch.ones(2, requires_grad=True), nn.Linear(2, 2), Watched()
    _run([(2 * x).sum(), x.sum()], Fixed(1.0, 1.0))
    asked: list[int] = []
    objects = gc.get_objects

    def noted(generation: int) -> list:
        asked.append(generation)
        return objects(generation=generation)

    monkeypatch.setattr(gc, "get_objects", noted)
    gc.collect()
    gc.disable()
    try:
        _run([(2 * x).sum(), x.sum()], Fixed(1.0, 1.0))
        for young in (True, False):
            module.register_forward_hook(lambda *args: None).remove()
            y = 3 * x
            y.register_hook(hook)
            if not young:
                gc.collect()
            asked.clear()
            _run([(2 * y).sum(), y.sum()], Fixed(1.0, 1.0))
            assert (2 in asked) is not young
        assert len(hook.seen) == 2
    finally:
        gc.enable()


def test_a_tensor_that_lost_its_hook_and_got_another_is_watched() -> None:
    x, hook = torch.ones(2, requires_grad=True), Watched()
    y = 3 * x
    handle = y.register_hook(Watched(7.0))
    _hooks.Aside([x], [])
    handle.remove()
    gc.collect()
    _hooks.Aside([x], [])  # looks; the tensor's dictionary is an old object from here on
    y.register_hook(hook)
    _run([(2 * y).sum(), y.sum()], Fixed(1.0, 1.0))
    assert [seen.tolist() for seen in hook.seen] == [[3.0, 3.0]]


def test_modules_that_are_recomputed_in_backward_keep_their_hooks() -> None:
    from torch.utils.checkpoint import checkpoint

    layer, called = nn.Sequential(nn.Linear(2, 2), nn.Tanh()), []
    layer[0].register_forward_hook(lambda m, i, o: called.append(1) or 2 * o)
    x = torch.ones(1, 2)
    grads = []
    for recomputed in (False, True):
        y = checkpoint(layer, x, use_reentrant=False) if recomputed else layer(x)
        _run([y.sum(), y.square().sum()], Fixed(1.0, 1.0))
        grads.append(layer[0].weight.grad)
        layer.zero_grad()
    torch.testing.assert_close(*grads)
    assert len(called) >= 3  # once more in each pass


def test_nothing_of_the_hooks_is_held() -> None:
    x = torch.ones(2, requires_grad=True)
    y = 3 * x
    hook = Watched()
    y.register_hook(hook)
    gone = weakref.ref(hook)
    terms = [(2 * y).sum(), y.sum()]
    _run(terms, Fixed(1.0, 1.0))
    del y, terms, hook
    gc.collect()
    assert gone() is None


def test_a_hook_that_fails_leaves_the_others_where_they_were() -> None:
    x, hook = torch.ones(2, requires_grad=True), Watched(0.1)
    x.register_hook(hook)
    y = 3 * x

    def fails(grad: Tensor) -> None:
        raise ValueError("mine")

    y.register_hook(fails)
    with pytest.raises(ValueError, match="mine"):
        _run([(2 * y).sum(), y.sum()], Fixed(1.0, 1.0))
    x.sum().backward()
    assert len(hook.seen) == 1 and RemovableHandle.next_id >= 2
    torch.testing.assert_close(x.grad, torch.full((2,), 0.1))


@pytest.mark.parametrize("private", ["plain", "weighted"])
def test_with_a_loss_that_is_added_plainly(private: str) -> None:
    """It shares some with both terms, some with one of them."""
    grads = []
    for hooked in (False, True):
        torch.manual_seed(0)
        base, tower, own = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        features = torch.tanh(base(torch.randn(5, 3)))
        towered = torch.tanh(tower(features))
        terms = [features.square().mean(), own(towered).mean()]
        other = 3 * towered.square().mean()
        hooks = [Watched(), Watched(), Watched()]
        for tensor, hook in zip((features, towered, other), hooks, strict=True):
            if hooked:
                tensor.register_hook(hook)
        found = reachability_of(terms, [])
        method = Fixed(0.5, 4.0, private=private)
        root = gradient_root(
            torch.zeros(()), terms, found, found.leaves, method, others=[other]
        )
        (root + other).backward()
        grads.append([p.grad for layer in (base, tower, own) for p in layer.parameters()])
        assert [len(hook.seen) for hook in hooks] == 3 * [int(hooked)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("private", ["plain", "weighted"])
@pytest.mark.parametrize("on", ["features", "towered", "other"])
def test_a_hook_that_scales_where_a_plainly_added_loss_comes_by(private: str, on: str) -> None:
    """With the terms' own gradients unweighted there is no one gradient to be scaled there."""
    grads = []
    for plain in (True, False):
        torch.manual_seed(0)
        base, tower, own = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        features = torch.tanh(base(torch.randn(5, 3)))
        towered = torch.tanh(tower(features))
        terms = [features.square().mean(), own(towered).mean()]
        other = 3 * towered.square().mean()
        hook = Watched(0.1)
        {"features": features, "towered": towered, "other": other}[on].register_hook(hook)
        if plain:
            (0.5 * terms[0] + 4.0 * terms[1] + other).backward()
        else:
            found = reachability_of(terms, [])
            method = Fixed(0.5, 4.0, private=private)
            root = gradient_root(torch.zeros(()), terms, found, found.leaves, method, [other])
            if on == "towered" and private == "plain":
                message = r"the hook 'Watched' changes .* private='plain' cannot be exact; name "
                with pytest.raises(LossweaveError, match=message):
                    (root + other).backward()
                assert len(hook.seen) == 1
                own(towered).sum().backward()  # an ordinary one has it as it was
                assert len(hook.seen) == 2
                return
            (root + other).backward()
        if private == "weighted" or on == "other":
            grads.append([p.grad for p in base.parameters()])
        assert len(hook.seen) == 1
    if grads:
        torch.testing.assert_close(*grads)


def test_a_hook_that_is_put_on_too_late_is_refused() -> None:
    x = torch.ones(2, requires_grad=True)
    y = 3 * x
    terms = [(2 * y).sum(), y.sum()]
    root = gradient_root(torch.zeros(()), terms, reachability_of(terms, []), [x], Fixed(1.0, 1.0))
    y.register_hook(Watched())
    with pytest.raises(LossweaveError, match=r"after the losses .* had been combined"):
        root.backward()
    x.register_hook(hook := Watched(0.1))  # a leaf's is in time
    _run([(2 * x).sum(), x.sum()], Fixed(1.0, 1.0))
    assert len(hook.seen) == 1


def test_a_combination_registers_nothing_that_is_looked_for(monkeypatch) -> None:
    combination = build_combination("PCGrad")
    combination.set_progress(Progress())
    x = torch.ones(2, requires_grad=True)
    looked: list[int] = []
    for step in range(3):
        if step == 1:
            monkeypatch.setattr(_hooks, "_registered", lambda *ids: looked.append(1) or [])
        combination({"loss_cls": (2 * x).sum(), "loss_bbox": x.sum()}).backward()
    assert not looked
