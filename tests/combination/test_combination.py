"""From raw losses to the root scalar, in one process."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lossweave.combination import LossCombination, build_combination
from lossweave.combiners import FAMO, UncertaintyWeighting
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

TERMS = {"cls": "loss_cls", "loc": "loss_bbox"}
TURNS: dict[str, Any] = {"type": "Alternating", "schedule": {"cls": 1, "loc": 1}}


def _leaves(*values: float) -> list[Tensor]:
    return [torch.tensor(value, requires_grad=True) for value in values]


def _grads(leaves: list[Tensor]) -> list[float | None]:
    return [None if leaf.grad is None else leaf.grad.item() for leaf in leaves]


def _entries(leaves: list[Tensor], *names: str) -> dict[str, Tensor]:
    return {name: leaf * 1 for name, leaf in zip(names, leaves, strict=True)}


def _said(combination: LossCombination) -> list[str]:
    """What it says, but for which losses went to which term, which it always says."""
    notes: list[str] = []
    combination.log = lambda line: None if line.startswith("terms: ") else notes.append(line)
    return notes


# ------------------------------------------------------------------------------ plain sum


def test_the_plain_sum_is_the_framework_s_own_object() -> None:
    combination = build_combination("Sum", TERMS)
    leaves = _leaves(1.0, 2.0, 4.0)
    entries = _entries(leaves, "loss_cls", "loss_bbox", "loss_mask")
    total = leaves[0] + leaves[1] + leaves[2]
    assert combination(entries, total) is total
    assert combination.last() == {
        "cls": {"value": 1.0, "weight": 1.0},
        "loc": {"value": 2.0, "weight": 1.0},
    }


def test_without_a_stock_total_the_plain_sum_is_computed() -> None:
    leaves = _leaves(1.0, 2.0)
    root = build_combination("Sum", TERMS)(_entries(leaves, "loss_cls", "loss_bbox"))
    root.backward()
    assert root == 3 and _grads(leaves) == [1, 1]


def test_a_weighted_sum_does_not_take_the_stock_total() -> None:
    combination = build_combination({"type": "Sum", "weights": 2.0}, TERMS)
    leaves = _leaves(1.0, 2.0)
    assert combination(_entries(leaves, "loss_cls", "loss_bbox"), leaves[0] * 99) == 6


def test_nothing_is_known_before_the_first_forward() -> None:
    combination = build_combination("Sum", TERMS)
    assert combination.last() == {} and combination.logged() == {}


def test_no_loss_at_all() -> None:
    with pytest.raises(LossweaveError, match="returned no entry with 'loss' in its name"):
        build_combination("Max", TERMS)({})
    combination = build_combination("Max", TERMS)
    combination(_entries(_leaves(1.0, 2.0), "loss_cls", "loss_bbox"))
    with pytest.raises(LossweaveError, match="returned no loss at all"):
        combination({})


# --------------------------------------------------------------------------------- extras


def test_the_assignment_is_said_once_and_that_of_a_late_loss_when_it_comes() -> None:
    combination = build_combination("Max", {"cls": "loss_cls", "loc": ["loss_bbox", "?loss_l1"]})
    said: list[str] = []
    combination.log = said.append
    for names in [("loss_cls", "loss_bbox")] * 2 + [("loss_cls", "loss_l1", "loss_late")] * 2:
        combination(_entries(_leaves(*[1.0] * len(names)), *names))
    assert said == [
        "terms: cls = loss_cls; loc = loss_bbox",
        "terms: loc = loss_l1",
        "the losses ['loss_late'] belong to no term and are added with weight 1; name them in "
        "`terms` to combine them",
    ]


def test_extras_are_added_plainly_and_said_once() -> None:
    combination = build_combination("Product", TERMS)
    notes = _said(combination)
    for _ in range(2):
        leaves = _leaves(2.0, 3.0, 10.0, 7.0)
        root = combination(_entries(leaves, "loss_cls", "loss_bbox", "loss_mask", "loss_obj"))
        root.backward()
        assert root == 2 * 3 + 10 + 7 and _grads(leaves) == [3, 2, 1, 1]
    assert notes == [
        "the losses ['loss_mask', 'loss_obj'] belong to no term and are added with "
        "weight 1; name them in `terms` to combine them"
    ]


def test_extras_are_refused_where_they_should_be() -> None:
    combination = build_combination("Max", TERMS, extra="error")
    with pytest.raises(LossweaveError, match=r"no term claims the losses \['loss_mask'\]"):
        combination(_entries(_leaves(1.0, 2.0, 3.0), "loss_cls", "loss_bbox", "loss_mask"))


def test_a_late_extra_is_refused_too() -> None:
    combination = build_combination("Max", TERMS, extra="error")
    combination(_entries(_leaves(1.0, 2.0), "loss_cls", "loss_bbox"))
    with pytest.raises(LossweaveError, match=r"no term claims the losses \['loss_l1'\]"):
        combination(_entries(_leaves(1.0, 2.0, 3.0), "loss_cls", "loss_bbox", "loss_l1"))


def test_extras_alone() -> None:
    combination = build_combination("Max", TERMS)
    combination(_entries(_leaves(1.0, 2.0), "loss_cls", "loss_bbox"))
    leaves = _leaves(5.0)
    root = combination(_entries(leaves, "loss_mask"))
    root.backward()
    assert root == 5 and _grads(leaves) == [1]


# ----------------------------------------------------------------------- terms and presence


def test_entries_of_one_term_are_added() -> None:
    combination = build_combination("Product", {"cls": "*cls*", "loc": "*bbox*"})
    leaves = _leaves(1.0, 2.0, 3.0, 4.0)
    root = combination(
        _entries(leaves, "s0.loss_cls", "s0.loss_bbox", "s1.loss_cls", "s1.loss_bbox")
    )
    root.backward()
    assert root == 4 * 6 and _grads(leaves) == [6, 4, 6, 4]


def test_a_term_may_be_absent_in_an_iteration() -> None:
    combination = build_combination("Product", TERMS)
    combination(_entries(_leaves(1.0, 2.0), "loss_cls", "loss_bbox"))
    leaves = _leaves(5.0)
    root = combination(_entries(leaves, "loss_cls"))
    root.backward()
    assert root == 5 and _grads(leaves) == [1]
    assert combination.last()["loc"] == {"value": 0.0, "weight": 0.0}


def test_a_pattern_that_matches_nothing_ends_training_before_it_began() -> None:
    combination = build_combination("UncertaintyWeighting", {"cls": "loss_cls", "loc": "loss_box"})
    with pytest.raises(LossweaveError, match=r"'loss_box' of term 'loc'.*mean 'loss_bbox'\?"):
        combination(_entries(_leaves(1.0, 2.0), "loss_cls", "loss_bbox"))
    assert not combination.node.combiner.get_buffer("log_var").any()


def test_a_resumed_run_may_begin_with_a_batch_that_lacks_a_term() -> None:
    combination = build_combination("Max", TERMS)
    notes = _said(combination)
    combination.set_progress(Progress(iteration=100))
    assert combination(_entries(_leaves(1.0), "loss_cls")) == 1
    assert len(notes) == 1 and "pattern 'loss_bbox' of term 'loc' matches nothing" in notes[0]


def test_a_detached_entry_is_left_without_a_gradient() -> None:
    leaves = _leaves(2.0)
    root = build_combination("Product", TERMS)(
        {"loss_cls": leaves[0] * 1, "loss_bbox": torch.tensor(3.0)}
    )
    root.backward()
    assert root == 6 and _grads(leaves) == [3]


def test_autocast_is_off_inside() -> None:
    combination = build_combination("STCH", TERMS)
    leaves = _leaves(1.0, 1.001)
    entries = _entries(leaves, "loss_cls", "loss_bbox")
    exact = build_combination("STCH", TERMS)(entries)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(combination(entries), exact)


def test_terms_of_different_types() -> None:
    combination = build_combination("Product", TERMS)
    leaves = [
        torch.tensor(2.0, requires_grad=True),
        torch.tensor(1 / 3, dtype=torch.float64, requires_grad=True),
    ]
    root = combination(_entries(leaves, "loss_cls", "loss_bbox"))
    root.backward()
    assert root.dtype == torch.float64 and root.item() == pytest.approx(2 / 3, rel=1e-14)
    assert _grads(leaves) == [pytest.approx(1 / 3), 2]


def test_measure_looks_and_learns_nothing() -> None:
    combination = build_combination("UncertaintyWeighting", TERMS)
    values, present = combination.measure({"loss_bbox": torch.tensor(3.0)})
    assert values.tolist() == [0, 3] and present.tolist() == [False, True]
    assert not combination.node.combiner.get_buffer("log_var").any()


# ---------------------------------------------------------------------------- non-finite


def _iterate(
    combination: LossCombination, iteration: int, values: list[float], accumulation: int = 1
) -> list[float | None]:
    names = ("loss_cls", "loss_bbox", "loss_mask")[: len(values)]
    combination.set_progress(Progress(iteration, accumulation))
    leaves = _leaves(*([0.5] * len(values)))
    entries = {n: x + (v - 0.5) for n, x, v in zip(names, leaves, values, strict=True)}
    combination(entries).backward()
    return _grads(leaves)


def _state(module: nn.Module) -> dict[str, list[float]]:
    return {
        name: value.nan_to_num(-7.0).tolist()
        for name, value in module.state_dict().items()
        if name != "window_skipped"
    }


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_skip_leaves_state_and_gradients_alone(bad: float, position: int) -> None:
    combination = build_combination("FAMO", TERMS, on_nonfinite="skip")
    _iterate(combination, 0, [1.0, 2.0, 3.0])
    _iterate(combination, 1, [1.5, 2.0, 3.0])
    before = _state(combination)
    values = [1.0, 2.0, 3.0]
    values[position] = bad
    assert _iterate(combination, 2, values) == [0, 0, 0]  # also of the extra loss_mask
    assert combination.skipping and _state(combination) == before
    assert _iterate(combination, 3, [1.0, 2.0, 3.0])[2] == 1
    assert not combination.skipping and _state(combination) != before


def test_skip_covers_an_overflow_of_the_combination() -> None:
    combination = build_combination("Product", TERMS, on_nonfinite="skip")
    assert _iterate(combination, 0, [1e30, 1e30]) == [0, 0] and combination.skipping


def test_skip_covers_the_plain_sum() -> None:
    combination = build_combination("Sum", TERMS, on_nonfinite="skip")
    combination.set_progress(Progress(0))
    leaves = _leaves(1.0, math.inf)
    total = leaves[0] + leaves[1]
    combination(_entries(leaves, "loss_cls", "loss_bbox"), total).backward()
    assert combination.skipping and leaves[0].grad == 0


def test_skip_covers_an_inactive_term() -> None:
    combination = build_combination(TURNS, TERMS, on_nonfinite="skip")
    _iterate(combination, 0, [1.0, math.nan])
    assert combination.skipping


@pytest.mark.parametrize("bad_at", [0, 1, 2])
def test_skip_covers_the_whole_accumulation_window(bad_at: int) -> None:
    combination = build_combination("UncertaintyWeighting", TERMS, on_nonfinite="skip")
    clean = _state(combination)
    for t in range(3):
        grads = _iterate(combination, t, [math.nan if t == bad_at else 1.0, 2.0], 3)
        assert combination.skipping is (t >= bad_at)
        assert (grads == [0, 0]) is (t >= bad_at)
    assert _state(combination) == clean
    for t in range(3, 6):
        _iterate(combination, t, [1.0, 2.0], 3)
    assert not combination.skipping and _state(combination) != clean


def test_a_checkpoint_inside_a_skipped_window_goes_on_skipping() -> None:
    stopped, resumed = (
        build_combination("UncertaintyWeighting", TERMS, on_nonfinite="skip") for _ in range(2)
    )
    _iterate(stopped, 0, [1.0, 2.0], 3)
    _iterate(stopped, 1, [math.nan, 2.0], 3)
    resumed.load_state_dict(stopped.state_dict())
    assert _iterate(resumed, 2, [1.0, 2.0], 3) == [0, 0] and resumed.skipping
    _iterate(resumed, 3, [1.0, 2.0], 3)
    assert not resumed.skipping


def test_an_unfinished_window_of_another_run_is_forgotten() -> None:
    stopped, fresh, loaded = (build_combination("UncertaintyWeighting", TERMS) for _ in range(3))
    _iterate(stopped, 0, [100.0, 200.0], 2)
    loaded.load_state_dict(stopped.state_dict())
    for combination in (fresh, loaded):
        for t in range(2):
            _iterate(combination, t, [1.0, 2.0], 2)
    assert _state(fresh) == _state(loaded)


def test_raise_leaves_a_nan_to_be_seen() -> None:
    combination = build_combination("Min", TERMS)
    leaves = _leaves(1.0, math.inf)
    assert combination(_entries(leaves, "loss_cls", "loss_bbox")).isnan()
    assert not combination.skipping
    assert combination.last()["loc"]["value"] == math.inf


# ----------------------------------------------------------------------------- alternating


class TwoHeads(nn.Module):
    """A shared, a first-head and a second-head parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.tensor(2.0))
        self.one = nn.Parameter(torch.tensor(3.0))
        self.two = nn.Parameter(torch.tensor(5.0))

    def losses(self) -> dict[str, Tensor]:
        return {"loss_cls": self.shared * self.one, "loss_bbox": self.shared * self.two}


