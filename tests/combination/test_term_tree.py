"""Combiners over terms and over the results of other combiners."""

from typing import Any

import pytest
import torch

from lossweave.combination.tree import TermNode, term_tree
from lossweave.combiners import DWA, Max, Sum, UncertaintyWeighting
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

RPN = {"combiner": "Sum", "terms": {"cls": "loss_rpn_cls", "loc": "loss_rpn_bbox"}}
ROI = {
    "combiner": {"type": "Sum", "weights": [1, 3]},
    "terms": {"cls": "loss_cls", "loc": "loss_bbox"},
}
TWO_STAGES = {"rpn": RPN, "roi": ROI, "mask": "loss_mask"}


def _all(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.bool)


def _floats(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_the_leaves_are_named_by_their_way_from_the_top() -> None:
    node, terms = term_tree("Max", TWO_STAGES)
    assert terms.names == ("rpn.cls", "rpn.loc", "roi.cls", "roi.loc", "mask")
    assert [type(n.combiner) for n in node.nodes()] == [Max, Sum, Sum]
    assert node.combiner.terms == ("rpn", "roi", "mask")
    assert [n.combiner.terms for n in node.inner_nodes().values()] == [("cls", "loc")] * 2
    assert node.below() == [0, 1, 2, 3, 4]
    assert [n.below() for n in node.inner_nodes().values()] == [[0, 1], [2, 3]]
    assert not node.flat


def test_a_flat_tree_is_its_combiner() -> None:
    node, terms = term_tree("Sum", {"one": "loss_a", "two": "loss_b"})
    assert node.flat and terms.names == ("one", "two")
    found = node.evaluate(_floats(2, 3), _all(2))
    assert found.value == 5 and found.weights.tolist() == [1, 1] and found.present


@pytest.mark.parametrize(
    ("losses", "value", "weights"),
    [
        ((1, 2, 1, 1, 3), 4, (0, 0, 1, 3, 0)),  # the inner sums are 3 and 1 + 3 * 1
        ((9, 2, 1, 1, 3), 11, (1, 1, 0, 0, 0)),
        ((1, 2, 1, 1, 30), 30, (0, 0, 0, 0, 1)),
    ],
)
def test_weights_are_multiplied_along_the_way(
    losses: tuple[float, ...], value: float, weights: tuple[float, ...]
) -> None:
    node, _ = term_tree("Max", TWO_STAGES)
    found = node.evaluate(_floats(*losses), _all(5))
    assert found.value == value and tuple(found.weights.tolist()) == weights


def test_an_infinity_below_a_weight_of_zero_stays_out() -> None:
    inner = {"combiner": "Product", "terms": {"a": "loss_a", "b": "loss_b"}}
    node, _ = term_tree({"type": "Sum", "weights": [0, 1]}, {"in": inner, "c": "loss_c"})
    weights = node.evaluate(_floats(float("inf"), 2, 3), _all(3)).weights
    assert weights.tolist() == [0, 0, 1]


def test_what_is_absent_below_is_absent_above() -> None:
    node, _ = term_tree("Sum", TWO_STAGES)
    present = torch.tensor([False, False, True, False, True])
    found = node.evaluate(_floats(0, 0, 5, 0, 1), present)
    assert found.present and found.weights[:2].tolist() == [0, 0]
    assert found.parts["rpn"].present.tolist() is False
    assert found.parts["roi"].present.tolist() is True


def test_terms_are_attached_and_have_the_weights_of_their_node() -> None:
    node, _ = term_tree("Max", TWO_STAGES)
    leaves = [torch.tensor(x, requires_grad=True) for x in (1.0, 2.0, 1.0, 1.0)]
    given = [*leaves, None]
    found = node.evaluate(_floats(1, 2, 1, 1, 0), torch.tensor([True] * 4 + [False]))
    rpn, roi, mask = node.attached(given, found.parts)
    assert rpn is not None and roi is not None and mask is None
    assert rpn == 3 and roi == 4
    (rpn + roi).backward()
    assert [leaf.grad.item() for leaf in leaves] == [1, 1, 1, 3]


def test_an_inner_node_that_takes_turns_rests_its_leaves() -> None:
    turns = {"combiner": "Alternating", "terms": {"a": "loss_a", "b": "loss_b"}}
    node, _ = term_tree("Sum", {"in": turns, "c": "loss_c"})
    for inner in node.nodes():
        inner.combiner.begin(Progress())
    assert node.active() == (True, False, True)
    assert term_tree("Sum", TWO_STAGES)[0].active() == (True,) * 5


def _learned(node: TermNode) -> list[float]:
    return node.combiner.get_buffer("log_var").tolist()


def test_an_update_learns_once_from_the_mean_of_its_iterations() -> None:
    alone, _ = term_tree(UncertaintyWeighting(), {"a": "loss_a", "b": "loss_b"})
    parted, _ = term_tree(UncertaintyWeighting(), {"a": "loss_a", "b": "loss_b"})
    alone.learn([alone.evaluate(_floats(2, 6), _all(2))], Progress())
    for step, losses in enumerate([(1, 4), (3, 8)]):
        parted.learn(
            [parted.evaluate(_floats(*losses), _all(2))], Progress(iteration=step, accumulation=2)
        )
    assert _learned(alone) == _learned(parted) != [0, 0]
    assert not parted.window_totals.any() and not parted.window_counts.any()


def test_the_mean_is_over_the_iterations_that_had_the_term() -> None:
    alone, _ = term_tree(UncertaintyWeighting(), {"a": "loss_a", "b": "loss_b"})
    parted, _ = term_tree(UncertaintyWeighting(), {"a": "loss_a", "b": "loss_b"})
    alone.learn([alone.evaluate(_floats(2, 8), _all(2))], Progress())
    for step, (losses, present) in enumerate([((1, 0), (True, False)), ((3, 8), (True, True))]):
        parted.learn(
            [parted.evaluate(_floats(*losses), torch.tensor(present))],
            Progress(iteration=step, accumulation=2),
        )
    assert _learned(alone) == _learned(parted)


def test_a_skipped_update_teaches_nothing() -> None:
    node, _ = term_tree(UncertaintyWeighting(), {"a": "loss_a", "b": "loss_b"})
    node.learn([node.evaluate(_floats(2, 6), _all(2))], Progress(), skip=True)
    assert _learned(node) == [0, 0]


def test_inner_combiners_learn_from_their_own_terms() -> None:
    inner = {"combiner": DWA(period=1), "terms": {"a": "loss_a", "b": "loss_b"}}
    node, _ = term_tree(UncertaintyWeighting(), {"in": inner, "c": "loss_c"})
    state = {k: v.clone() for k, v in node.state_dict().items()}
    node.learn([node.evaluate(_floats(2, 6, 1), _all(3))], Progress())
    moved = {k for k, v in node.state_dict().items() if not torch.equal(v, state[k])}
    assert any(k.startswith("combiner.") for k in moved)
    assert any(k.startswith("inner.in.combiner.") for k in moved)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"a.b": "loss_cls", "a": dict(terms={"b": "loss_bbox"})},
         "'a.b' is there twice, by itself and nested"),
        ({"a": dict(terms={"b": "loss_bbox"}), "a.b": "loss_cls"},
         "'a.b' is there twice, by itself and nested"),
        ({"a": dict(terms={"b": "loss_bbox"}), "a_b": "loss_cls"}, "the same name in the log"),
        ({"a": dict(combiner="Sum")}, r"nested term 'a' should be dict\(combiner=\.\.\., terms="),
        ({"a": dict(terms={})}, "nested term 'a' should be"),
        ({"a": dict(terms="task")}, "nested term 'a' should be"),
        ({"a": dict(terms={"b": "x"}, weights=[1])}, "nested term 'a' should be"),
        ({"a": dict(terms={"b": dict(terms=[])})}, r"nested term 'a\.b' should be"),
        ({"keys": dict(terms={"b": "x"})}, "'keys' cannot be the name of a nested term"),
        ({"a b": dict(terms={"b": "x"})}, "'a b' cannot be the name of a nested term"),
        ({"a": dict(combiner="PCGrad", terms={"b": "x", "c": "y"})},
         "PCGrad combines gradients, so it can only be the outermost combiner, not that of the "
         "nested term 'a'"),
        ({"a": dict(combiner="Summ", terms={"b": "x"})}, "Summ"),
    ],
)  # fmt: skip
def test_what_is_no_tree(terms: Any, message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        term_tree("Sum", terms)
