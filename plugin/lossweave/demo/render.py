"""Renders one demo picture: digits, occluders and clutter on a piece of a photograph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lossweave.demo.sources import SPLITS, SplitSources

__all__ = ["Difficulty", "Instance", "render"]

Canvas = NDArray[np.float32]  # (size, size, 3), 0..255
Mask = NDArray[np.float32]  # (h, w), 0..1

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_INK_THRESHOLD = 0.5  # opacity from which a pixel belongs to the digit
_SUPERSAMPLING = 2  # for shapes that Pillow draws without anti-aliasing


@dataclass(frozen=True)
class Instance:
    """One annotated digit: ``label`` 0..9, ``bbox`` (x, y, w, h) and visible ``area`` in pixels."""

    label: int
    bbox: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True)
class Difficulty:
    """What a difficulty d in [0, 1] means; each value moves linearly with d.

    Attributes:
        digits: Largest number of digits in a picture (at least one is tried).
        min_height: Smallest digit height, as a fraction of the picture's side.
        max_height: Largest digit height, as a fraction of the picture's side.
        angle: Largest rotation, in degrees.
        contrast: Least difference between a digit's luma and the mean luma below it, 0..255.
        occlusion: Probability that an occluder is laid over a digit.
        min_visible: Smallest fraction of a digit's pixels that an occluder leaves visible.
        overlap: Largest part of the smaller of two digit boxes that the other may cover.
        clutter: Largest number of distracting shapes.
        noise: Amplitude of the uniform noise on each channel, 0..255.
    """

    digits: int
    min_height: float
    max_height: float
    angle: float
    contrast: float
    occlusion: float
    min_visible: float
    overlap: float
    clutter: int
    noise: float

    @classmethod
    def from_float(cls, d: float) -> Difficulty:
        """Interpolates between the easiest set (d = 0) and the hardest one (d = 1)."""

        def between(easiest: float, hardest: float) -> float:
            return easiest + d * (hardest - easiest)

        return cls(
            digits=round(between(2, 6)),
            min_height=between(0.26, 0.12),
            max_height=between(0.42, 0.42),
            angle=between(5, 35),
            contrast=between(120, 35),
            occlusion=between(0.0, 0.7),
            min_visible=between(0.85, 0.5),
            overlap=between(0.0, 0.25),
            clutter=round(between(0, 10)),
            noise=between(0, 24),
        )


def render(
    sources: SplitSources, split: str, index: int, size: int, difficulty: float, seed: int
) -> tuple[NDArray[np.uint8], list[Instance]]:
    """Draws picture number ``index`` of a split; nothing but the arguments decides its pixels.

    Args:
        sources: The split's digits and photographs, from :func:`load_sources`.
        split: 'train', 'val' or 'test'; keeps the splits' random streams apart.
        index: The picture's number, from 0.
        size: Side of the square picture, in pixels.
        difficulty: From 0 to 1, see :class:`Difficulty`.
        seed: The data set's seed.

    Returns:
        The uint8 RGB picture (size, size, 3) and the visible digits, in drawing order. A box is
        the extent of what is VISIBLE of a digit, as in COCO.
    """
    key = (1 + SPLITS.index(split), index)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    level = Difficulty.from_float(difficulty)
    canvas = _background(rng, sources, size)
    for _ in range(int(rng.integers(0, level.clutter + 1))):
        _draw_clutter(rng, sources, canvas)

    # owner[y, x] is 1 + the number of the digit seen at that pixel, 0 where none is
    owner = np.zeros((size, size), dtype=np.int64)
    labels: list[int] = []
    boxes: list[tuple[int, int, int, int]] = []
    for _ in range(int(rng.integers(1, level.digits + 1))):
        pick = int(rng.integers(len(sources.labels)))
        mask = _digit_mask(rng, sources.digits[pick], size, level)
        place = _find_place(rng, mask.shape, size, boxes, level.overlap)
        if place is None:
            continue
        labels.append(int(sources.labels[pick]))
        boxes.append((*place, mask.shape[1], mask.shape[0]))
        _draw_digit(rng, canvas, mask, place, level)
        x, y = place
        view = owner[y : y + mask.shape[0], x : x + mask.shape[1]]
        view[mask >= _INK_THRESHOLD] = len(labels)
    for number, box in enumerate(boxes, start=1):
        if rng.random() < level.occlusion:
            _occlude(rng, sources, canvas, owner, number, box, level.min_visible)

    canvas += (rng.random(canvas.shape, dtype=np.float32) * 2 - 1) * np.float32(level.noise)
    picture = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return picture, _instances(owner, labels)


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _photo_patch(
    rng: np.random.Generator, sources: SplitSources, width: int, height: int
) -> Canvas:
    """A random crop of a random tile, turned, mirrored, resized and lit differently."""
    tile = sources.tiles[int(rng.integers(len(sources.tiles)))]
    side = int(rng.integers(min(tile.shape[:2]) // 2, min(tile.shape[:2]) + 1))
    top = int(rng.integers(tile.shape[0] - side + 1))
    left = int(rng.integers(tile.shape[1] - side + 1))
    crop = np.rot90(tile[top : top + side, left : left + side], int(rng.integers(4)))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    image = Image.fromarray(np.ascontiguousarray(crop))
    patch = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    gain, shift = _uniform(rng, 0.6, 1.2), _uniform(rng, -25, 25)
    tint = np.array([_uniform(rng, -15, 15) for _ in range(3)], dtype=np.float32)
    return np.clip((patch - 128) * np.float32(gain) + 128 + np.float32(shift) + tint, 0, 255)


def _background(rng: np.random.Generator, sources: SplitSources, size: int) -> Canvas:
    return _photo_patch(rng, sources, size, size)


def _draw_clutter(rng: np.random.Generator, sources: SplitSources, canvas: Canvas) -> None:
    """Lays a textured polygon or a pen stroke, which is not a digit, on the canvas."""
    size = canvas.shape[0]
    stencil = Image.new("L", (size * _SUPERSAMPLING,) * 2)
    draw = ImageDraw.Draw(stencil)
    middle_x, middle_y = _uniform(rng, 0, size), _uniform(rng, 0, size)
    radius = _uniform(rng, 0.05, 0.18) * size
    points = [
        (
            _SUPERSAMPLING * (middle_x + _uniform(rng, -radius, radius)),
            _SUPERSAMPLING * (middle_y + _uniform(rng, -radius, radius)),
        )
        for _ in range(3)
    ]
    if rng.random() < 0.5:
        draw.polygon(points, fill=255)
        paint = _photo_patch(rng, sources, size, size)
    else:
        thickness = max(1, round(_SUPERSAMPLING * size * _uniform(rng, 0.01, 0.03)))
        draw.line(points, fill=255, width=thickness, joint="curve")
        paint = np.broadcast_to(_colour(rng), canvas.shape)
    _blend(canvas, paint, _soft_mask(stencil, size, size))


def _colour(rng: np.random.Generator) -> NDArray[np.float32]:
    return (rng.random(3) * 255).astype(np.float32)


def _soft_mask(stencil: Image.Image, width: int, height: int) -> Mask:
    reduced = stencil.resize((width, height), Image.Resampling.BOX)
    return np.asarray(reduced, dtype=np.float32) / np.float32(255)


def _blend(view: Canvas, paint: NDArray[np.float32], opacity: Mask) -> None:
    view += (paint - view) * opacity[..., None]


def _digit_mask(
    rng: np.random.Generator, ink: NDArray[np.uint8], size: int, level: Difficulty
) -> Mask:
    """A digit's opacity, tight around its visible pixels, at its final size and angle."""
    height = _uniform(rng, level.min_height, level.max_height) * size
    width = height * _uniform(rng, 0.8, 1.15)
    angle = _uniform(rng, -level.angle, level.angle)
    framed = Image.fromarray(np.pad(ink, 2))  # room for the resampling filter to fade out in
    frame = framed.width / ink.shape[0]
    grown = framed.resize(
        (max(1, round(width * frame)), max(1, round(height * frame))), Image.Resampling.BICUBIC
    )
    turned = grown.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    level_of_ink = np.asarray(turned, dtype=np.float32) / np.float32(255)
    # smoothstep turns the blur of an 8 x 8 bitmap into the edge of a pen stroke
    low = _uniform(rng, 0.28, 0.42)
    t = np.clip((level_of_ink - np.float32(low)) / np.float32(0.25), 0, 1)
    opacity: Mask = t * t * (3 - 2 * t)
    rows = np.flatnonzero((opacity >= _INK_THRESHOLD).any(axis=1))
    columns = np.flatnonzero((opacity >= _INK_THRESHOLD).any(axis=0))
    return opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _find_place(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    size: int,
    taken: list[tuple[int, int, int, int]],
    overlap: float,
) -> tuple[int, int] | None:
    """A place (x, y) where a box of ``shape`` (h, w) covers little of the boxes there are."""
    height, width = shape
    if height > size or width > size:
        return None
    for _ in range(20):
        x, y = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
        for other_x, other_y, other_w, other_h in taken:
            shared_w = min(x + width, other_x + other_w) - max(x, other_x)
            shared_h = min(y + height, other_y + other_h) - max(y, other_y)
            smaller = min(width * height, other_w * other_h)
            if shared_w > 0 and shared_h > 0 and shared_w * shared_h > overlap * smaller:
                break
        else:
            return x, y
    return None


