"""The errors of boxes by hand."""

import json

import pytest

from lossweave.studies.box_losses.errors import box_errors


@pytest.fixture
def measured(tmp_path):
    """Measures detections (picture, class, score, box) against objects (picture, class, box)."""

    def measure(objects, found):
        keys = ("image_id", "category_id", "bbox")
        truth = [dict(zip(keys, one, strict=True)) for one in objects]
        boxes = [
            dict(image_id=p, category_id=c, score=score, bbox=box) for p, c, score, box in found
        ]
        (tmp_path / "truth.json").write_text(json.dumps({"annotations": truth}))
        (tmp_path / "boxes.json").write_text(json.dumps(boxes))
        return box_errors(tmp_path / "truth.json", tmp_path / "boxes.json")

    return measure


OBJECT = (0, 1, [10.0, 10.0, 20.0, 20.0])


def test_a_box_that_is_moved_by_a_tenth_of_its_side(measured) -> None:
    errors = measured([OBJECT], [(0, 1, 0.9, [12.0, 10.0, 20.0, 20.0])])
    assert errors.objects == 1
    assert errors.sides == pytest.approx((0.05,))  # two of four sides by 2 of 20
    assert errors.overlap == pytest.approx((1 - 360 / 440,))
    assert errors.as_dict() == {"objects": 1, "sides": [50], "overlap": [182]}


def test_another_class_another_picture_and_too_little_overlap_are_not_found(measured) -> None:
    far = [26.0, 26.0, 20.0, 20.0]  # IoU 16 / 784
    found = [(0, 2, 0.9, OBJECT[2]), (1, 1, 0.9, OBJECT[2]), (0, 1, 0.9, far)]
    errors = measured([OBJECT], found)
    assert (errors.objects, errors.sides) == (1, ())


def test_the_highest_score_stands_for_an_object_and_others_for_none(measured) -> None:
    better = (0, 1, 0.5, OBJECT[2])
    errors = measured([OBJECT], [better, (0, 1, 0.8, [14.0, 10.0, 20.0, 20.0])])
    assert errors.sides == pytest.approx((0.1,))
    two = [OBJECT, (0, 1, [14.0, 10.0, 20.0, 20.0])]
    errors = measured(two, [better, (0, 1, 0.8, [14.0, 10.0, 20.0, 20.0])])
    assert errors.objects == 2 and errors.sides == (0.0, 0.0)


def test_no_boxes(measured) -> None:
    assert measured([OBJECT], []).sides == ()
