"""What a sheet of pictures shows."""

from pathlib import Path

import numpy as np
from helpers.synthetic_runs import write_coco
from PIL import Image

from lossweave.studies.demo.sheet import Box, draw_sheet, judge


def test_each_true_box_is_matched_once() -> None:
    there = [Box(0, 0, 10, 10, "3")]
    found = judge([Box(0, 0, 10, 9, "3", 0.6), Box(0, 0, 10, 10, "3", 0.9)], there)
    assert [box.score for box in found.right] == [0.9]
    assert [box.score for box in found.wrong] == [0.6]
    assert not found.missed


def test_a_detection_takes_the_box_it_overlaps_most() -> None:
    near, far = Box(0, 0, 10, 10, "3"), Box(3, 0, 10, 10, "3")
    found = judge([Box(3, 0, 10, 10, "3", 0.9), Box(0, 0, 10, 10, "3", 0.8)], [near, far])
    assert len(found.right) == 2


def test_wrong_class_and_wrong_place() -> None:
    there = [Box(0, 0, 10, 10, "3")]
    found = judge([Box(0, 0, 10, 10, "8", 0.9), Box(8, 8, 10, 10, "3", 0.8)], there)
    assert len(found.wrong) == 2 and found.missed == tuple(there)


def test_sheet(tmp_path: Path) -> None:
    truth, results = write_coco(tmp_path)
    path = draw_sheet(
        tmp_path / "sheet.png", truth, tmp_path / "images", {"Sum": results, "DWA": results}
    )
    picture = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    colors = {tuple(color) for color in picture[::1].tolist()}
    assert len(colors) > 20
    green = np.abs(picture.astype(int) - (0x2B, 0xE0, 0x5A)).sum(1).min()
    red = np.abs(picture.astype(int) - (0xFF, 0x41, 0x36)).sum(1).min()
    assert green < 40 and red < 40  # one picture found, one taken for a dog