def _draw_digit(
    rng: np.random.Generator, canvas: Canvas, mask: Mask, place: tuple[int, int], level: Difficulty
) -> None:
    """Paints a digit in a random colour that is far enough in luma from what lies below."""
    height, width = mask.shape
    x, y = place
    view = canvas[y : y + height, x : x + width]
    below = float((view @ _LUMA)[mask >= _INK_THRESHOLD].mean())
    distance = _uniform(rng, level.contrast, level.contrast + 60)
    brighter, darker = 255 - below, below
    both_fit = min(brighter, darker) > distance
    up = bool(rng.random() < 0.5) if both_fit else brighter > darker
    target = min(255.0, below + distance) if up else max(0.0, below - distance)
    colour = _colour(rng)
    for _ in range(3):  # clipping to 0..255 changes the luma, so approach it
        colour = np.clip(colour + np.float32(target - float(colour @ _LUMA)), 0, 255)
    shade = _ramp(rng, width)[None, :] + _ramp(rng, height)[:, None]
    _blend(view, np.clip(colour + shade[..., None], 0, 255), mask)


def _ramp(rng: np.random.Generator, length: int) -> NDArray[np.float32]:
    slope = _uniform(rng, -25, 25)
    return np.linspace(-0.5 * slope, 0.5 * slope, length, dtype=np.float32)


