"""VOC-style folders as COCO: what is kept, dropped, cut and refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

from lossweave.demo.voc import VocData, prepare_voc
from lossweave.errors import LossweaveError
from lossweave.studies.demo.voc_cli import prepare

CONFIG = Path(__file__).parents[2] / "configs" / "mmdet" / "real" / "retinanet_bccd.py"


def _object(name: str, *corners: float, extra: str = "") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def _add(root: Path, stem: str, *objects: str, size: str = "", picture: str = ".jpg") -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    text = f"<annotation>{size}{''.join(objects)}</annotation>"
    (root / "Annotations" / f"{stem}.xml").write_text(text)
    if picture:
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{stem}{picture}")


def _lists(root: Path, **splits: Iterable[str]) -> None:
    for name, stems in splits.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(stems) + "\n")


def _made(root: Path, **options: Any) -> VocData:
    return prepare_voc(root, progress=False, **options)


def _content(data: VocData, split: str) -> dict[str, Any]:
    return json.loads(data.files[split].read_text())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three splits: boxes of all kinds in train, one picture without any in val."""
    root = tmp_path / "set"
    _add(
        root, "a", _object("cell", 1, 1, 21, 11), _object("cell", 5, 5, 5, 9),
        _object("rod", 9, 9, 4, 12), _object("rod", 31, 21, 99, 99),
        _object("rod", 50, 2, 60, 9), _object("cell", 2, 2, 4, 4, extra="<difficult>1</difficult>"),
    )  # fmt: skip
    _add(root, "b", picture=".png")
    _add(root, "c", _object("cell", 11, 11, 20.5, 20))
    _lists(root, train=["a"], val=["b  1"], test=["c"])
    return root


def test_boxes_become_coco(root: Path) -> None:
    data = _made(root)
    content = _content(data, "train")
    assert data.classes == ("cell", "rod")
    assert content["categories"] == [{"id": 1, "name": "cell"}, {"id": 2, "name": "rod"}]
    assert content["images"] == [
        {"id": 1, "file_name": "JPEGImages/a.jpg", "width": 40, "height": 30}
    ]
    boxes = [(a["category_id"], a["bbox"], a["iscrowd"]) for a in content["annotations"]]
    assert boxes == [(1, [0, 0, 20, 10], 0), (2, [30, 20, 10, 10], 0), (1, [1, 1, 2, 2], 1)]
    assert [a["area"] for a in content["annotations"]] == [200, 100, 4]
    assert data.remarks == ("3 empty, inverted or outlying boxes dropped: a, a, a",)
    assert _content(data, "val")["images"][0]["file_name"] == "JPEGImages/b.png"
    assert data.boxes == {"train": 3, "val": 0, "test": 1}
    assert len(COCO(data.files["test"]).getAnnIds()) == 1


def test_pictures_stay_where_they_are(root: Path, tmp_path: Path) -> None:
    before = sorted(root.rglob("*"))
    data = _made(root, out=tmp_path / "else" / "out")
    name = _content(data, "train")["images"][0]["file_name"]
    assert (tmp_path / "else" / "out" / name).resolve() == (root / "JPEGImages/a.jpg").resolve()
    assert sorted(root.rglob("*")) == before
    assert [p.name for p in (tmp_path / "else" / "out").rglob("*.jpg")] == []