def _step(
    combination: LossCombination, model: TwoHeads, progress: Progress, *without: str
) -> list[float | None]:
    """One iteration as the frameworks' hooks make it; the gradients at the optimizer's step."""
    combination.set_progress(progress)
    losses = {n: x for n, x in model.losses().items() if n not in without}
    root = combination(losses)
    if root.requires_grad:
        (root / progress.accumulation).backward()
    if progress.last_of_update and combination.holds:
        for parameter in combination.held(model.parameters()):
            parameter.grad = None
    return _grads(list(model.parameters()))


def test_hold_leaves_what_only_inactive_terms_reach_without_a_gradient() -> None:
    combination, model = build_combination(TURNS, TERMS), TwoHeads()
    assert _step(combination, model, Progress(0)) == [3, 2, None]
    model.zero_grad()
    assert _step(combination, model, Progress(1)) == [5, None, 2]


def test_zero_gives_it_a_zero_gradient() -> None:
    combination, model = build_combination({**TURNS, "inactive": "zero"}, TERMS), TwoHeads()
    assert not combination.holds
    assert _step(combination, model, Progress(0)) == [3, 2, 0]
    model.zero_grad()
    assert _step(combination, model, Progress(1)) == [5, 0, 2]


@pytest.mark.parametrize("inactive", ["hold", "zero"])
def test_momentum_and_weight_decay_of_held_parameters(inactive: str) -> None:
    combination, model = build_combination({**TURNS, "inactive": inactive}, TERMS), TwoHeads()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for t in range(4):
        before = [p.item() for p in (model.one, model.two)]
        _step(combination, model, Progress(t))
        optimizer.step()
        optimizer.zero_grad()
        idle = (1, 0)[t % 2]
        after = [p.item() for p in (model.one, model.two)]
        assert after[1 - idle] != before[1 - idle]
        assert (after[idle] == before[idle]) is (inactive == "hold")


