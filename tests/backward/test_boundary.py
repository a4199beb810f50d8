"""Catching the boundary's tensors in a forward, and finding where terms part."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from lossweave.backward import Boundary, BoundaryState, _boundary, reachability_of
from lossweave.errors import LossweaveError


class Pyramid(nn.Module):
    """Two levels, the second computed from the first, with a common head of two layers."""

    def __init__(self, boundary: Boundary, shared_head: bool, inplace: bool = True) -> None:
        super().__init__()
        self.base = nn.Linear(3, 4)
        self.top = nn.Linear(4, 4)
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=inplace)
        self.out = nn.Linear(4, 2)
        self.boundary, self.shared_head = boundary, shared_head

    def forward(self, x: Tensor) -> list[Tensor]:
        base = self.base(x)
        levels = self.boundary.features((base, self.top(base)))
        if not self.shared_head:
            weights = self.out.weight
            a = sum((level @ weights[0]).mean() for level in levels)
            b = sum((level @ weights[1]).square().mean() for level in levels)
            return [a, b]
        totals = [torch.zeros(()), torch.zeros(())]
        for level in levels:
            hidden = self.relu(self.two(self.relu(self.one(level))))
            for k in range(2):
                totals[k] = totals[k] + (hidden * (k + 1)).square().mean()
        return totals


def _caught(boundary: Boundary, shared_head: bool) -> tuple[Pyramid, list[Tensor], list]:
    torch.manual_seed(0)
    model = Pyramid(boundary, shared_head)
    with boundary.caught(model):
        terms = model(torch.randn(5, 3))
    return model, terms, boundary.take(terms)


@pytest.mark.parametrize("where", ["features", "representation"])
def test_levels_computed_from_each_other_are_counted_once(where: str) -> None:
    model, terms, points = _caught(Boundary(where), shared_head=False)
    assert len(points) == 2
    grads = torch.autograd.grad(terms[0], [p.tensor for p in points], retain_graph=True)
    for grad in grads:  # the term is linear in each level by itself
        torch.testing.assert_close(grad, (model.out.weight[0] / 5).expand(5, 4))


def test_the_layer_before_a_relu_in_place_is_the_representation() -> None:
    boundary = Boundary("representation")
    model, terms, points = _caught(boundary, shared_head=True)
    # The ReLU is called twice per level, and only behind the last layer do the terms part.
    assert boundary.found == ("two",)
    assert len(points) == 2
    reachability = reachability_of(terms, points)
    assert not reachability.leaves and reachability.terms == [[0, 1], [0, 1]]
    with boundary.caught(model):
        terms = model(torch.randn(5, 3))
    assert len(boundary.take(terms)) == 2  # without a search
    assert not any(m._forward_hooks for m in model.modules())


def test_a_term_that_is_not_there_postpones_the_search() -> None:
    boundary = Boundary("representation")
    model = Pyramid(boundary, shared_head=True)
    with boundary.caught(model):
        terms = model(torch.randn(5, 3))
    assert len(boundary.take([terms[0], None])) == 2 and boundary.found is None
    with boundary.caught(model):
        terms = model(torch.randn(5, 3))
    boundary.take(terms)
    assert boundary.found == ("two",)


def test_what_was_found_is_kept_in_the_checkpoint_and_in_copies() -> None:
    boundary = Boundary("representation")
    _caught(boundary, shared_head=True)
    state, fresh = BoundaryState(boundary), BoundaryState(Boundary("representation"))
    fresh.load_state_dict(state.state_dict())
    assert fresh.boundary.found == ("two",)
    nothing = BoundaryState(Boundary("representation"))
    fresh.load_state_dict(nothing.state_dict())
    assert fresh.boundary.found is None
    for other in (copy.deepcopy(boundary), pickle.loads(pickle.dumps(boundary))):
        assert other.found == ("two",) and other.where == "representation"
    none_above, _ = BoundaryState(Boundary("representation")), None
    _caught(none_above.boundary, shared_head=False)
    fresh.load_state_dict(none_above.state_dict())
    assert fresh.boundary.found == ()


def test_nothing_is_caught_without_gradients() -> None:
    boundary = Boundary("features")
    model = Pyramid(boundary, shared_head=True)
    with torch.no_grad(), boundary.caught(model):
        model(torch.randn(5, 3))
    assert boundary.take([]) == []


def test_a_path_around_names_the_module() -> None:
    boundary = Boundary(["two"])
    model, terms, points = _caught(boundary, shared_head=True)
    terms[1] = terms[1] + model.base.weight.sum()
    reachability = reachability_of(terms, points)
    with pytest.raises(LossweaveError, match="lies above 'base', which the term 'b' reaches"):
        boundary.check(reachability.boundary, reachability.leaves, lambda leaf: "b", model)


def test_nested_modules_are_refused() -> None:
    boundary = Boundary(["one", "two"])
    model = Pyramid(boundary, shared_head=True)
    model.boundary = Boundary("parameters")
    with boundary.caught(model):
        terms = model(torch.randn(5, 3))
    with pytest.raises(LossweaveError, match="'two' returns is computed from what 'one' returns"):
        boundary.take(terms)


def test_the_nesting_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[int] = []
    walk = _boundary.reach
    monkeypatch.setattr(_boundary, "reach", lambda *args: walks.append(1) or walk(*args))
    boundary = Boundary(["two"])
    model = Pyramid(boundary, shared_head=True)
    for _ in range(3):
        with boundary.caught(model):
            terms = model(torch.randn(5, 3))
        points = boundary.take(terms)
        reachability = reachability_of(terms, points)
        boundary.check(reachability.boundary, reachability.leaves, lambda leaf: "a", model)
    assert not reachability.leaves and len(walks) == len(points)


class Towers(nn.Module):
    """A list of layers that is never called itself, and a module that is not called at all."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 4)])
        self.unused = nn.Linear(3, 3)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.frozen(x)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return [x.sum(), x.square().sum()]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (["layers"], r"'layers' returned no tensor .*; below it these do: layers.0, layers.1$"),
        (["unused"], r"'unused' returned no tensor that carries a gradient \(.*none\)$"),
        (["frozen"], "'frozen' returned no tensor that carries a gradient"),
        (["layers.1", "unused"], "'unused' returned no tensor that carries a gradient"),
    ],
)
def test_a_boundary_that_catches_nothing_is_refused(where: list[str], message: str) -> None:
    boundary, model = Boundary(where), Towers()
    with boundary.caught(model):
        terms = model(torch.ones(1, 3))
    with pytest.raises(LossweaveError, match=message):
        boundary.take(terms)


