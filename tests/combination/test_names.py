"""Every loss name in the frameworks' code, with the term that it belongs to."""

from importlib.metadata import version

import pytest
from helpers.loss_names import PLACES, loss_names

from lossweave.combination.names import HEAD_TERMS, TASK_TERMS
from lossweave.combination.terms import TermMap

# By name, its term by head, or None where it belongs to none; by task it is that of the same
# ending. What a framework's code makes and what it is called after it went through the part of
# a detector that renames it ('s0.', 'rpn_', '_stage0', ...) are both here.
MMDET = {
    "aux_loss_bbox": "roi_loc", "aux_loss_cls": "roi_cls", "ce_loss": None,
    "centripetal_loss": None, "cls_loss": None, "det_loss": "roi_cls",
    "dn_loss_bbox": "roi_loc", "dn_loss_cls": "roi_cls", "dn_loss_iou": "roi_loc",
    "d{}.dn_loss_bbox": "roi_loc", "d{}.dn_loss_cls": "roi_cls", "d{}.dn_loss_iou": "roi_loc",
    "d{}.loss_bbox": "roi_loc", "d{}.loss_cls": "roi_cls", "d{}.loss_dice": None,
    "d{}.loss_iou": "roi_loc", "d{}.loss_mask": None, "enc_loss_bbox": "roi_loc",
    "enc_loss_cls": "roi_cls", "enc_loss_iou": "roi_loc", "guiding_loss": None,
    "iou_loss": None, "loss": None, "loss_anchor_loc": None, "loss_anchor_shape": None,
    "loss_bbox": "roi_loc", "loss_bbox_cls": "roi_loc", "loss_bbox_reg": "roi_loc",
    "loss_bbox_rf": "roi_loc", "loss_carl": None, "loss_center": None,
    "loss_center_heatmap": "roi_cls", "loss_centerness": None, "loss_cls": "roi_cls",
    "loss_cls_classes": "roi_cls", "loss_cls_objectness": "roi_cls", "loss_conf": None,
    "loss_dfl": "roi_loc", "loss_dice": None, "loss_glbctx": None, "loss_grid": None,
    "loss_iou": "roi_loc", "loss_l1": None, "loss_ld": None, "loss_loc": "roi_loc",
    "loss_mask": None, "loss_mask_iou": None, "loss_mask_pairwise": None,
    "loss_mask_project": None, "loss_match": None, "loss_neg": None, "loss_obj": None,
    "loss_offset": "roi_loc", "loss_point": None, "loss_pos": None, "loss_pts_init": "roi_loc",
    "loss_pts_refine": "roi_loc", "loss_rcnn_emd": None, "loss_rcnn_emd_ref": None,
    "loss_rpn_bbox": "rpn_loc", "loss_rpn_cls": "rpn_cls", "loss_rpn_reg": "rpn_loc",
    "loss_seg": None, "loss_segm": None, "loss_semantic_seg": None, "loss_shape": None,
    "loss_track": None, "loss_track_aux": None, "loss_wh": "roi_loc", "loss_xy": "roi_loc",
    "negative_bag_loss": None, "off_loss": "roi_loc", "positive_bag_loss": None,
    "pull_loss": None, "push_loss": None, "reg_xytl_loss": None, "seg_loss": None,
    "triplet_loss": None,
}  # fmt: skip
DETECTRON2 = {
    "loss_box_reg": "roi_loc", "loss_center": None, "loss_cls": "roi_cls",
    "loss_fcos_cls": "roi_cls", "loss_fcos_ctr": None, "loss_fcos_loc": "roi_loc",
    "loss_keypoint": None, "loss_l2": None, "loss_mask": None, "loss_mask_point": None,
    "loss_offset": "roi_loc", "loss_rpn_cls": "rpn_cls", "loss_rpn_loc": "rpn_loc",
    "loss_sem_seg": None, "loss_sem_seg_point": None,
}  # fmt: skip
TORCHVISION = {
    "bbox_ctrness": None, "bbox_regression": "roi_loc", "classification": "roi_cls",
    "loss_box_reg": "roi_loc", "loss_classifier": "roi_cls", "loss_keypoint": None,
    "loss_mask": None, "loss_objectness": "rpn_cls", "loss_rpn_box_reg": "rpn_loc",
}  # fmt: skip
RENAMED = {
    "rpn_loss_cls": "rpn_cls", "rpn_loss_bbox": "rpn_loc", "rpn_loss_center_heatmap": "rpn_cls",
    "rpn_loss_iou": "rpn_loc", "rpn_loss_centerness": None, "rpn_loss_wh": "rpn_loc",
    "s0.loss_rpn_reg": "rpn_loc", "s1.loss_rpn_cls": "rpn_cls", "s2.loss_mask": None,
    "s0.loss_cls": "roi_cls", "s2.loss_bbox": "roi_loc", "s1.loss_bbox_reg": "roi_loc",
    "stage0_loss_iou": "roi_loc", "sup_loss_cls": "roi_cls", "unsup_loss_bbox": "roi_loc",
    "sup_loss_rpn_cls": "rpn_cls", "unsup_rpn_loss_bbox": "rpn_loc", "unsup_loss_mask": None,
    "aux_enc_loss_cls": "roi_cls", "0_aux_loss_bbox": "roi_loc", "0_aux_aux_loss_cls": "roi_cls",
    "loss_cls_stage2": "roi_cls", "loss_box_reg_stage0": "roi_loc", "loss_mask_stage0": None,
    "loss_fcos_loc_stage1": "roi_loc", "loss_class_0": "roi_cls", "loss_giou_4": "roi_loc",
    "loss_class_enc": "roi_cls", "loss_giou_dn_3": "roi_loc",
}  # fmt: skip
#: Names that only begin, or end, like one of the above.
ALIKE = [
    "loss_region_distill", "loss_regularization", "loss_whatever", "loss_local_adv",
    "loss_position", "loss_posture", "loss_regnet", "loss_reg_weight", "loss_locality",
    "loss_white_noise", "loss_xyz", "loss_iou_aware", "loss_ious", "loss_offsets_smooth",
    "loss_clsx", "loss_classes_balance", "loss_clip", "loss_boxinst", "loss_dflow",
    "loss_ptsd", "loss_class_balance", "loss_rpn_region", "loss_rpn_local", "rpn_loss_whatever",
    "loss_wh_regularization", "loss_detector_l2", "undet_loss", "soft_loss",
]  # fmt: skip
TABLES = {"mmdet": MMDET, "detectron2": DETECTRON2, "torchvision": TORCHVISION}
DISTRIBUTIONS = {"mmdet": ("onedl-mmdetection", "3.5.1"), "torchvision": ("torchvision", "0.26.0")}