def test_a_turn_lasts_for_a_whole_accumulation_window() -> None:
    combination, model = build_combination(TURNS, TERMS), TwoHeads()
    _step(combination, model, Progress(0, accumulation=2))
    assert _step(combination, model, Progress(1, accumulation=2)) == [3, 2, None]
    model.zero_grad()
    _step(combination, model, Progress(2, accumulation=2))
    assert _step(combination, model, Progress(3, accumulation=2)) == [5, None, 2]


def test_with_the_active_term_absent_nothing_is_trained_and_backward_still_runs() -> None:
    combination, model = build_combination(TURNS, TERMS), TwoHeads()
    _step(combination, model, Progress(0))
    model.zero_grad()
    combination.set_progress(Progress(2))
    root = combination({"loss_bbox": model.losses()["loss_bbox"]})
    assert root == 0 and root.requires_grad
    model.zero_grad()
    assert _step(combination, model, Progress(2), "loss_cls") == [None, None, None]


def test_an_absent_active_term_in_one_iteration_of_a_window() -> None:
    combination, model = build_combination(TURNS, TERMS), TwoHeads()
    _step(combination, model, Progress(0, accumulation=2))
    assert _step(combination, model, Progress(1, accumulation=2), "loss_cls") == [1.5, 1, None]
    model.zero_grad()
    combination = build_combination(TURNS, TERMS)
    combination.set_progress(Progress(0))
    combination(model.losses())
    _step(combination, model, Progress(4, accumulation=2), "loss_cls")
    assert _step(combination, model, Progress(5, accumulation=2)) == [1.5, 1, None]


