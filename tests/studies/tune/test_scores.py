"""AP from detections is pycocotools' own, over all pictures and over some of them."""

import contextlib
import io
import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lossweave.errors import LossweaveError
from lossweave.studies.tune.scores import GROUPS, paired_difference, quality_of


def _files(folder: Path, pictures: int = 40) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    images, boxes, found = [], [], []
    for i in range(pictures):
        images.append(dict(id=i, width=100, height=100, file_name=f"{i}.png"))
        for _ in range(int(rng.integers(0, 4))):
            x, y, w, h = (float(v) for v in rng.uniform(5, 40, 4))
            label = int(rng.integers(0, 3))
            crowd = int(rng.random() < 0.1)
            boxes.append(dict(id=len(boxes) + 1, image_id=i, category_id=label,
                              bbox=[x, y, w, h], area=w * h, iscrowd=crowd))  # fmt: skip
            for _ in range(int(rng.integers(0, 3))):
                moved = [x + rng.normal(0, 3), y + rng.normal(0, 3), w, h]
                guess = label if rng.random() < 0.8 else int(rng.integers(0, 3))
                found.append(dict(image_id=i, category_id=guess, bbox=moved,
                                  score=round(float(rng.random()), 2)))  # fmt: skip
    categories = [dict(id=k, name=name) for k, name in enumerate("abc")]
    truth = dict(images=images, annotations=boxes, categories=categories)
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(found))
    return folder / "found.json", folder / "truth.json"


def _reference(
    found: Path, truth: Path, pictures: list[int], classes: list[int]
) -> tuple[float, float, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(found)), "bbox")
        evaluation.params.imgIds, evaluation.params.catIds = pictures, classes
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return tuple(evaluation.stats[:3])


def test_all_pictures_and_all_but_a_group(tmp_path: Path) -> None:
    found, truth = _files(tmp_path)
    quality = quality_of(found, truth)
    pictures = list(range(40))
    expected = _reference(found, truth, pictures, [0, 1, 2])
    assert 0.05 < quality.ap < 0.9
    assert (quality.ap, quality.ap50, quality.ap75) == pytest.approx(expected)
    for group in (0, 7):
        kept = [i for i in pictures if i % GROUPS != group]
        expected = _reference(found, truth, kept, [0, 1, 2])
        here = [quality.left_out[m][group] for m in ("ap", "ap50", "ap75")]
        assert here == pytest.approx(expected)


def test_some_classes(tmp_path: Path) -> None:
    found, truth = _files(tmp_path)
    quality = quality_of(found, truth, ["a", "c"])
    assert quality.ap == pytest.approx(_reference(found, truth, list(range(40)), [0, 2])[0])


def test_no_detections_are_worth_nothing(tmp_path: Path) -> None:
    found, truth = _files(tmp_path)
    found.write_text("[]")
    quality = quality_of(found, truth)
    assert (quality.ap, quality.ap50, quality.ap75) == (0.0, 0.0, 0.0)
    assert quality.left_out["ap"] == (0.0,) * GROUPS


@pytest.mark.parametrize("text", ["{", '[{"image_id": 0}]', '[{"image_id": 999, "bbox": [1]}]'])
def test_files_of_another_format(tmp_path: Path, text: str) -> None:
    found, truth = _files(tmp_path)
    found.write_text(text)
    with pytest.raises(LossweaveError, match="not in COCO's format") as refused:
        quality_of(found, truth)
    assert "\n" not in str(refused.value)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """Of G numbers, leaving one out: the classic s / sqrt(G)."""
    values = np.random.default_rng(0).normal(size=10)
    without = [(values.sum() - v) / 9 for v in values]
    mean, error = paired_difference(without, [0.0] * 10)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / sqrt(10))


def test_a_difference_that_all_pictures_share_is_sure() -> None:
    a = np.random.default_rng(0).normal(size=10)
    assert paired_difference(list(a + 0.02), list(a)) == (pytest.approx(0.02), pytest.approx(0))
    with pytest.raises(LossweaveError, match="make no pair"):
        paired_difference([1.0], [1.0, 2.0])
