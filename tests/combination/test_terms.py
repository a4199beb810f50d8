"""Which raw losses make up which term."""

from typing import Any

import pytest

from lossweave.combination.terms import TermMap
from lossweave.errors import LossweaveError

# What the detectors of the two frameworks return, as (losses, cls, loc); the rest are extras.
BY_TASK: dict[str, tuple[list[str], list[str], list[str]]] = {
    "SSD, RetinaNet": (["loss_cls", "loss_bbox"], ["loss_cls"], ["loss_bbox"]),
    "Faster R-CNN": (
        ["loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox"],
        ["loss_rpn_cls", "loss_cls"],
        ["loss_rpn_bbox", "loss_bbox"],
    ),
    "Mask R-CNN": (
        ["loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"],
        ["loss_rpn_cls", "loss_cls"],
        ["loss_rpn_bbox", "loss_bbox"],
    ),
    "Cascade R-CNN": (
        ["loss_rpn_cls", "loss_rpn_bbox", "s0.loss_cls", "s0.loss_bbox", "s1.loss_cls"],
        ["loss_rpn_cls", "s0.loss_cls", "s1.loss_cls"],
        ["loss_rpn_bbox", "s0.loss_bbox"],
    ),
    "FCOS": (["loss_cls", "loss_bbox", "loss_centerness"], ["loss_cls"], ["loss_bbox"]),
    "GFL": (["loss_cls", "loss_bbox", "loss_dfl"], ["loss_cls"], ["loss_bbox", "loss_dfl"]),
    "YOLOX": (["loss_cls", "loss_bbox", "loss_obj", "loss_l1"], ["loss_cls"], ["loss_bbox"]),
    "YOLOv3": (["loss_cls", "loss_conf", "loss_xy", "loss_wh"], ["loss_cls"],
               ["loss_xy", "loss_wh"]),
    "DETR": (
        ["loss_cls", "loss_bbox", "loss_iou", "d0.loss_cls", "d0.loss_bbox", "enc_loss_iou"],
        ["loss_cls", "d0.loss_cls"],
        ["loss_bbox", "loss_iou", "d0.loss_bbox", "enc_loss_iou"],
    ),
    "CenterNet": (["loss_center_heatmap", "loss_wh", "loss_offset"], ["loss_center_heatmap"],
                  ["loss_wh", "loss_offset"]),
    "Detectron2 Faster R-CNN": (
        ["loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"],
        ["loss_cls", "loss_rpn_cls"],
        ["loss_box_reg", "loss_rpn_loc"],
    ),
    "Detectron2 RetinaNet": (["loss_cls", "loss_box_reg"], ["loss_cls"], ["loss_box_reg"]),
}


@pytest.mark.parametrize("detector", BY_TASK)
def test_by_task(detector: str) -> None:
    losses, cls, loc = BY_TASK[detector]
    terms = TermMap.by_task()
    terms.check(losses)
    found = terms.assign(losses)
    assert found.entries == (tuple(cls), tuple(loc))
    assert found.extra == tuple(n for n in losses if n not in (*cls, *loc))


@pytest.mark.parametrize(
    "losses",
    [
        ["loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox"],
        ["rpn_loss_cls", "rpn_loss_bbox", "loss_cls", "loss_bbox"],
        ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"],
    ],
)
def test_by_head(losses: list[str]) -> None:
    terms = TermMap.by_head(rpn=True, roi=True)
    terms.check(losses)
    assert terms.names == ("rpn_cls", "rpn_loc", "roi_cls", "roi_loc")
    assert terms.assign(losses).entries == tuple((name,) for name in losses)


def test_by_head_of_a_proposal_network_alone_and_of_one_stage() -> None:
    rpn = TermMap.by_head(rpn=True, roi=False)
    assert rpn.assign(["loss_rpn_cls", "loss_rpn_bbox"]).entries == (
        ("loss_rpn_cls",), ("loss_rpn_bbox",))
    assert TermMap.by_head(rpn=False, roi=False).names == ("cls", "loc")
    assert TermMap.by_head(rpn=False, roi=True).names == ("cls", "loc")


def test_the_first_term_that_matches_gets_an_entry() -> None:
    terms = TermMap({"one": "loss_a*", "all": ["loss_*"]})
    assert terms.assign(["loss_b", "loss_a1", "loss_a2"]).entries == (
        ("loss_a1", "loss_a2"), ("loss_b",))