def test_held_where_nothing_is_held() -> None:
    combination, model = build_combination("Max", TERMS), TwoHeads()
    combination(model.losses())
    assert combination.held(model.parameters()) == []


def test_extras_keep_their_gradient_in_every_turn() -> None:
    combination, model = build_combination(TURNS, TERMS), TwoHeads()
    for t, (one, two) in enumerate([(2, 1), (1, 2)]):
        model.zero_grad()
        combination.set_progress(Progress(t))
        losses = {**model.losses(), "loss_extra": model.one + model.two}
        combination(losses).backward()
        one, two = one + (t == 0), two + (t == 1)
        assert combination.held(model.parameters()) == []
        assert _grads([model.one, model.two]) == [one, two]


# ---------------------------------------------------------------------------------- nested

HEADS = {
    "rpn.cls": "loss_rpn_cls",
    "rpn.loc": "loss_rpn_bbox",
    "roi.cls": "loss_cls",
    "roi.loc": "loss_bbox",
}


def _nested(outer: Any, rpn: Any, roi: Any) -> LossCombination:
    return build_combination(
        outer,
        {
            "rpn": {"combiner": rpn, "terms": {"cls": "loss_rpn_cls", "loc": "loss_rpn_bbox"}},
            "roi": {"combiner": roi, "terms": {"cls": "loss_cls", "loc": "loss_bbox"}},
        },
    )


