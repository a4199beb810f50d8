"""Gross errors of boxes: how many, how gross, and the same ones whenever a picture is read."""

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps

from lossweave.errors import LossweaveError
from lossweave.mmdet.box_errors import GrossBoxErrors, misplaced


def boxes(count: int = 400, size: int = 100) -> np.ndarray:
    generator = np.random.default_rng(0)
    sides = generator.uniform(8, 40, (count, 2))
    low = generator.uniform(0, size - sides)
    return np.concatenate([low, low + sides], axis=1)


def picture(name: int = 0) -> dict:
    found = HorizontalBoxes(torch.tensor(boxes(), dtype=torch.float32))
    return dict(img_id=name, img_shape=(100, 100), gt_bboxes=found)


def wrong_of(share: float, name: int = 0, seed: int = 0) -> np.ndarray:
    found = GrossBoxErrors(share, seed)(picture(name))["gt_bboxes"].tensor
    return (found != picture()["gt_bboxes"].tensor).any(dim=1).numpy()


def test_a_misplaced_box_hardly_covers_its_object() -> None:
    moved = misplaced(boxes(), (100, 100), np.random.default_rng(1))
    one, other = (torch.tensor(b) for b in (boxes(), moved))
    overlap = bbox_overlaps(one, other, is_aligned=True)
    assert overlap.max() < 0.5
    assert overlap.mean() < 0.15
    assert (moved >= 0).all() and (moved <= 100).all()
    assert ((moved[:, 2:] - moved[:, :2]) >= 1).all()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 1.0])
def test_the_share_is_wrong_and_the_rest_untouched(share) -> None:
    found = np.mean([wrong_of(share, name).mean() for name in range(10)])
    assert abs(found - share) < 0.012
    if share in (0.0, 1.0):
        assert found == share


def test_the_same_boxes_each_time_and_others_elsewhere() -> None:
    assert (wrong_of(0.2) == wrong_of(0.2)).all()
    first, second = (GrossBoxErrors(0.2)(picture())["gt_bboxes"].tensor for _ in range(2))
    assert torch.equal(first, second)
    assert (wrong_of(0.2) != wrong_of(0.2, name=1)).any()
    assert (wrong_of(0.2) != wrong_of(0.2, seed=1)).any()


def test_a_larger_share_has_the_errors_of_a_smaller_one() -> None:
    few, many = (GrossBoxErrors(s)(picture())["gt_bboxes"].tensor for s in (0.05, 0.2))
    wrong = torch.from_numpy(wrong_of(0.05))
    assert torch.equal(few[wrong], many[wrong])
    assert wrong.sum() < wrong_of(0.2).sum()


def test_the_input_is_left_alone_and_arrays_and_empty_pictures_pass() -> None:
    given = picture()
    GrossBoxErrors(1.0)(given)
    assert torch.equal(given["gt_bboxes"].tensor, picture()["gt_bboxes"].tensor)
    array = dict(given, gt_bboxes=boxes().astype(np.float32))
    assert isinstance(GrossBoxErrors(1.0)(array)["gt_bboxes"], np.ndarray)
    none = dict(given, gt_bboxes=HorizontalBoxes(torch.zeros(0, 4)))
    assert len(GrossBoxErrors(1.0)(none)["gt_bboxes"]) == 0


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), "half", None, True])
def test_a_wrong_share_is_refused_in_one_line(share) -> None:
    with pytest.raises(LossweaveError, match=r"share .* should be in \[0, 1\]"):
        GrossBoxErrors(share)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", True])
def test_a_wrong_seed_is_refused_in_one_line(seed) -> None:
    with pytest.raises(LossweaveError, match=r"seed .* should be an integer from 0 on"):
        GrossBoxErrors(0.1, seed)


def test_it_is_part_of_a_pipeline(make_config, train) -> None:
    cfg = make_config("retinanet", "Sum", "wrong", iterations=1)
    pipeline = cfg.train_dataloader.dataset.pipeline
    at = next(i for i, t in enumerate(pipeline) if t["type"] == "LoadAnnotations")
    pipeline.insert(at + 1, dict(type="lossweave.GrossBoxErrors", share=1.0))
    runner = train(cfg)
    assert any(
        isinstance(t, GrossBoxErrors) for t in runner.train_dataloader.dataset.pipeline.transforms
    )
