"""A sheet of pictures: what is there, and what each detector found."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor

__all__ = ["Box", "Judged", "draw_sheet", "judge", "read_detections", "read_truth"]

_RIGHT, _WRONG, _MISSED, _TRUTH = "#2BE05A", "#FF4136", "#FFD500", "#FFFFFF"


@dataclass(frozen=True)
class Box:
    """A labelled box.

    Args:
        x: left edge in pixels.
        y: upper edge in pixels.
        width: in pixels.
        height: in pixels.
        label: the class's name.
        score: a detection's confidence; 1 for ground truth.
    """

    x: float
    y: float
    width: float
    height: float
    label: str
    score: float = 1.0


@dataclass(frozen=True)
class Judged:
    """Detections beside the ground truth of one picture.

    Args:
        right: detections that match a true box in class and place.
        wrong: detections that match none.
        missed: true boxes that no detection matches.
    """

    right: tuple[Box, ...]
    wrong: tuple[Box, ...]
    missed: tuple[Box, ...]


def judge(detections: Sequence[Box], truth: Sequence[Box], min_iou: float = 0.5) -> Judged:
    """Match detections with true boxes, the most confident first, each true box once.

    Args:
        detections: in any order.
        truth: the true boxes.
        min_iou: overlap (intersection over union) that a match needs.

    Example:
        >>> there = [Box(0, 0, 10, 10, "3")]
        >>> judge([Box(1, 0, 10, 10, "3", 0.9), Box(0, 0, 10, 10, "8", 0.4)], there)
        Judged(right=(Box(x=1, y=0, width=10, height=10, label='3', score=0.9),), \
wrong=(Box(x=0, y=0, width=10, height=10, label='8', score=0.4),), missed=())
    """
    free = list(truth)
    right: list[Box] = []
    wrong: list[Box] = []
    for box in sorted(detections, key=lambda found: -found.score):
        same = [there for there in free if there.label == box.label]
        best = max(same, key=lambda there: _iou(box, there), default=None)
        if best is not None and _iou(box, best) >= min_iou:
            free.remove(best)
            right.append(box)
        else:
            wrong.append(box)
    return Judged(tuple(right), tuple(wrong), tuple(free))


def read_truth(annotations: str | Path) -> tuple[dict[int, str], dict[int, list[Box]]]:
    """File names and true boxes of a COCO annotation file, by image id."""
    content = json.loads(Path(annotations).read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    files = {image["id"]: image["file_name"] for image in content["images"]}
    boxes: dict[int, list[Box]] = {image: [] for image in files}
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        label = names[annotation["category_id"]]
        boxes[annotation["image_id"]].append(Box(x, y, width, height, label))
    return files, boxes


def read_detections(
    results: str | Path, annotations: str | Path, min_score: float
) -> dict[int, list[Box]]:
    """Detections of a COCO result file, by image id.

    Args:
        results: the file, a list of ``{image_id, category_id, bbox, score}``.
        annotations: the COCO annotation file, for the classes' names.
        min_score: confidence below which detections are left out.
    """
    content = json.loads(Path(annotations).read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    found: dict[int, list[Box]] = {image["id"]: [] for image in content["images"]}
    for entry in json.loads(Path(results).read_text()):
        if entry["score"] >= min_score:
            x, y, width, height = entry["bbox"]
            label = names[entry["category_id"]]
            found[entry["image_id"]].append(Box(x, y, width, height, label, entry["score"]))
    return found


def draw_sheet(
    path: str | Path,
    annotations: str | Path,
    images: str | Path,
    results: Mapping[str, str | Path],
    count: int = 8,
    min_score: float = 0.4,
    tile: float = 2.2,
) -> Path:
    """Draw validation pictures: the ground truth, and beside it each detector's detections.

    The pictures are spread evenly over the annotation file, not chosen.

    Args:
        path: the PNG to write.
        annotations: COCO annotation file.
        images: folder of the pictures.
        results: by the detector's title, its COCO result file.
        count: number of pictures.
        min_score: confidence below which detections are not drawn.
        tile: side of a picture on the sheet, in inches (at 110 pixels an inch).

    Returns:
        The path.
    """
    files, truth = read_truth(annotations)
    chosen = _spread(sorted(files), count)
    detections = {
        title: read_detections(file, annotations, min_score) for title, file in results.items()
    }
    blocks = 2 if len(chosen) > 1 and len(results) < 4 else 1
    rows = ceil(len(chosen) / blocks)
    figure, grid = _grid(rows, 1 + len(results), blocks, tile)
    for place, image in enumerate(chosen):
        row, block = place % rows, place // rows
        picture = Image.open(Path(images) / files[image]).convert("RGB")
        for column, title in enumerate(["ground truth", *results]):
            panel = figure.add_subplot(grid[row, block * (len(results) + 2) + column])
            _show(panel, picture)
            if row == 0:
                panel.set_title(title, fontsize=9, pad=3)
            if column == 0:
                for box in truth[image]:
                    _outline(panel, box, _TRUTH, box.label)
            else:
                _outline_judged(panel, judge(detections[title][image], truth[image]))
    _explain(figure, min_score)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format="png")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _few_colors(Image.open(drawn).convert("RGB")).save(path, optimize=True)
    return Path(path)


def _grid(rows: int, width: int, blocks: int, tile: float) -> tuple[Any, Any]:
    """A figure and its grid: blocks side by side, each of ``width`` columns of pictures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A narrow empty column between the blocks keeps each picture with its own detections.
    ratios = [1.0] * width + ([0.08] + [1.0] * width) * (blocks - 1)
    height = tile * rows + 0.75
    figure = Figure(figsize=(tile * sum(ratios), height))
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        rows,
        len(ratios),
        width_ratios=ratios,
        wspace=0.03,
        hspace=0.03,
        left=0.005,
        right=0.995,
        bottom=0.45 / height,
        top=1 - 0.3 / height,
    )
    return figure, grid


