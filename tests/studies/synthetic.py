"""Logs and pictures as a training leaves them, made by hand."""

import json
from pathlib import Path

from PIL import Image

from lossweave.studies import RunRecord, Series, TermHistory


def training_row(step: int, cls: float, weight: float = 1.0) -> dict[str, float]:
    """One logged training iteration."""
    return {
        "lr": 0.1,
        "data_time": 0.25,
        "time": 0.5 + step / 1000,
        "loss": cls + 2.0,
        "loss_cls": cls,
        "term_cls": cls,
        "weight_cls": weight,
        "term_loc": 2.0,
        "weight_loc": 0.5,
        "step": step,
    }


def write_scalars(work_dir: Path, start: str, rows: list[dict[str, float]]) -> Path:
    """One start's ``scalars.json``."""
    path = work_dir / start / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def record(combiner: str, terms: tuple[str, ...] = ("cls", "loc"), ap: float = 0.5) -> RunRecord:
    """A record of a made-up training."""
    steps = tuple(range(20, 220, 20))
    history = {
        term: TermHistory(
            Series(steps, tuple(1.0 / (place + 1) + 20.0 / step for step in steps)),
            Series(steps, tuple(1.0 + 0.01 * step for step in steps)),
        )
        for place, term in enumerate(terms)
    }
    metrics = {"coco/bbox_mAP": ap, "coco/bbox_mAP_50": ap + 0.2}
    return RunRecord(
        combiner, 200, history, metrics, 0.25, 0.01, {"command": f"train {combiner}", "minutes": 2}
    )


def write_coco(root: Path, pictures: int = 3) -> tuple[Path, Path]:
    """A COCO annotation file with pictures, and a result file that finds half of the boxes."""
    (root / "images").mkdir(parents=True)
    images, annotations, results = [], [], []
    for image in range(1, pictures + 1):
        Image.new("RGB", (40, 40), (30 * image, 90, 120)).save(root / "images" / f"{image}.png")
        images.append({"id": image, "file_name": f"{image}.png", "width": 40, "height": 40})
        box = [5, 5, 15, 20]
        annotations.append({"id": image, "image_id": image, "category_id": 1, "bbox": box})
        results.append({"image_id": image, "category_id": 1 + image % 2, "bbox": box, "score": 0.9})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "truth.json").write_text(json.dumps(content))
    (root / "found.json").write_text(json.dumps(results))
    return root / "truth.json", root / "found.json"
