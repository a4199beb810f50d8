"""Precision over recall by hand: three objects, boxes of known overlap."""

import json

import pytest

from lossweave.studies.precision_recall.curves import Curves, curves_of

_BOX = [10.0, 10.0, 20.0, 20.0]


@pytest.fixture
def truth(tmp_path):
    """Two pictures with one object each of class 1, one object of class 2."""
    content = {
        "info": {},
        "images": [{"id": i, "width": 100, "height": 100} for i in (0, 1, 2)],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": c, "bbox": _BOX, "area": 400, "iscrowd": 0}
            for i, c in ((0, 1), (1, 1), (2, 2))
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "none"}],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return path


def _found(tmp_path, boxes):
    path = tmp_path / "boxes.bbox.json"
    keys = ("image_id", "category_id", "score", "bbox")
    path.write_text(json.dumps([dict(zip(keys, box, strict=True)) for box in boxes]))
    return path


def _shifted(iou: float) -> list[float]:
    """The object's box shifted in x to this IoU."""
    overlap = 2 * iou / (1 + iou)
    return [10 + 20 * (1 - overlap), 10.0, 20.0, 20.0]


def test_a_perfect_detector_has_precision_one_everywhere(truth, tmp_path) -> None:
    boxes = [(0, 1, 0.9, _BOX), (1, 1, 0.8, _BOX), (2, 2, 0.7, _BOX)]
    curves = curves_of(truth, _found(tmp_path, boxes))
    assert all(curves.average(iou) == pytest.approx(1) for iou in (0.5, 0.6, 0.75))
    assert curves.recall_at(0.75, 0.9) == 1


def test_worse_boxes_count_at_the_ious_that_they_reach(truth, tmp_path) -> None:
    boxes = [(0, 1, 0.9, _shifted(0.65)), (1, 1, 0.8, _shifted(0.55)), (2, 2, 0.7, _BOX)]
    curves = curves_of(truth, _found(tmp_path, boxes))
    # Class a: both at 0.5; at 0.6 the first alone, so precision 1 to recall 0.5 and 0 beyond.
    assert curves.average(0.5) == pytest.approx(1)
    assert curves.average(0.6) == pytest.approx((51 / 101 + 1) / 2)
    assert curves.average(0.75) == pytest.approx(0.5)
    assert curves.precision_at(0.6, 0.9) == 0.5
    assert curves.recall_at(0.6, 0.9) == 0.5


def test_false_boxes_before_a_true_one_cost_precision(truth, tmp_path) -> None:
    boxes = [
        *((0, 1, 0.95, [50.0, 50.0, 10.0, 10.0]), (0, 1, 0.9, _BOX), (1, 1, 0.8, _BOX)),
        (2, 2, 0.7, _BOX),
    ]
    curves = curves_of(truth, _found(tmp_path, boxes))
    assert curves.precision_at(0.5, 0.5) == pytest.approx((2 / 3 + 1) / 2)
    assert curves.average(0.5) == pytest.approx((2 / 3 + 1) / 2)


def test_no_boxes_are_no_recall(truth, tmp_path) -> None:
    curves = curves_of(truth, _found(tmp_path, []))
    assert curves.average(0.5) == 0 and curves.recall_at(0.5, 0.5) == 0


def test_reading_a_curve() -> None:
    curves = Curves((tuple([1.0] * 31 + [0.6] * 70),) * 3)
    assert curves.recall_at(0.5, 0.9) == 0.3
    assert curves.recall_at(0.5, 0.6) == 1.0
    assert curves.recall_at(0.5, 1.01) == 0
    assert curves.precision_at(0.75, 0.3) == 1.0 and curves.precision_at(0.75, 0.31) == 0.6