def test_the_tool_says_what_it_did(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare([str(root), "--quiet"])
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("3 empty, inverted or outlying boxes dropped")
    assert "1 pictures, 3 boxes" in out[1] and out[-1] == "classes: cell, rod"


def test_classes_that_are_asked_for(root: Path) -> None:
    data = _made(root, classes=["rod"])
    assert data.classes == ("rod",) and data.boxes == {"train": 1, "val": 0, "test": 0}
    assert any(line.startswith("3 objects of classes that were not") for line in data.remarks)
    with pytest.raises(LossweaveError, match=r"no object is a 'worm'; there are cell, rod"):
        _made(root, classes=["worm"])
    with pytest.raises(LossweaveError, match="twice"):
        _made(root, classes=["rod", "rod"])


def test_a_class_that_is_not_trained_is_said(root: Path) -> None:
    _add(root, "c", _object("worm", 1, 1, 5, 5))
    assert "1 classes that no training picture has: worm" in _made(root).remarks


def test_a_picture_in_two_splits_is_said(root: Path) -> None:
    _lists(root, val=["a"])
    assert "1 pictures in several splits: a" in _made(root).remarks


def test_the_pictures_own_size_counts(root: Path) -> None:
    size = "<size><width>9</width><height>9</height></size>"
    _add(root, "c", _object("cell", 1, 1, 31, 21), size=size)
    data = _made(root)
    assert _content(data, "test")["annotations"][0]["bbox"] == [0, 0, 30, 20]
    assert any(line.startswith("1 pictures of another size") for line in data.remarks)


def test_a_random_split_follows_from_its_seed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number in range(20):
        _add(root, f"p{number:02}", _object("cell", 1, 1, 9, 9))
    data = _made(root)
    assert data.pictures == {"train": 14, "val": 3, "test": 3}
    names = {s: [i["file_name"] for i in _content(data, s)["images"]] for s in data.files}
    assert len(set().union(*names.values())) == 20
    again = _made(root)
    assert {s: [i["file_name"] for i in _content(again, s)["images"]] for s in names} == names
    other = _made(root, split=(8, 1, 1), seed=1)
    assert other.pictures == {"train": 16, "val": 2, "test": 2}
    assert [i["file_name"] for i in _content(other, "val")["images"]] != names["val"][:2]


def _break(root: Path, what: str) -> None:
    file = root / "Annotations" / "a.xml"
    if what == "xml":
        file.write_text("<annotation><object>")
    elif what == "no xml":
        file.unlink()
    elif what == "no box":
        _add(root, "a", "<object><name>cell</name></object>")
    elif what == "nan":
        _add(root, "a", _object("cell", float("nan"), 1, 2, 3))
    elif what == "no picture":
        (root / "JPEGImages" / "a.jpg").unlink()
    elif what == "picture":
        (root / "JPEGImages" / "a.jpg").write_text("none")
    elif what == "folder":
        file.parent.rename(root / "xml")
    elif what == "empty split":
        _lists(root, val=[])
    else:
        for stem in "abc":
            _add(root, stem)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("xml", r"a\.xml is no XML"),
        ("no xml", "'a' is in a split and has no"),
        ("no box", "a name or a box of four numbers"),
        ("nan", "a name or a box of four numbers"),
        ("no picture", r"a\.xml has no picture .*--skip-missing"),
        ("picture", r"a\.jpg is no picture"),
        ("folder", "no folder 'Annotations'"),
        ("empty split", "no pictures are left for 'val'"),
        ("nothing", "no box is left"),
    ],
)
def test_what_is_wrong_ends_in_one_line(root: Path, what: str, message: str) -> None:
    _break(root, what)
    with pytest.raises(LossweaveError, match=message) as refused:
        _made(root)
    assert "\n" not in str(refused.value) and not (root / "annotations").exists()


def test_missing_pictures_are_left_out_where_asked(root: Path) -> None:
    (root / "JPEGImages" / "c.jpg").unlink()
    data = _made(root, skip_missing=True)
    assert "1 annotations without a picture left out: c" in data.remarks
    assert data.pictures["test"] == 0


@pytest.mark.parametrize("split", [(1, 0, 1), (1, -1, 1), (float("nan"), 1, 1)])
def test_parts_of_a_split(root: Path, split: tuple[float, ...]) -> None:
    with pytest.raises(LossweaveError, match="three parts above 0"):
        _made(root, split=split)


def test_the_config_of_blood_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its root is the environment's, and evaluators look where its data are."""
    assert Config.fromfile(CONFIG).data_root == "data/BCCD/"
    monkeypatch.setenv("BCCD", "/my/cells")
    config = Config.fromfile(CONFIG)
    for split in ("train", "val", "test"):
        dataset = config[f"{split}_dataloader"].dataset
        assert dataset.data_root == "/my/cells/" and dataset.data_prefix.img == ""
        assert dataset.metainfo.classes == ("Platelets", "RBC", "WBC")
        if split != "train":
            assert config[f"{split}_evaluator"].ann_file == f"/my/cells/annotations/{split}.json"
    assert config.model.bbox_head.num_classes == 3
    assert config.train_cfg.max_iters == config.param_scheduler[-1].end == config.max_iters
