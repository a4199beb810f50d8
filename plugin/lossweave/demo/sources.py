"""Where the demo data's pixels come from: scikit-learn's digits and photographs, split once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSES", "LICENSES", "SPLITS", "SplitSources", "load_sources"]

CLASSES = tuple("0123456789")
SPLITS = ("train", "val", "test")

LICENSES = (
    {
        "id": 1,
        "name": "CC BY 4.0 (digits: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits)",
        "url": "https://creativecommons.org/licenses/by/4.0/",
    },
    {
        "id": 2,
        "name": "CC BY 2.0 (photographs: danielbuechele and vultilion, through scikit-learn)",
        "url": "https://creativecommons.org/licenses/by/2.0/",
    },
)

# Share of every class's digits that goes to train and to val; test gets the rest.
_TRAIN_SHARE, _VAL_SHARE = 0.70, 0.15

# Each photograph is cut into 3 x 5 tiles and a tile belongs to one split. The letters are laid
# out by hand so that every split sees sky, foliage, building and petals.
_TILES = {
    "china.jpg": ("tstvt", "vttts", "tvtst"),
    "flower.jpg": ("vtstt", "tvtst", "tsttv"),
}
_SPLIT_OF_LETTER = {"t": "train", "v": "val", "s": "test"}


@dataclass(frozen=True)
class SplitSources:
    """The raw material of one split.

    Attributes:
        digits: uint8 array (N, 8, 8), ink from 0 (paper) to 255.
        labels: int64 array (N,), the digit's class 0..9.
        digit_ids: int64 array (N,), the rows of scikit-learn's ``load_digits`` in use.
        tiles: uint8 RGB arrays (h, w, 3), pieces of photographs.
        tile_boxes: For each tile ``(photo, left, top, right, bottom)`` in the photo's pixels.
    """

    digits: NDArray[np.uint8]
    labels: NDArray[np.int64]
    digit_ids: NDArray[np.int64]
    tiles: tuple[NDArray[np.uint8], ...]
    tile_boxes: tuple[tuple[str, int, int, int, int], ...]


@lru_cache(maxsize=2)
def load_sources(seed: int) -> dict[str, SplitSources]:
    """Divides digits and photographs among train, val and test; nothing is in two splits.

    Args:
        seed: Orders each class's digits before they are divided 70 : 15 : 15. The division of
            the photographs is fixed.

    Returns:
        One :class:`SplitSources` for each name in :data:`SPLITS`.

    Example:
        >>> sources = load_sources(0)
        >>> {split: len(source.labels) for split, source in sources.items()}
        {'train': 1258, 'val': 270, 'test': 269}
    """
    from sklearn.datasets import load_digits, load_sample_image

    bunch = load_digits()
    ink = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    digit_ids: dict[str, list[NDArray[np.int64]]] = {split: [] for split in SPLITS}
    for label in range(len(CLASSES)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        first = round(_TRAIN_SHARE * len(rows))
        second = round((_TRAIN_SHARE + _VAL_SHARE) * len(rows))
        for split, part in zip(SPLITS, np.split(rows, [first, second]), strict=True):
            digit_ids[split].append(part)

    tiles: dict[str, list[NDArray[np.uint8]]] = {split: [] for split in SPLITS}
    boxes: dict[str, list[tuple[str, int, int, int, int]]] = {split: [] for split in SPLITS}
    for photo, layout in _TILES.items():
        pixels = load_sample_image(photo)
        tile_h, tile_w = pixels.shape[0] // len(layout), pixels.shape[1] // len(layout[0])
        for row, letters in enumerate(layout):
            for column, letter in enumerate(letters):
                split = _SPLIT_OF_LETTER[letter]
                top, left = row * tile_h, column * tile_w
                tiles[split].append(pixels[top : top + tile_h, left : left + tile_w].copy())
                boxes[split].append((photo, left, top, left + tile_w, top + tile_h))

    sources = {}
    for split in SPLITS:
        ids = np.concatenate(digit_ids[split])
        sources[split] = SplitSources(
            ink[ids], labels[ids], ids, tuple(tiles[split]), tuple(boxes[split])
        )
    return sources