def _run(combination: LossCombination, values: list[float]) -> tuple[float, list[float | None]]:
    leaves = _leaves(*values)
    root = combination(_entries(leaves, *HEADS.values()))
    root.backward()
    return root.item(), _grads(leaves)


def test_per_head_then_over_heads() -> None:
    combination = _nested("Product", "Sum", {"type": "Sum", "weights": {"cls": 1.0, "loc": 2.0}})
    assert combination.names == tuple(HEADS)
    value, grads = _run(combination, [1.0, 2.0, 4.0, 3.0])
    assert value == (1 + 2) * (4 + 2 * 3) and grads == [10, 10, 3, 6]


def test_a_leaf_beside_an_inner_combiner() -> None:
    combination = build_combination(
        "Product",
        {"x": "loss_x", "yz": {"combiner": "Product", "terms": {"y": "loss_y", "z": "loss_z"}}},
    )
    leaves = _leaves(2.0, 3.0, 5.0)
    root = combination(_entries(leaves, "loss_z", "loss_x", "loss_y"))
    root.backward()
    assert root == 30 and _grads(leaves) == [15, 10, 6]
    assert combination.names == ("x", "yz.y", "yz.z")


def test_three_levels() -> None:
    inner = {"combiner": "Product", "terms": {"y": "loss_y", "z": "loss_z"}}
    middle = {"combiner": {"type": "Sum", "weights": 3.0}, "terms": {"yz": inner, "x": "loss_x"}}
    combination = build_combination("SquaredSum", {"xyz": middle})
    leaves = _leaves(2.0, 3.0, 5.0)
    root = combination(_entries(leaves, "loss_x", "loss_y", "loss_z"))
    root.backward()
    outer = 2 * 3 * (2 + 15)
    assert root == (3 * 17) ** 2 and _grads(leaves) == [3 * outer, 15 * outer, 9 * outer]


