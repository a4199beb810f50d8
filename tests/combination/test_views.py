"""Terms that follow from the losses of the first training forward."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import views_ddp
from helpers.ranks import RANKS, spawn
from torch import Tensor, nn

from lossweave.combination import LossCombination, TermMap, build_combination
from lossweave.combination.views import VIEWS
from lossweave.combiners import combiner_names
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

AUTO_ASSIGN = ["loss_pos", "loss_neg", "loss_center"]
DETR = ["loss_cls", "loss_bbox", "d0.loss_cls", "d0.loss_bbox", "d1.loss_cls", "d1.loss_bbox"]
DWA = {"type": "DWA", "period": 1}


def _forward(combination: LossCombination, names: list[str], *values: float) -> list[Tensor]:
    leaves = [torch.tensor(v, requires_grad=True) for v in values or (1.0,) * len(names)]
    combination(dict(zip(names, leaves, strict=True))).backward()
    return leaves


@pytest.mark.parametrize(
    ("view", "losses", "terms"),
    [
        ("loss", AUTO_ASSIGN, {"pos": ["loss_pos"], "neg": ["loss_neg"],
                               "center": ["loss_center"]}),
        ("loss", ["loss_rpn_cls", "rpn_loss_cls", "positive_bag_loss", "loss", "d0.loss_iou"],
         {"rpn_cls": ["loss_rpn_cls"], "rpn_cls_2": ["rpn_loss_cls"],
          "positive_bag": ["positive_bag_loss"], "total": ["loss"], "d0_iou": ["d0.loss_iou"]}),
        ("loss", ["0_aux_loss_cls", "classification"],
         {"l0_aux_cls": ["0_aux_loss_cls"], "classification": ["classification"]}),
        ("layer", DETR, {"d0": DETR[2:4], "d1": DETR[4:], "last": DETR[:2]}),
        ("layer", ["enc_loss_cls", "loss_cls", "dn_loss_cls", "d0.dn_loss_cls", "d10.loss_cls",
                   "d2.loss_cls", "0_aux_loss_cls", "aux_enc_loss_cls"],
         {"enc": ["enc_loss_cls", "aux_enc_loss_cls"], "d0": ["d0.dn_loss_cls", "0_aux_loss_cls"],
          "d2": ["d2.loss_cls"], "d10": ["d10.loss_cls"], "last": ["loss_cls", "dn_loss_cls"]}),
        ("layer", ["loss_rpn_cls", "loss_rpn_bbox", "s0.loss_cls", "s1.loss_cls", "loss_seg"],
         {"rpn": ["loss_rpn_cls", "loss_rpn_bbox"], "s0": ["s0.loss_cls"], "s1": ["s1.loss_cls"],
          "rest": ["loss_seg"]}),
        ("layer", ["loss_rpn_cls", "loss_cls_stage0", "loss_box_reg_stage0", "loss_cls_stage1"],
         {"rpn": ["loss_rpn_cls"], "s0": ["loss_cls_stage0", "loss_box_reg_stage0"],
          "s1": ["loss_cls_stage1"]}),
        ("layer", ["loss_ce", "loss_ce_0", "loss_giou_0"],
         {"d0": ["loss_ce_0", "loss_giou_0"], "last": ["loss_ce"]}),
        ("level", ["loss_cls[0]", "loss_cls[1]", "loss_bbox[0]", "loss_bbox[1]", "loss_mask"],
         {"level0": ["loss_cls[0]", "loss_bbox[0]"], "level1": ["loss_cls[1]", "loss_bbox[1]"]}),
        ("head", ["loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"],
         {"rpn_cls": ["loss_objectness"], "rpn_loc": ["loss_rpn_box_reg"],
          "roi_cls": ["loss_classifier"], "roi_loc": ["loss_box_reg"]}),
        ("head", ["loss_rpn_cls", "loss_rpn_bbox"],
         {"rpn_cls": ["loss_rpn_cls"], "rpn_loc": ["loss_rpn_bbox"]}),
        ("head", ["loss_cls", "loss_bbox"], {"cls": ["loss_cls"], "loc": ["loss_bbox"]}),
        ("auto", ["loss_cls", "loss_bbox"], {"cls": ["loss_cls"], "loc": ["loss_bbox"]}),
        ("auto", ["loss_cls", "loss_mask"], {"cls": ["loss_cls"], "mask": ["loss_mask"]}),
    ],
)  # fmt: skip
def test_a_view_of_the_losses(view: str, losses: list[str], terms: dict[str, list[str]]) -> None:
    settled = TermMap.by_view(view).settled_for(losses)
    settled.check(losses)
    assigned = settled.assign(losses).entries
    assert dict(zip(settled.names, map(list, assigned), strict=True)) == terms
    assert settled.view == view


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ("layer", r"terms='layer' fits nothing: .*the detector's losses are: loss_cls, loss_x; "
                  "terms='loss' makes"),
        ("level", r"terms='level' fits nothing: .*the detector's losses are: loss_cls, loss_x; "
                  "terms='loss' makes"),
    ],
)  # fmt: skip
def test_a_view_that_fits_nothing_names_the_losses(view: str, message: str) -> None:
    combination = build_combination("Max", view)
    with pytest.raises(LossweaveError, match=message):
        _forward(combination, ["loss_cls", "loss_x"])


def test_terms_that_fit_nothing_name_the_losses_and_the_view_that_fits() -> None:
    with pytest.raises(LossweaveError, match=r"no entry for term 'cls'; the detector's losses are: "
                       "loss_pos, loss_neg, loss_center; .*terms='loss'"):  # fmt: skip
        _forward(build_combination("Sum", "task"), AUTO_ASSIGN)


@pytest.mark.parametrize("combiner", ["Sum", "Max", "UncertaintyWeighting", DWA, "PCGrad"])
@pytest.mark.parametrize("view", VIEWS)
def test_the_terms_are_settled_in_the_first_forward(combiner: Any, view: str) -> None:
    losses = {"loss": AUTO_ASSIGN, "layer": DETR, "level": ["loss_a[0]", "loss_a[1]"]}[view]
    combination = build_combination(combiner, view)
    assert combination.names == ()
    _forward(combination, losses)
    assert combination.names == tuple(VIEWS[view](losses))
    assert combination.combiner.terms == combination.names
    assert set(combination.last()) == set(combination.names)


def test_weights_in_the_order_of_the_losses() -> None:
    combination = build_combination({"type": "Sum", "weights": [1, 2, 3]}, "loss")
    leaves = _forward(combination, AUTO_ASSIGN)
    assert [leaf.grad.item() for leaf in leaves] == [1, 2, 3]
    combination = build_combination({"type": "Sum", "weights": [1, 2]}, "loss")
    with pytest.raises(LossweaveError, match=r"2 entries for the 3 terms \['pos', 'neg', 'cen"):
        _forward(combination, AUTO_ASSIGN)


@pytest.mark.parametrize(
    ("losses", "weights"),
    [
        (["loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox"], [1, 2, 3, 4]),
        (["loss_cls", "loss_bbox"], [1, 2]),
    ],
)
def test_arguments_for_the_heads_are_checked_when_the_heads_are_known(
    losses: list[str], weights: list[float]
) -> None:
    combiner = {"type": "Sum", "weights": weights}
    leaves = _forward(build_combination(combiner, "head", None, None), losses)
    assert [leaf.grad.item() for leaf in leaves] == weights
    known = build_combination(combiner, "head", rpn=len(losses) > 2, roi=len(losses) > 2)
    assert len(known.names) == len(weights)
    with pytest.raises(LossweaveError, match="entries for the"):
        build_combination(combiner, "head", rpn=len(losses) == 2, roi=True)


def test_a_loss_that_comes_late_is_no_term_and_is_announced() -> None:
    combination = build_combination("Max", "loss")
    said: list[str] = []
    combination.log = said.append
    _forward(combination, ["loss_a", "loss_b"])
    leaves = _forward(combination, ["loss_a", "loss_b", "loss_l1"], 1.0, 2.0, 3.0)
    assert [leaf.grad for leaf in leaves] == [0, 1, 1]
    assert said == [
        "terms: a = loss_a; b = loss_b",
        "the losses ['loss_l1'] belong to no term and are added with weight 1; name them in "
        "`terms` to combine them",
    ]


def test_auto_is_by_task_where_that_fits() -> None:
    combination = build_combination("UncertaintyWeighting", "auto")
    plain = build_combination("UncertaintyWeighting", "task")
    assert combination.names == plain.names == ("cls", "loc")
    for _ in range(3):
        _forward(combination, ["loss_cls", "loss_bbox"])
        _forward(plain, ["loss_cls", "loss_bbox"])
    ours, theirs = combination.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_auto_is_each_loss_where_task_fits_nothing_and_says_so_in_one_line() -> None:
    combination = build_combination("UncertaintyWeighting", "auto")
    said: list[str] = []
    combination.log = said.append
    combination.set_progress(Progress())
    _forward(combination, AUTO_ASSIGN)
    assert combination.names == ("pos", "neg", "center")
    assert len(said) == 2 and said[0].endswith("each of them is a term (terms='loss')")
    assert said[1] == "terms: pos = loss_pos; neg = loss_neg; center = loss_center"


# Convex has a share for each term, so it cannot have two terms and then three.
@pytest.mark.parametrize("name", [name for name in combiner_names() if name != "Convex"])
def test_every_combiner_is_given_other_terms_as_if_it_had_not_had_any(name: str) -> None:
    auto, fresh = build_combination(name, "auto"), build_combination(name, "loss")
    for combination in (auto, fresh):
        combination.set_progress(Progress(iterations_per_epoch=2, max_iterations=4))
        parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
        losses = {n: (parameter * (k + 1)).pow(2).sum() for k, n in enumerate(AUTO_ASSIGN)}
        combination(losses).backward()
    assert auto.combiner.terms == fresh.combiner.terms == ("pos", "neg", "center")
    ours, theirs = auto.state_dict(), fresh.state_dict()
    assert list(ours) == list(theirs)
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("view", ["loss", "auto"])
@pytest.mark.parametrize(
    "combiner",
    ["UncertaintyWeighting", DWA, "GradNorm", {"type": "PCGrad", "boundary": "representation"}],
)
def test_what_is_resumed_goes_on_as_it_was(combiner: Any, view: str) -> None:
    straight = build_combination(combiner, view)
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))

    def step(combination: LossCombination, at: int, names: list[str]) -> list[float]:
        combination.set_progress(Progress(iteration=at))
        parameter.grad = None
        shared = 1.0 * parameter
        if combination.boundary is not None:
            shared = combination.boundary.features(shared)
        losses = {n: (shared * (at + k + 1)).pow(2).sum() for k, n in enumerate(AUTO_ASSIGN)}
        combination({name: losses[name] for name in names}, model=None).backward()
        return parameter.grad.tolist()

    for at in range(3):
        step(straight, at, AUTO_ASSIGN)
    resumed = build_combination(combiner, view)
    missing, unexpected = resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
    assert not missing and not unexpected
    assert resumed.names == straight.names == ("pos", "neg", "center")
    for at, names in enumerate([AUTO_ASSIGN[:2], AUTO_ASSIGN], 3):  # its first batch lacks one
        assert step(resumed, at, names) == step(straight, at, names)
    ours, theirs = resumed.state_dict(), straight.state_dict()
    assert list(ours) == list(theirs)
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0, equal_nan=True)


def test_what_another_detector_learned_is_not_taken_over() -> None:
    theirs, ours = (build_combination("UncertaintyWeighting", "loss") for _ in range(2))
    _forward(theirs, ["loss_x", "loss_y"])
    ours.load_state_dict(theirs.state_dict())
    ours.set_progress(Progress())
    _forward(ours, AUTO_ASSIGN)
    assert ours.names == ("pos", "neg", "center")


@pytest.mark.parametrize("settle", [False, True])
def test_a_combination_with_a_view_is_copied_and_pickled(settle: bool) -> None:
    combination = build_combination("UncertaintyWeighting", "loss")
    if settle:
        _forward(combination, AUTO_ASSIGN)
    for other in (copy.deepcopy(combination), pickle.loads(pickle.dumps(combination))):
        _forward(other, AUTO_ASSIGN)
        assert other.names == ("pos", "neg", "center")


LISTS = {"loss_cls": [torch.tensor([1.0, 3.0]), torch.tensor(4.0)], "loss_bbox": torch.tensor(5.0)}


@pytest.mark.parametrize(
    ("terms", "expected", "extra"),
    [
        ({"a": "loss_cls[0]"}, {"a": ["loss_cls[0]"]}, ["loss_cls[1]", "loss_bbox"]),
        ({"a": "loss_cls[1]", "b": "loss_cls"}, {"a": ["loss_cls[1]"], "b": ["loss_cls[0]"]},
         ["loss_bbox"]),
        ({"a": "loss_*[0]", "b": "*"}, {"a": ["loss_cls[0]"], "b": ["loss_cls[1]", "loss_bbox"]},
         []),
        ({"a": ["?loss_cls[7]", "loss_cls[0]"], "b": "loss_bbox"},
         {"a": ["loss_cls[0]"], "b": ["loss_bbox"]}, ["loss_cls[1]"]),
        ({"a": "loss_cls", "b": "loss_bbox"}, {"a": ["loss_cls"], "b": ["loss_bbox"]}, []),
        ({"a": "loss_cls", "b": "loss_bbox[0]"}, None, []),
    ],
)  # fmt: skip
def test_a_list_is_addressed_by_level(
    terms: dict[str, Any], expected: dict[str, list[str]] | None, extra: list[str]
) -> None:
    term_map = TermMap(terms)
    entries = {"loss_cls": torch.tensor(6.0), "loss_bbox": torch.tensor(5.0)}
    split = term_map.split(entries, LISTS)
    if expected is None:
        with pytest.raises(LossweaveError, match=r"pattern 'loss_bbox\[0\]' of term 'b' matches"):
            term_map.check(split)
        return
    term_map.check(split)
    found = term_map.assign(split)
    assert dict(zip(term_map.names, map(list, found.entries), strict=True)) == expected
    assert list(found.extra) == extra
    if "loss_cls[0]" in split:
        assert split["loss_cls[0]"] == 2 and split["loss_cls[1]"] == 4
    else:
        assert split["loss_cls"] == 6


def test_ranks_whose_first_batches_differ_have_the_same_terms(tmp_path: Path) -> None:
    spawn(views_ddp.work, str(tmp_path))
    files = [tmp_path / f"rank{rank}.pt" for rank in range(RANKS)]
    for one, other in zip(*(torch.load(f, weights_only=True) for f in files), strict=True):
        assert one[0] == other[0] == ("a", "b", "c")
        assert list(one[1]) == list(other[1])
        assert all(torch.equal(one[1][key], other[1][key]) for key in one[1])
        assert all(torch.equal(a, b) for a, b in zip(one[2], other[2], strict=True))
