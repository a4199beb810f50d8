"""Fixed proposals: one compact file per pass, bound to the weights and settings that made it.

The file is an uncompressed ``.npz`` (any numpy reads it) with

========== ================= =====================================================
boxes      (P, 4) float32    x1, y1, x2, y2 in pixels of the ORIGINAL image
scores     (P,) float32      descending within an image
offsets    (N + 1,) int64    image i has the rows offsets[i] to offsets[i + 1]
ids        (N,) str          of the images
header     () str            JSON: version, key, checksum, settings, seconds
========== ================= =====================================================

``key`` is a checksum of the weights and settings that made the proposals, ``checksum`` one of
the content. Boxes are mapped from the file, not read into memory, so many worker processes
share them.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lossweave.errors import LossweaveError
from lossweave.staged.freezing import digest
from lossweave.utils.described import described

__all__ = ["PAPER_SETTINGS", "VERSION", "ProposalFile", "checksum_of", "fingerprint"]

#: The proposals that Fast R-CNN is trained on in the paper's schedule: no cap before NMS.
PAPER_SETTINGS: Mapping[str, Any] = {
    "nms_pre": -1,
    "nms": {"type": "nms", "iou_threshold": 0.7},
    "max_per_img": 2000,
    "min_bbox_size": 16,
}
#: Of the file's format.
VERSION = 1
#: Type and columns of every array.
_KINDS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "boxes": ("<f4", (4,)),
    "scores": ("<f4", ()),
    "offsets": ("<i8", ()),
    "ids": ("U", ()),
}
_ARRAYS = tuple(_KINDS)


def fingerprint(weights: Mapping[str, Tensor], settings: Any) -> str:
    """A checksum of weights and settings, by which a stale file is known.

    Args:
        weights: a state dict.
        settings: anything that JSON can hold; other objects count by their names.

    Example:
        >>> import torch
        >>> weights = {"w": torch.zeros(1)}
        >>> fingerprint(weights, {"nms": 0.7}) == fingerprint(weights, {"nms": 0.5})
        False
    """
    plain = described(settings)
    text = json.dumps([sorted(digest(weights).items()), plain], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class ProposalFile:
    """Proposals by image, from a file that is checked first.

    Args:
        path: the file.
        key: what must have made it; None takes any.
        verify: whether the whole content is checked against its checksum (once in the main
            process; workers that open the same file need not).

    Raises:
        LossweaveError: no such file, a damaged one, or one that other weights or settings made.
    """

    def __init__(self, path: str | Path, key: str | None = None, verify: bool = True) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise LossweaveError(f"there is no proposal file {self.path}")
        try:
            header = _header(self.path)
            arrays = _mapped(self.path)
            self._offsets = np.asarray(arrays["offsets"])
            self._boxes, self._scores = arrays["boxes"], arrays["scores"]
            _check_rows(self._offsets, arrays)
            self.ids = [str(i) for i in arrays["ids"]]
            if len(set(self.ids)) < len(self.ids):
                raise ValueError("an image is there twice")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, struct.error) as error:
            raise self._refusal(f"is damaged ({error})") from error
        self.key, self.checksum = header["key"], header["checksum"]
        self.settings, self.seconds = header["settings"], float(header["seconds"])
        if header["version"] != VERSION:
            raise LossweaveError(
                f"{self.path} has version {header['version']}, not {VERSION}; delete it"
            )
        if verify and checksum_of(arrays) != self.checksum:
            raise self._refusal("is damaged (its checksum does not fit)")
        if key is not None and key != self.key:
            raise self._refusal("is stale: other weights or settings made it")
        self._rows = {image: row for row, image in enumerate(self.ids)}

    def _refusal(self, what: str) -> LossweaveError:
        return LossweaveError(
            f"the proposal file {self.path} {what}; delete it, and go on with --resume to make it "
            "anew"
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, image: object) -> bool:
        return image in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __getitem__(self, image: str) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) and scores (n,) of an image, best first.

        Raises:
            LossweaveError: there is no such image.
        """
        row = self._rows.get(str(image))
        if row is None:
            raise LossweaveError(
                f"{self.path} has no proposals for image {image!r}; was it made for other data?"
            )
        begin, end = self._offsets[row], self._offsets[row + 1]
        return np.array(self._boxes[begin:end]), np.array(self._scores[begin:end])

    @property
    def per_image(self) -> float:
        """Mean proposals per image."""
        return len(self._boxes) / max(1, len(self.ids))


def checksum_of(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the arrays of a file: names, types, shapes and content."""
    whole = hashlib.sha256()
    for name in _ARRAYS:
        array = np.ascontiguousarray(arrays[name])
        whole.update(f"{name}{array.dtype.str}{array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()


#: Bytes of a header, at most: settings are a few lines.
_HEADER_SIZE = 1_000_000


def _header(path: Path) -> dict[str, Any]:
    """The header, of which every field has its type."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("header.npy").file_size > _HEADER_SIZE:
            raise ValueError("its header is too large")
    found = json.loads(str(np.load(path, allow_pickle=False)["header"]))
    kinds = {"version": int, "key": str, "checksum": str, "settings": object}
    kinds["seconds"] = (int, float)  # type: ignore[assignment]
    if not isinstance(found, dict):
        raise ValueError("its header is no dict")
    for name, kind in kinds.items():
        if not isinstance(found[name], kind):
            raise ValueError(f"its header's {name} is {found[name]!r}")
    return found


def _check_kind(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse whatever a writer of this format does not write, before it is mapped."""
    kind, columns = _KINDS[name]
    right = dtype.kind == "U" if kind == "U" else dtype == np.dtype(kind)
    if not right or dtype.hasobject or dtype.fields is not None:
        raise ValueError(f"{name} has the type {dtype}")
    if not shape or shape[1:] != columns or shape[0] < 0:
        raise ValueError(f"{name} has the shape {shape}")


def _check_rows(offsets: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse rows of images that do not follow each other from the first to the last."""
    total = len(arrays["boxes"])
    if len(arrays["scores"]) != total or len(offsets) != len(arrays["ids"]) + 1:
        raise ValueError("the arrays' lengths differ")
    if offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
        raise ValueError("the offsets do not lead through the boxes")


def _mapped(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an uncompressed ``.npz``, mapped into memory where they are."""
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for name in _ARRAYS:
            member = archive.getinfo(f"{name}.npy")
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} is compressed")
            file.seek(member.header_offset + 26)  # the lengths of name and extra field follow
            lengths: Sequence[int] = struct.unpack("<HH", file.read(4))
            file.seek(sum(lengths), 1)
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            shape, fortran, dtype = read[version](file)
            _check_kind(name, shape, dtype)
            size = math.prod(shape) * dtype.itemsize
            if fortran or file.tell() + size > path.stat().st_size:
                raise ValueError(f"{name} is cut off")
            found[name] = (
                np.memmap(path, dtype=dtype, mode="r", offset=file.tell(), shape=shape)
                if size
                else np.zeros(shape, dtype)
            )
    return found