def test_nested_learning_equals_combiners_run_by_hand() -> None:
    combination = _nested("FAMO", "UncertaintyWeighting", "Sum")
    inner, outer = UncertaintyWeighting(), FAMO()
    inner.bind(("cls", "loc"))
    outer.bind(("rpn", "roi"))
    both = torch.tensor([True, True])
    for t in range(20):
        values = [2.0 / (t + 1), 3.0, 1.0 + 0.1 * t, 0.5]
        rpn = inner.combine(torch.tensor(values[:2]), both)
        heads = torch.stack([rpn.value, torch.tensor(values[2]) + values[3]])
        expected = outer.combine(heads, both)
        inner.update(torch.tensor(values[:2]), both)
        outer.update(heads, both)
        weights = [*(expected.weights[0] * rpn.weights), *([expected.weights[1]] * 2)]
        value, grads = _run(combination, values)
        assert value == pytest.approx(expected.value.item(), rel=1e-6)
        assert grads == pytest.approx([w.item() for w in weights], rel=1e-6)
    assert outer.logits.abs().max() > 0.01 and inner.log_var.abs().max() > 0.01


def test_an_absent_head() -> None:
    combination = _nested("Product", "GeometricMean", "Sum")
    _run(combination, [1.0, 1.0, 1.0, 1.0])
    leaves = _leaves(4.0, 3.0)
    root = combination(_entries(leaves, "loss_cls", "loss_bbox"))
    root.backward()
    assert root == 7 and _grads(leaves) == [1, 1]


def test_heads_in_turns() -> None:
    combination = _nested({"type": "Alternating", "schedule": {"rpn": 1, "roi": 1}}, "Sum", "Sum")
    for t, expected in enumerate([[1, 1, None, None], [None, None, 1, 1]]):
        combination.set_progress(Progress(t))
        assert _run(combination, [1.0, 2.0, 3.0, 4.0])[1] == expected


def test_an_inactive_head_s_infinite_weights_do_not_enter() -> None:
    turns = {"type": "Alternating", "schedule": {"rpn": 1, "roi": 1}, "inactive": "zero"}
    combination = _nested(turns, "Sum", "SquaredSum")
    combination.set_progress(Progress(0))
    value, grads = _run(combination, [1.0, 2.0, 2e38, 2e38])
    assert value == 3 and grads == [1, 1, 0, 0]


def test_only_a_tree_of_plain_sums_is_the_plain_sum() -> None:
    assert _nested("Sum", "Sum", "Sum").is_plain_sum
    assert not _nested("Sum", "Sum", {"type": "Sum", "weights": 2.0}).is_plain_sum


# ------------------------------------------------------------------------------- the hook


@pytest.mark.parametrize(
    ("combiner", "options", "who"),
    [
        (TURNS, {}, "Alternating"),
        ("DWA", {}, "DWA"),
        ({"type": "FAMO", "recompute": True}, {}, "FAMO"),
        ("Max", {"on_nonfinite": "skip"}, "on_nonfinite='skip'"),
    ],
)
def test_what_needs_the_hook_says_so(combiner: Any, options: Mapping[str, Any], who: str) -> None:
    combination = build_combination(combiner, TERMS, hook_line="THE LINE", **options)
    with pytest.raises(LossweaveError, match=f"{who} needs the lossweave hook.*THE LINE"):
        combination(_entries(_leaves(1.0, 2.0), "loss_cls", "loss_bbox"))


