"""Average recall, against COCO's own evaluation."""

import contextlib
import io
import math

import numpy as np
import pytest

from lossweave.staged.recall import average_recall, overlaps


def _scene(seed: int = 0, images: int = 12) -> tuple[dict, dict]:
    rng = np.random.default_rng(seed)
    objects, proposals = {}, {}
    for image in range(images):
        corner, size = rng.random((1 + image % 4, 2)) * 60, 10 + rng.random((1 + image % 4, 2)) * 30
        objects[str(image)] = np.concatenate([corner, corner + size], axis=1)
        near = np.repeat(objects[str(image)], 5, axis=0) + rng.normal(0, 4, (5 + image % 4 * 5, 4))
        far = rng.random((30, 4)) * 40 + [0, 0, 45, 45]
        found = np.concatenate([near, far])
        proposals[str(image)] = found[rng.permutation(len(found))]
    return objects, proposals


def test_against_coco() -> None:
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    objects, proposals = _scene()
    whole = coco.COCO()
    boxes = [(int(i), b) for i, found in objects.items() for b in found]
    whole.dataset = dict(
        images=[dict(id=int(i)) for i in objects],
        categories=[dict(id=1)],
        annotations=[
            dict(
                id=n + 1, image_id=i, category_id=1, iscrowd=0,
                bbox=[b[0], b[1], b[2] - b[0], b[3] - b[1]], area=float(np.prod(b[2:] - b[:2])),
            )
            for n, (i, b) in enumerate(boxes)
        ],
    )  # fmt: skip
    results = [
        dict(
            image_id=int(i), category_id=1, score=1.0 - n / 1000,
            bbox=[b[0], b[1], b[2] - b[0], b[3] - b[1]],
        )
        for i, found in proposals.items()
        for n, b in enumerate(found)
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        whole.createIndex()
        judge = evaluation.COCOeval(whole, whole.loadRes(results), "bbox")
        judge.params.useCats, judge.params.maxDets = 0, [1, 10, 40]
        judge.evaluate()
        judge.accumulate()
    theirs = judge.eval["recall"][:, 0, 0, :].mean(axis=0)
    ours = average_recall(objects, proposals, counts=(1, 10, 40))
    # COCO pairs by score, we by overlap: a pair more or less in 30 objects and 10 thresholds.
    assert list(ours.values()) == pytest.approx(theirs, abs=0.011)
    assert ours["AR@1"] < ours["AR@10"] < ours["AR@40"]


def test_against_mmdet() -> None:
    recall = pytest.importorskip("mmdet.evaluation.functional.recall")
    objects, proposals = _scene(1)
    thresholds = np.arange(0.5, 1.0, 0.05)
    found = [
        np.concatenate([p, np.linspace(1, 0, len(p))[:, None]], axis=1) for p in proposals.values()
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = [
            recall._recalls(
                _ragged(
                    [overlaps(o, p[:, :4]) for o, p in zip(objects.values(), found, strict=True)]
                ),
                np.array([n]),
                thresholds,
            ).mean()
            for n in (5, 20)
        ]
    assert list(average_recall(objects, proposals, (5, 20)).values()) == pytest.approx(theirs)


def _ragged(arrays: list) -> np.ndarray:
    made = np.empty(len(arrays), dtype=object)
    made[:] = arrays
    return made


def test_worked_example() -> None:
    objects = {"a": np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]]), "b": np.zeros((0, 4))}
    good, half = [0.0, 0, 10, 10], [20.0, 0, 30, 5.2]
    found = average_recall(objects, {"a": np.array([good, half])}, counts=(1, 2))
    assert found == pytest.approx({"AR@1": 0.5, "AR@2": (10 + 1) / 20})


def test_one_proposal_serves_one_object() -> None:
    twice = {"a": np.array([[0.0, 0, 10, 10], [0, 0, 10, 10]])}
    assert average_recall(twice, {"a": np.array([[0.0, 0, 10, 10]])}, (9,))["AR@9"] == 0.5


def test_nothing_there() -> None:
    box = np.array([[0.0, 0, 1, 1]])
    assert average_recall({"a": box}, {}, (9,))["AR@9"] == 0
    assert math.isnan(average_recall({}, {"a": box}, (9,))["AR@9"])
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]