def _occlude(
    rng: np.random.Generator,
    sources: SplitSources,
    canvas: Canvas,
    owner: NDArray[np.int64],
    number: int,
    box: tuple[int, int, int, int],
    min_visible: float,
) -> None:
    """Covers part of digit ``number`` with a turned bar cut from a photograph.

    The bar is left out where any digit would keep less than ``min_visible`` of its pixels.
    """
    x, y, width, height = box
    size = canvas.shape[0]
    length, thickness = max(width, height) * 0.75, min(width, height) * _uniform(rng, 0.1, 0.25)
    angle = _uniform(rng, 0, math.pi)
    along = (math.cos(angle) * length, math.sin(angle) * length)
    across = (-math.sin(angle) * thickness, math.cos(angle) * thickness)
    middle_x = x + width * _uniform(rng, 0.1, 0.9)
    middle_y = y + height * _uniform(rng, 0.1, 0.9)
    corners = [
        (
            _SUPERSAMPLING * (middle_x + a * along[0] + b * across[0]),
            _SUPERSAMPLING * (middle_y + a * along[1] + b * across[1]),
        )
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    stencil = Image.new("L", (size * _SUPERSAMPLING,) * 2)
    ImageDraw.Draw(stencil).polygon(corners, fill=255)
    opacity = _soft_mask(stencil, size, size)
    paint = _photo_patch(rng, sources, size, size)
    hidden = opacity >= _INK_THRESHOLD
    for other in np.unique(owner[hidden]):
        seen = owner == other
        if other and (seen & ~hidden).sum() < min_visible * seen.sum():
            return
    _blend(canvas, paint, opacity)
    owner[hidden] = 0


def _instances(owner: NDArray[np.int64], labels: list[int]) -> list[Instance]:
    instances = []
    for number, label in enumerate(labels, start=1):
        rows, columns = np.nonzero(owner == number)
        if len(rows) == 0:
            continue
        x, y = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) - x + 1, int(rows.max()) - y + 1
        instances.append(Instance(label, (x, y, width, height), len(rows)))
    return instances