def test_what_is_below_a_chosen_module_is_looked_at_once_and_not_caught() -> None:
    boundary, model = Boundary(["lay*"]), nn.Sequential()
    model.layer = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    for watched in (3, 3):  # the layer's own parts match the pattern, too
        with boundary.caught(model):
            assert sum(bool(m._forward_hooks) for m in model.modules()) == watched
            with pytest.raises(LossweaveError, match="is computed from what"):
                boundary.take([model(torch.ones(1, 3)).sum()])
    boundary = Boundary(["layer"])
    for watched in (3, 1):
        with boundary.caught(model):
            assert sum(bool(m._forward_hooks) for m in model.modules()) == watched
            terms = [model(torch.ones(1, 3)).sum()]
        assert len(boundary.take(terms)) == 1


def test_once_caught_an_iteration_without_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    boundary, model = Boundary(["layers.1"]), Towers()
    with boundary.caught(model):
        boundary.take(model(torch.ones(1, 3)))
    for _ in range(2):
        with boundary.caught(model):
            terms = [model.layers[0](torch.ones(1, 3)).sum()]
        assert boundary.take(terms) == []
    assert len(caplog.records) == 1 and "no tensor that carries a gradient" in caplog.text


@pytest.mark.parametrize("where", ["features", "representation"])
def test_a_forward_that_hands_over_no_features_is_refused(where: str) -> None:
    boundary, model = Boundary(where), Towers()
    with boundary.caught(model):
        terms = model(torch.ones(1, 3))
    with pytest.raises(LossweaveError, match="handed over no features"):
        boundary.take(terms)
    with boundary.caught(model):
        boundary.features(torch.ones(1))  # frozen ones are nothing to combine at
        terms = model(torch.ones(1, 3))
    points = boundary.take(terms)
    assert not points if where == "features" else boundary.found == ("layers.1",)


def test_it_is_found_anew_where_other_parameters_are_trained() -> None:
    boundary = Boundary("representation")
    model, _, _ = _caught(boundary, shared_head=True)
    assert boundary.found == ("two",)
    model.out.requires_grad_(False)
    with boundary.caught(model):
        assert boundary.found is None
        terms = model(torch.randn(5, 3))
    boundary.take(terms)
    assert boundary.found == ("two",)
    state = BoundaryState(boundary).state_dict()
    fresh = BoundaryState(Boundary("representation"))
    fresh.load_state_dict(state)
    with fresh.boundary.caught(model):
        assert fresh.boundary.found == ("two",)
    fresh.load_state_dict(state)
    model.out.requires_grad_(True)
    with fresh.boundary.caught(model):
        assert fresh.boundary.found is None


def test_it_is_found_anew_in_a_model_of_other_names() -> None:
    boundary = Boundary("representation")
    _caught(boundary, shared_head=True)
    state = BoundaryState(boundary).state_dict()
    for trained in ("", "another's"):
        fresh = BoundaryState(Boundary("representation"))
        fresh.load_state_dict(state)
        fresh.boundary.trained = trained
        with fresh.boundary.caught(nn.Sequential(nn.Linear(2, 2))):
            assert fresh.boundary.found is None


def test_the_state_has_one_shape_and_moves_with_the_model() -> None:
    boundary = Boundary("representation")
    state = BoundaryState(boundary)
    shapes = []
    for found in (None, (), ("two",), tuple(f"a.rather.long.name.{n}" for n in range(200))):
        boundary.found = found
        saved = state.state_dict()
        shapes.append({key: (value.shape, value.dtype) for key, value in saved.items()})
        fresh = BoundaryState(Boundary("representation"))
        fresh.load_state_dict(saved)
        assert fresh.boundary.found == (None if found and len(found) > 1 else found)
    assert all(shape == shapes[0] for shape in shapes)
    assert [name for name, _ in state.named_buffers()] == ["found"]
    copied = copy.deepcopy(state)
    copied.boundary.found = ("one",)
    assert boundary.found != ("one",)


def test_a_word_that_is_misspelt_is_no_module_and_the_near_one_is_said() -> None:
    boundary, model = Boundary(["feature"]), nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(LossweaveError, match="'feature'; did you mean 'features'"):
        boundary.caught(model).__enter__()
