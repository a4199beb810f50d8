"""The optional faster evaluation gives the numbers of pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS

_CLASSES = ("cat", "dog", "hen")


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures: two of them empty, some objects crowds, one class in one picture alone."""
    draw = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    for image in range(1, 11):
        for place in range(int(draw.integers(1, 7))):
            x, y, w, h = (float(v) for v in np.round([*draw.uniform(0, 60, 2),
                                                      *draw.uniform(4, 60, 2)], 1))  # fmt: skip
            category = 3 if image == 1 and place == 0 else int(draw.integers(1, 3))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=category,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=int(place == 2),
                )
            )
    images = [dict(id=i, file_name=f"{i}.png", width=128, height=128) for i in range(1, 13)]
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(_CLASSES)]
    path = tmp_path_factory.mktemp("truth") / "truth.json"
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return path


def _found(truth: Path) -> list[dict[str, Any]]:
    """Detections by picture: objects moved a little, false ones, many of equal scores."""
    draw = np.random.default_rng(1)
    content = json.loads(truth.read_text())
    samples = []
    for image in content["images"]:
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        boxes, labels = [], []
        for one in own * 3:
            x, y, w, h = one["bbox"]
            moved = np.array([x, y, x + w, y + h]) + draw.normal(0, 2.0, 4)
            boxes.append(moved)
            labels.append(one["category_id"] - 1 if draw.random() < 0.9 else 0)
        for _ in range(0 if image["id"] == 12 else 4):  # the last picture has nothing at all
            x, y = draw.uniform(0, 80, 2)
            boxes.append(np.array([x, y, x + 20, y + 30]))
            labels.append(int(draw.integers(3)))
        count = len(boxes)
        samples.append(
            dict(
                img_id=image["id"],
                ori_shape=(128, 128),
                pred_instances=dict(
                    bboxes=torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32),
                    scores=torch.tensor(np.round(draw.random(count), 1), dtype=torch.float32),
                    labels=torch.tensor(labels, dtype=torch.long),
                ),
            )
        )
    return samples


def _scores(kind: str, truth: Path, samples: list[dict[str, Any]]) -> dict[str, float]:
    metric = METRICS.build(
        dict(type=kind, ann_file=str(truth), metric=["bbox", "proposal"], classwise=True)
    )
    metric.dataset_meta = dict(classes=_CLASSES)
    metric.process({}, samples)
    return dict(metric.evaluate(len(samples)))


def test_the_metric_says_the_same(truth: Path) -> None:
    samples = _found(truth)
    scores = [list(np.unique(s["pred_instances"]["scores"].numpy())) for s in samples]
    assert sum(map(len, scores)) < 100 < sum(len(s["pred_instances"]["scores"]) for s in samples)
    plain = _scores("CocoMetric", truth, samples)
    assert 0.1 < plain["coco/bbox_mAP"] < 0.9 and "coco/hen_precision" in plain
    np.testing.assert_equal(_scores("FasterCocoMetric", truth, samples), plain)


def test_precision_is_the_same_before_rounding(truth: Path) -> None:
    from faster_coco_eval import COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO(str(truth))
    rows = [
        dict(
            image_id=sample["img_id"],
            category_id=int(label) + 1,
            bbox=[float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])],
            score=float(score),
        )
        for sample in _found(truth)
        for b, score, label in zip(*sample["pred_instances"].values(), strict=True)
    ]
    found = coco.loadRes(rows)
    plain, fast = COCOeval(coco, found, "bbox"), COCOeval_faster(coco, found, "bbox")
    for evaluation in (plain, fast):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    for table in ("precision", "recall"):
        np.testing.assert_allclose(fast.eval[table], plain.eval[table], rtol=0, atol=1e-15)
    np.testing.assert_allclose(fast.stats[:12], plain.stats, rtol=0, atol=1e-12)
