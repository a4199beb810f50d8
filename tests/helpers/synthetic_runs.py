"""Logs and pictures as a training leaves them, made by hand."""

import json
from pathlib import Path

from PIL import Image

from lossweave.staged import ProposalPass, TrainingRecord, UnifiedRecord
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


def alternating_record(seed: int, ap: tuple[float, float], speed: float = 1.0) -> TrainingRecord:
    """A finished four-step training: AP after steps 2 and 4; seconds are ``speed`` times 100."""
    record = TrainingRecord("alternating", "mmdet", "four.py", seed, finished=True)
    for number, (name, frozen, images) in enumerate(
        [("rpn1", False, 800), ("rcnn1", False, 800), ("rpn2", True, 800), ("rcnn2", True, 800)]
    ):
        stage = record.stage(name)
        below = ["backbone", "neck"]
        head = ["roi_head" if name.startswith("rcnn") else "rpn_head"]
        stage.parts = {
            "trained": head if frozen else below + head,
            "frozen": below if frozen else [],
        }
        stage.image_passes, stage.optimizer_steps = images, images // (1 + number % 2)
        stage.seconds, stage.evaluation_seconds = 100.0 * speed / (1 + frozen), 7.0
        stage.iterations, stage.seconds_per_iteration = 200, 0.4 / (1 + frozen)
        stage.peak_memory = (900 - 100 * number) * 2**20
        if name.startswith("rpn"):
            stage.proposals = ProposalPass(10.0 * speed, 200, 300.0, "p.npz", "sum")
            recall = 0.5 + 0.1 * frozen + 0.01 * seed
            stage.metrics = {f"AR@{n}": recall + n / 10_000 for n in (100, 300, 1000)}
        else:
            stage.metrics = {"AP": ap[frozen], "AP50": ap[frozen] + 0.3}
    record.unified = UnifiedRecord("unified.pth", dict(record.stages[-1].metrics))
    return record


def joint_record(
    seed: int, ap: float, seconds: float = 200.0, images: int = 1400
) -> TrainingRecord:
    """A finished joint training."""
    record = TrainingRecord("joint", "mmdet", "four.py", seed, finished=True)
    stage = record.stage("joint")
    stage.image_passes, stage.optimizer_steps = images, images // 2
    stage.iterations, stage.seconds_per_iteration = 100, seconds / 125
    stage.seconds, stage.peak_memory = seconds, 2**30
    stage.metrics = {"AP": ap, "AP50": ap + 0.3, "AR@100": 0.55, "AR@300": 0.6, "AR@1000": 0.65}
    record.unified = UnifiedRecord("joint.pth", dict(stage.metrics))
    return record