def _explain(figure: Any, min_score: float) -> None:
    from matplotlib.lines import Line2D

    legend = [
        Line2D([], [], color=_RIGHT, linewidth=2.5, label="right class, IoU at least 0.5"),
        Line2D([], [], color=_WRONG, linewidth=2.5, label="wrong class or place"),
        Line2D([], [], color=_MISSED, linewidth=2.5, linestyle="--", label="missed"),
    ]
    figure.legend(
        handles=legend,
        loc="lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
        title=f"detections with a confidence of {min_score} or more",
        title_fontsize=9,
        borderaxespad=0.1,
    )


def _few_colors(drawing: Image.Image) -> Image.Image:
    """In 256 colours: photographs hardly compress as PNG, and this makes a third of it."""
    marks = [_RIGHT, _WRONG, _MISSED, _TRUTH]  # too rare to be found, and what matters most
    sample = drawing.resize((drawing.width // 4, drawing.height // 4), Image.Resampling.NEAREST)
    # Without the k-means, small patches of colour turn into another colour altogether.
    found = sample.quantize(256 - len(marks), kmeans=4, dither=Image.Dither.NONE).getpalette()
    found = (found or [])[: 3 * (256 - len(marks))]
    palette = Image.new("P", (1, 1))
    palette.putpalette(found + [part for mark in marks for part in ImageColor.getrgb(mark)])
    return drawing.quantize(palette=palette, dither=Image.Dither.NONE)


def _spread(images: Sequence[int], count: int) -> list[int]:
    places = np.linspace(0, len(images) - 1, min(count, len(images)), dtype=int)
    return [images[place] for place in places]


def _show(panel: Any, picture: Image.Image) -> None:
    panel.imshow(picture, interpolation="bicubic")
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(False)


def _outline_judged(panel: Any, found: Judged) -> None:
    for box in found.missed:
        _outline(panel, box, _MISSED, None, dashed=True)
    for box in (*found.wrong, *found.right):
        color = _RIGHT if box in found.right else _WRONG
        text = f"{box.label} {box.score:.2f}".replace(" 0.", " .")
        # Wrong ones often lie on right ones, so their labels hang below.
        _outline(panel, box, color, text, below=box not in found.right)


def _outline(
    panel: Any, box: Box, color: str, text: str | None, dashed: bool = False, below: bool = False
) -> None:
    from matplotlib.patches import Rectangle

    style = "--" if dashed else "-"
    for line_color, line_width in (("black", 2.4), (color, 1.3)):
        panel.add_patch(
            Rectangle(
                (box.x, box.y),
                box.width,
                box.height,
                fill=False,
                edgecolor=line_color,
                linewidth=line_width,
                linestyle=style,
            )
        )
    if text is None:
        return
    y, room = box.y - 1, box.y > 12  # else the label goes inside, where it is not cut off
    if below:
        height = panel.get_ylim()[0]
        y, room = box.y + box.height + 1, box.y + box.height > height - 12
        y = y - 2.5 if room else y
    elif not room:
        y = box.y + 1.5
    panel.text(
        max(box.x, 1),
        y,
        text,
        fontsize=6.5,
        fontweight="bold",
        color="black",
        va="bottom" if room else "top",
        clip_on=True,
        bbox=dict(facecolor=color, edgecolor="none", pad=0.7, alpha=0.9),
    )


def _iou(one: Box, two: Box) -> float:
    across = min(one.x + one.width, two.x + two.width) - max(one.x, two.x)
    down = min(one.y + one.height, two.y + two.height) - max(one.y, two.y)
    shared = max(across, 0.0) * max(down, 0.0)
    union = one.width * one.height + two.width * two.height - shared
    return shared / union if union > 0 else 0.0