def _terms(name: str) -> tuple[str | None, str | None]:
    """The name's term by task and by head."""
    found = []
    for terms in (TermMap.by_task(), TermMap.by_head(rpn=True, roi=True)):
        claimed = terms.assign([name]).entries
        found.append(next((t for t, e in zip(terms.names, claimed, strict=True) if e), None))
    return found[0], found[1]


@pytest.mark.parametrize("table", [*TABLES.values(), RENAMED], ids=[*TABLES, "renamed"])
def test_each_name_goes_to_its_term(table: dict[str, str | None]) -> None:
    wrong = {}
    for written, head in table.items():
        name = written.format(3)
        expected = (head and head.removeprefix("rpn_").removeprefix("roi_"), head)
        if _terms(name) != expected:
            wrong[name] = (_terms(name), expected)
    assert wrong == {}


@pytest.mark.parametrize("package", TABLES)
def test_no_name_in_the_installed_code_is_missing_from_the_table(package: str) -> None:
    pytest.importorskip(package, reason="the framework is an extra")
    found = loss_names(package)
    assert len(found) >= 9
    assert {n: found[n] for n in found if n not in TABLES[package]} == {}
    distribution, of = DISTRIBUTIONS.get(package, ("", ""))
    if distribution and _version(distribution) == of:
        assert set(TABLES[package]) == set(found)


def _version(distribution: str) -> str:
    try:
        return version(distribution).split("+")[0]
    except ModuleNotFoundError:
        return ""


@pytest.mark.parametrize("name", ALIKE)
def test_names_that_only_look_alike_belong_to_no_term(name: str) -> None:
    assert _terms(name) == (None, None)


def test_the_terms_of_the_one_table() -> None:
    assert tuple(HEAD_TERMS) == ("rpn_cls", "rpn_loc", "roi_cls", "roi_loc")
    assert tuple(TASK_TERMS) == ("cls", "loc")
    assert all(PLACES[package] for package in TABLES)


def test_the_reader_sees_every_way_to_write_a_key(tmp_path, monkeypatch) -> None:
    package = tmp_path / "toyframework"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it was imported')")
    (package / "models" / "head.py").write_text(
        "class Head:\n"
        "    def __init__(self, options=dict(loss_a=dict(type='L'), loss_weight=1.0)): ...\n"
        "    def loss(self, i, losses, x):\n"
        "        losses['loss_set'] = x\n"
        "        losses[f'd{i}.loss_f'] = x\n"
        "        losses['loss_list'].append(x)\n"
        "        losses.update(loss_up=x, acc=x)\n"
        "        losses.update({'loss_lit': x})\n"
        "        return dict(loss_kw=x, norm=x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PLACES, "toyframework", ("models",))
    assert list(loss_names("toyframework")) == [
        "d{}.loss_f", "loss_kw", "loss_list", "loss_lit", "loss_set", "loss_up"]
