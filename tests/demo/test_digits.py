"""The demo data: deterministic, disjoint splits, valid COCO, never half written."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from lossweave.demo import DemoData, digits, make_demo_data
from lossweave.demo.render import Difficulty, Instance, _digit_mask, render
from lossweave.demo.sources import CLASSES, SPLITS, load_sources

TOOL = Path(__file__).parents[2] / "tools" / "make_demo_data.py"
SMALL: dict[str, Any] = {"train": 12, "val": 4, "test": 3, "size": 96, "progress": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return make_demo_data(tmp_path_factory.mktemp("demo") / "set", **SMALL)


def _bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def _draw(
    split: str, index: int, difficulty: float = 0.5
) -> tuple[NDArray[np.uint8], list[Instance]]:
    return render(load_sources(0)[split], split, index, 96, difficulty, 0)


def test_same_arguments_give_the_same_bytes(data: DemoData, tmp_path: Path) -> None:
    again = make_demo_data(tmp_path / "again", **SMALL)
    assert _bytes(again.root) == _bytes(data.root)


def test_the_same_bytes_in_another_process(data: DemoData, tmp_path: Path) -> None:
    arguments = [f"--{name}={SMALL[name]}" for name in ("train", "val", "test", "size")]
    command = [sys.executable, str(TOOL), "--quiet", "--root", str(tmp_path / "set"), *arguments]
    subprocess.run(command, check=True, capture_output=True, env=_environment())
    assert _bytes(tmp_path / "set") == _bytes(data.root)


def test_a_smaller_set_is_the_beginning_of_a_larger_one(data: DemoData, tmp_path: Path) -> None:
    fewer = make_demo_data(tmp_path / "fewer", **{**SMALL, "train": 5})
    for picture in fewer.images("train").iterdir():
        assert picture.read_bytes() == (data.images("train") / picture.name).read_bytes()
    small = json.loads(fewer.annotations("train").read_text())
    large = json.loads(data.annotations("train").read_text())
    for key in ("images", "annotations"):
        assert small[key] == large[key][: len(small[key])]
    assert _bytes(fewer.images("val")) == _bytes(data.images("val"))


def test_seed_split_index_and_difficulty_change_the_picture() -> None:
    picture, _ = _draw("train", 0)
    sources = load_sources(1)["train"]
    others = [
        _draw("val", 0)[0],
        _draw("train", 1)[0],
        _draw("train", 0, 0.6)[0],
        render(sources, "train", 0, 96, 0.5, 1)[0],
    ]
    assert all(not np.array_equal(picture, other) for other in others)


@pytest.mark.parametrize("seed", [0, 7])
def test_splits_share_no_digit_and_no_photo_region(seed: int) -> None:
    sources = load_sources(seed)
    ids = np.concatenate([sources[split].digit_ids for split in SPLITS])
    assert sorted(ids) == list(range(1797))
    covered: dict[str, NDArray[np.int64]] = {}
    for split in SPLITS:
        assert set(sources[split].labels) == set(range(len(CLASSES)))
        for photo, left, top, right, bottom in sources[split].tile_boxes:
            count = covered.setdefault(photo, np.zeros((427, 640), dtype=np.int64))
            count[top:bottom, left:right] += 1
    assert set(covered) == {"china.jpg", "flower.jpg"}
    assert all(count.max() == 1 for count in covered.values())


def test_splits_share_no_digit_bitmap() -> None:
    bitmaps = [{digit.tobytes() for digit in load_sources(0)[split].digits} for split in SPLITS]
    assert not (bitmaps[0] & bitmaps[1] or bitmaps[0] & bitmaps[2] or bitmaps[1] & bitmaps[2])


@pytest.mark.parametrize("split", SPLITS)
def test_annotations_are_valid_coco(data: DemoData, split: str) -> None:
    coco = COCO(str(data.annotations(split)))
    assert {"info", "licenses", "images", "annotations", "categories"} <= set(coco.dataset)
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert sorted(coco.getImgIds()) == list(range(1, SMALL[split] + 1))
    assert sorted(coco.getAnnIds()) == list(range(1, len(coco.anns) + 1))
    for image in coco.loadImgs(coco.getImgIds()):
        with Image.open(data.images(split) / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (96, 96)
            assert picture.mode == "RGB"
    for annotation in coco.anns.values():
        x, y, w, h = annotation["bbox"]
        assert 0 <= x < x + w <= 96 and 0 <= y < y + h <= 96
        assert 0 < annotation["area"] <= w * h
        assert annotation["iscrowd"] == 0 and annotation["category_id"] in coco.cats


def test_boxes_enclose_what_is_drawn() -> None:
    # At difficulty 0 nothing is hidden and a digit differs from what is below it by 120 in luma;
    # so the box of the digit is where the picture differs from the bare background.
    bare = Difficulty.from_float(0)
    assert bare.occlusion == bare.overlap == bare.noise == bare.clutter == 0
    for index in range(10):
        picture, instances = _draw("train", index, 0.0)
        inside = np.zeros(picture.shape[:2], dtype=bool)
        for instance in instances:
            x, y, w, h = instance.bbox
            inside[y : y + h, x : x + w] = True
            crop = picture[y : y + h, x : x + w].astype(int)
            assert (np.ptp(crop.reshape(-1, 3), axis=0).max()) > 60
            assert instance.area >= 0.15 * w * h
        assert 0 < inside.mean() < 0.6


def test_every_digit_leaves_a_mark_at_every_difficulty() -> None:
    rng = np.random.default_rng(0)
    for split in SPLITS:
        for ink in load_sources(0)[split].digits:
            mask = _digit_mask(rng, ink, 64, Difficulty.from_float(1.0))
            assert mask.size and mask.max() >= 0.5


def test_difficulty_makes_digits_smaller_and_more_hidden() -> None:
    heights = [
        np.mean([i.bbox[3] for n in range(60) for i in _draw("train", n, d)[1]])
        for d in (0.0, 0.5, 1.0)
    ]
    assert heights[0] > heights[1] > heights[2]


def test_a_second_call_returns_at_once(data: DemoData, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr(digits, "_write", fail)
    assert make_demo_data(data.root, **SMALL) == data
    assert make_demo_data(data.root, **SMALL, overwrite=True, difficulty=0.5) == data


def test_other_arguments_are_refused_unless_overwrite(tmp_path: Path) -> None:
    root = tmp_path / "set"
    make_demo_data(root, **SMALL)
    before = _bytes(root)
    with pytest.raises(ValueError, match=r"train=12 \(asked for 2\).*overwrite") as refusal:
        make_demo_data(root, **{**SMALL, "train": 2})
    assert "\n" not in str(refusal.value)
    assert _bytes(root) == before
    make_demo_data(root, **{**SMALL, "train": 2}, overwrite=True)
    assert len(list((root / "train").iterdir())) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_foreign_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="is not a demo data set"):
            make_demo_data(tmp_path, **SMALL, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    make_demo_data(root, **SMALL)
    before = _bytes(root)
    calls = 0

    def interrupted(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        return render(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(digits, "render", interrupted)
    for target, overwrite in ((tmp_path / "new", False), (root, True)):
        calls = 0
        with pytest.raises(KeyboardInterrupt):
            make_demo_data(target, **{**SMALL, "seed": 3}, overwrite=overwrite)
    assert _bytes(root) == before
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_an_empty_folder_and_missing_parents_are_filled(tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"train": 1, "val": 1, "test": 1, "progress": False}
    (tmp_path / "empty").mkdir()
    for name in ("empty", "a/b/c"):
        make_demo_data(tmp_path / name, **tiny)
        assert (tmp_path / name / "meta.json").exists()


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("train", 0, "an integer >= 1"),
        ("val", -3, "an integer >= 1"),
        ("test", 1.5, "an integer >= 1"),
        ("test", True, "an integer >= 1"),
        ("size", 32, "an integer from 64 to 2048"),
        ("size", "160", "an integer from 64 to 2048"),
        ("seed", -1, "an integer >= 0"),
        ("difficulty", 1.1, "a number from 0 to 1"),
        ("difficulty", float("nan"), "a number from 0 to 1"),
        ("difficulty", "brutal", "'easy', 'medium', 'hard'"),
        ("difficulty", None, "'easy', 'medium', 'hard'"),
    ],
)
def test_wrong_arguments(tmp_path: Path, argument: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError) as refusal:
        make_demo_data(tmp_path / "set", **{**SMALL, argument: value})
    message = str(refusal.value)
    assert message.startswith(f"{argument}={value!r} ") and allowed in message
    assert "\n" not in message
    assert not (tmp_path / "set").exists()


def test_unknown_split(data: DemoData) -> None:
    with pytest.raises(ValueError, match="split='dev' is unknown; allowed: train, val, test"):
        data.images("dev")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "8"], "error: size=8 is not allowed; it must be an integer from 64 to 2048\n"),
        (
            ["--train", "many"],
            "error: argument --train: 'many' should be a whole number, between 1 and 1000000 "
            "(--help lists what make_demo_data.py takes)\n",
        ),
    ],
)
def test_the_tool_reports_errors_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--root", str(tmp_path / "set"), *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert (stop.value.code, capsys.readouterr().err) == (2, message)
    assert not (tmp_path / "set").exists()


def _environment() -> dict[str, str]:
    """The tool must find the package that is under test, installed or not."""
    plugin = str(Path(digits.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([plugin, os.environ.get("PYTHONPATH", "")])}
