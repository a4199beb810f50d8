"""Raw losses by the four terms of schedules."""

import pytest

from lossweave.combination.terms import TermMap
from lossweave.errors import LossweaveError
from lossweave.staged.losses import active_losses, check_terms, loss_names, sums_by_term

MMDET = ("loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox")
DETECTRON2 = ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")


@pytest.mark.parametrize("names", [MMDET, DETECTRON2])
def test_each_loss_has_its_term(names: tuple[str, ...]) -> None:
    values = dict(zip(names, (1.0, 2.0, 4.0, 8.0), strict=True))
    assert sums_by_term({**values, "loss_mask": 16.0}) == {
        "rpn_cls": 1.0, "rpn_loc": 2.0, "roi_cls": 4.0, "roi_loc": 8.0, "loss_mask": 16.0,
    }  # fmt: skip
    kept = active_losses({**values, "acc": 0.5}, ["rpn_loc", "roi_cls"])
    assert kept == {names[1]: 2.0, names[2]: 4.0, "acc": 0.5}
    assert active_losses(values, None) == values


def test_what_is_no_loss() -> None:
    assert loss_names(["loss_cls", "acc", "loss", "s0.loss_cls"]) == ["loss_cls", "s0.loss_cls"]


def test_terms_are_held_against_a_stage() -> None:
    entries = dict.fromkeys(MMDET[:2], 1.0)
    check_terms("rpn1", TermMap.by_task(), entries, entries)
    check_terms("rpn1", TermMap.by_view("loss"), entries, entries)
    with pytest.raises(LossweaveError, match="stage 'rpn1': no entry for term 'roi_cls'"):
        check_terms("rpn1", TermMap.by_head(rpn=True, roi=True), entries, entries)