@pytest.mark.parametrize("combiner", ["FAMO", "UncertaintyWeighting", "RandomWeighting"])
def test_what_is_inexact_without_the_hook_is_noted_once(combiner: str) -> None:
    combination = build_combination(combiner, TERMS, hook_line="THE LINE")
    notes = _said(combination)
    for _ in range(3):
        combination(_entries(_leaves(1.0, 2.0), "loss_cls", "loss_bbox"))
    assert len(notes) == 1
    assert "every backward counts as one optimizer update" in notes[0]
    assert notes[0].endswith("THE LINE")


def test_what_has_no_use_for_the_hook_is_silent() -> None:
    combination = build_combination("LpNorm", TERMS)
    notes = _said(combination)
    combination(_entries(_leaves(1.0, 2.0), "loss_cls", "loss_bbox"))
    assert notes == []


def test_without_the_hook_every_backward_is_an_update() -> None:
    combination = build_combination({"type": "RandomWeighting", "seed": 1}, TERMS)
    told = build_combination({"type": "RandomWeighting", "seed": 1}, TERMS)
    for t in range(4):
        entries = _entries(_leaves(1.0, 2.0), "loss_cls", "loss_bbox")
        combination(entries)  # whose root no backward reaches
        combination(entries).backward(retain_graph=True)
        told.set_progress(Progress(t))
        told(entries).backward()
        assert combination.last() == told.last()
        with torch.no_grad():
            combination(entries)  # somebody looks at a validation loss


def test_recomputed_losses_reach_the_combiner() -> None:
    combination = build_combination({"type": "FAMO", "recompute": True}, TERMS)
    by_hand = FAMO(recompute=True)
    by_hand.bind(tuple(TERMS))
    both = torch.tensor([True, True])
    assert combination.recomputes
    for t in range(5):
        combination.set_progress(Progress(t))
        combination(_entries(_leaves(1.0, 2.0), "loss_cls", "loss_bbox")).backward()
        combination.relearn({"loss_cls": torch.tensor(0.5), "loss_bbox": torch.tensor(1.9)})
        by_hand.update(torch.tensor([1.0, 2.0]), both)
        by_hand.relearn(torch.tensor([0.5, 1.9]), both)
    logits = combination.node.combiner.get_buffer("logits")
    assert torch.equal(logits, by_hand.logits) and logits.any()


# --------------------------------------------------------------------------- wrong options


@pytest.mark.parametrize(
    ("terms", "options", "message"),
    [
        (TERMS, {"extra": "drop"}, "extra='drop' should be one of add, error"),
        (TERMS, {"on_nonfinite": "ignore"}, "on_nonfinite='ignore' should be one of raise, skip"),
        ("tasks", {}, r"terms='tasks' should be 'task', 'head', 'loss', .*'auto' or a dict"),
        (["cls"], {}, r"terms=\['cls'\] should be 'task', 'head', 'loss', .*'auto' or a dict"),
        ({}, {}, "terms is empty"),
        ({"a": {"combiner": "Sum"}}, {}, "the nested term 'a' should be dict"),
        ({"a": {"combiner": "Sum", "terms": {}}}, {}, "the nested term 'a' should be dict"),
        ({"a": {"terms": {"b": "x"}, "weight": 1}}, {}, "the nested term 'a' should be dict"),
        ({"a.b": {"terms": {"c": "x"}}}, {}, "'a.b' cannot be the name of a nested term"),
        ({"update": {"terms": {"c": "x"}}}, {}, "'update' cannot be the name of a nested term"),
        ({"a": {"combiner": "Summ", "terms": {"b": "x"}}}, {}, "unknown combiner 'Summ'"),
        ({"rpn_loss": {"terms": {"b": "x"}}}, {}, "must not contain 'loss'"),
    ],
)
def test_wrong_terms_and_options(terms: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combination("Max", terms, **options)


def test_the_built_in_terms() -> None:
    assert build_combination("Max").names == ("cls", "loc")
    assert build_combination("Max", "head", rpn=True, roi=True).names == (
        "rpn_cls",
        "rpn_loc",
        "roi_cls",
        "roi_loc",
    )
    assert build_combination("Max", "head").names == ("cls", "loc")