def test_an_assignment_follows_the_entries_that_there_are() -> None:
    terms = TermMap({"cls": "loss_cls", "loc": "loss_bbox"})
    assert terms.assign(["loss_cls"]).entries == (("loss_cls",), ())
    assert terms.assign(["loss_bbox", "loss_x"]).entries == ((), ("loss_bbox",))
    assert terms.assign(["loss_bbox", "loss_x"]).extra == ("loss_x",)
    assert terms.assign(["loss_cls"]).extra == ()


@pytest.mark.parametrize(
    ("patterns", "losses", "message"),
    [
        ({"cls": "loss_clss", "loc": "loss_bbox"}, ["loss_cls", "loss_bbox"],
         r"pattern 'loss_clss' of term 'cls' matches nothing; the detector's losses are: "
         r"loss_cls, loss_bbox; did you mean 'loss_cls'\?"),
        ({"cls": ["loss_cls", "zzz"]}, ["loss_cls"], r"pattern 'zzz' of term 'cls'.*leading '\?'"),
        ({"cls": "loss_*", "loc": "loss_bbox"}, ["loss_cls", "loss_bbox"],
         "what it would match, 'loss_bbox', belongs to the earlier term 'cls' already"),
        ({"cls": "LOSS_CLS"}, ["loss_cls"], "pattern 'LOSS_CLS' of term 'cls' matches nothing"),
        ({"cls": "loss_cls"}, [], "the detector's losses are: none"),
    ],
)
def test_a_pattern_that_matches_nothing(
    patterns: dict[str, Any], losses: list[str], message: str
) -> None:
    with pytest.raises(LossweaveError, match=message):
        TermMap(patterns).check(losses)


def test_a_built_in_map_wants_something_for_every_term() -> None:
    with pytest.raises(LossweaveError, match=r"no entry for term 'loc'; .*name the terms in"):
        TermMap.by_task().check(["loss_cls", "loss_mask"])


def test_a_question_mark_marks_a_loss_that_comes_late() -> None:
    terms = TermMap({"loc": ["loss_bbox", "?loss_l1"], "late": "?loss_late"})
    terms.check(["loss_bbox"])
    assert terms.assign(["loss_bbox", "loss_l1", "loss_late"]).entries == (
        ("loss_bbox", "loss_l1"), ("loss_late",))


def test_terms_that_are_all_late_must_match_something() -> None:
    terms = TermMap({"one": "?loss_one", "two": ["?loss_two*"]})
    with pytest.raises(LossweaveError, match=r"no term has any loss: every pattern of one, two "
                       r"begins with '\?' and matches nothing; the detector's losses are: loss_x"):
        terms.check(["loss_x"])
    terms.check(["loss_two_b", "loss_x"])


def test_the_news_are_said_once() -> None:
    terms = TermMap.by_task()
    assert terms.news(["loss_cls", "s0.loss_bbox", "loss_bbox", "loss_mask"]) == [
        "terms: cls = loss_cls; loc = s0.loss_bbox + loss_bbox",
        "the losses ['loss_mask'] belong to no term and are added with weight 1; name them in "
        "`terms` to combine them",
    ]
    assert terms.news(["loss_mask", "loss_cls"]) == []
    assert terms.news(["loss_cls", "loss_dfl"]) == ["terms: loc = loss_dfl"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"a.b": "loss_x", "a_b": "loss_y"}, "'a.b' and 'a_b' have the same name in the log"),
        ({}, "terms is empty"),
        (["loss_cls"], r"terms=\['loss_cls'\] should be a dict"),
        ({"cls": []}, "'cls' takes a pattern or a list of patterns"),
        ({"cls": 5}, "'cls' takes a pattern or a list of patterns.*but is 5"),
        ({"cls": ["loss_cls", 5]}, "'cls' takes a pattern"),
        ({"cls": ""}, "'cls' takes a pattern"),
        ({"cls": "?"}, "'cls' takes a pattern"),
        ({"my term": "loss_cls"}, "'my term' is not a term name"),
        ({5: "loss_cls"}, "5 is not a term name"),
        ({"cls_loss": "loss_cls"}, "'cls_loss' must not contain 'loss'"),
    ],
)
def test_what_is_no_map(patterns: Any, message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        TermMap(patterns)


def test_it_shows_its_patterns() -> None:
    assert repr(TermMap({"cls": "loss_cls"})) == "TermMap({'cls': ('loss_cls',)})"
