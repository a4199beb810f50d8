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
import struct
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lossweave.errors import LossweaveError
from lossweave.staged.freezing import digest
from lossweave.utils.files import replacing

__all__ = ["PAPER_SETTINGS", "PassWriters", "ProposalFile", "ProposalWriter", "fingerprint"]

#: The proposals that Fast R-CNN is trained on in the paper's schedule: no cap before NMS.
PAPER_SETTINGS: Mapping[str, Any] = {
    "nms_pre": -1,
    "nms": {"type": "nms", "iou_threshold": 0.7},
    "max_per_img": 2000,
    "min_bbox_size": 16,
}
#: Seconds after which a pass leaves what it has, in case of a crash.
_KEEP_EVERY = 600.0
_VERSION = 1
_ARRAYS = ("boxes", "scores", "offsets", "ids")


def fingerprint(weights: Mapping[str, Tensor], settings: Any) -> str:
    """A checksum of weights and settings, by which a stale file is known.

    Args:
        weights: a state dict.
        settings: anything that JSON can hold; other objects count by their text.

    Example:
        >>> import torch
        >>> weights = {"w": torch.zeros(1)}
        >>> fingerprint(weights, {"nms": 0.7}) == fingerprint(weights, {"nms": 0.5})
        False
    """
    text = json.dumps([sorted(digest(weights).items()), settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class ProposalWriter:
    """Collects proposals image by image, and writes them once, as a whole.

    Args:
        path: the file to write.
        key: of what makes them; see :func:`fingerprint`.
        settings: noted in the file, for the reader.
        part: number of this process and of all of them, each of which makes its part.

    Example:
        >>> import tempfile
        >>> writer = ProposalWriter(Path(tempfile.mkdtemp()) / "p.npz", key="k")
        >>> writer.add("7", np.array([[0, 0, 4, 4]]), np.array([0.9]))
        >>> checksum = writer.close()
        >>> boxes, scores = ProposalFile(writer.path, key="k")["7"]
        >>> boxes.tolist(), len(scores)
        ([[0.0, 0.0, 4.0, 4.0]], 1)
    """

    def __init__(
        self, path: str | Path, key: str, settings: Any = None, part: tuple[int, int] = (0, 1)
    ) -> None:
        self.path = Path(path)
        self.key = key
        self.part = part
        self.settings = settings
        self.seconds = 0.0
        self._found: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, image: object) -> bool:
        return image in self._found

    def add(self, image: str, boxes: Any, scores: Any) -> None:
        """The proposals of one image; one that is there already is replaced.

        Args:
            image: its id.
            boxes: (n, 4), in pixels of the original image, by descending score.
            scores: (n,).

        Raises:
            LossweaveError: the shapes do not fit, or a number is not finite.
        """
        boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
        scores = np.asarray(scores, dtype=np.float32).reshape(-1)
        if len(boxes) != len(scores):
            raise LossweaveError(f"image {image!r}: {len(boxes)} boxes and {len(scores)} scores")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise LossweaveError(f"image {image!r}: a proposal is not finite; training diverged?")
        self._found[str(image)] = (boxes, scores)

    def close(self) -> str:
        """Write the file, images in order of their ids; its checksum."""
        ids = sorted(self._found)
        boxes = [self._found[i][0] for i in ids]
        arrays: dict[str, Any] = {
            "boxes": np.concatenate(boxes) if boxes else np.zeros((0, 4), np.float32),
            "scores": np.concatenate([self._found[i][1] for i in ids])
            if ids
            else np.zeros(0, np.float32),
            "offsets": np.cumsum([0, *(len(b) for b in boxes)], dtype=np.int64),
            "ids": np.array(ids, dtype=np.str_),
        }
        checksum = _checksum(arrays)
        header = dict(version=_VERSION, key=self.key, checksum=checksum, settings=self.settings)
        header["seconds"] = self.seconds
        text = json.dumps(header, default=str)
        with replacing(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, header=np.array(text), **arrays)
        self.partial.unlink(missing_ok=True)
        return checksum

    @property
    def partial(self) -> Path:
        """Where this process leaves what it has: on interruption, or for :meth:`merge`."""
        return self._partial(*self.part)

    def _partial(self, number: int, count: int) -> Path:
        return self.path.with_suffix(f".{number + 1}of{count}.partial.npz")

    def keep(self) -> None:
        """Leave what there is, for :meth:`take_up`."""
        rest = ProposalWriter(self.partial, self.key, self.settings)
        rest._found, rest.seconds = self._found, self.seconds
        rest.close()

    def take_up(self) -> int:
        """Take up what an interrupted pass of the same key has left; the number of images."""
        try:
            return self._take(ProposalFile(self.partial, key=self.key))
        except LossweaveError:
            return 0  # none, another's, or half of one: the pass begins anew

    def merge(self) -> None:
        """Take what all processes have left, after each has called :meth:`keep`.

        Raises:
            LossweaveError: a part is missing or damaged.
        """
        seconds = self.seconds  # the processes ran at the same time
        parts = [self._partial(number, self.part[1]) for number in range(self.part[1])]
        for part in parts:
            self._take(ProposalFile(part, key=self.key))
        self.seconds = seconds
        self.close()
        for part in parts:
            part.unlink(missing_ok=True)

    def _take(self, left: ProposalFile) -> int:
        self.seconds += left.seconds
        for image in left:
            self.add(image, *left[image])
        return len(left)


class PassWriters:
    """The writers of one pass over a data set, a file for each of the RPN's settings.

    As a context it measures how long the pass takes; what there is when an exception ends the
    pass is left for :meth:`take_up` of the next one.

    Args:
        targets: by name, a file and the RPN's settings for it.
        key: of what makes the proposals; see :func:`fingerprint`.
        part: number of this process and of all of them, each of which makes its part.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "p.npz"
        >>> writers = PassWriters({"train": (path, {"max_per_img": 2000})}, key="k")
        >>> with writers:
        ...     writers.add("7", [(np.array([[0, 0, 4, 4]]), np.array([0.9]))])
        >>> writers.close()
        >>> len(writers.files()["train"])
        1
    """

    def __init__(
        self,
        targets: Mapping[str, tuple[Path, Any]],
        key: str,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.targets = targets
        self.key = key
        self._writers = [
            ProposalWriter(path, key, settings, part) for path, settings in targets.values()
        ]
        self._paths: dict[str, str] = {}
        self._since = time.perf_counter()

    def __enter__(self) -> PassWriters:
        self._since = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._count()
        if kind is not None:
            self.keep()

    def _count(self) -> None:
        now = time.perf_counter()
        for writer in self._writers:
            writer.seconds += now - self._since
        self._since = now

    def take_up(self, batch_size: int = 1) -> int:
        """Take up what an interrupted pass of the same key has left.

        Args:
            batch_size: images at a time.

        Returns:
            How many of the first images need not be made again, in whole batches.
        """
        return min(writer.take_up() for writer in self._writers) // batch_size * batch_size

    def check(self, image: str, path: str) -> None:
        """Refuse an id that stands for two images.

        Args:
            image: the id.
            path: the image's file.

        Raises:
            LossweaveError: an image of another file has the same id.
        """
        if self._paths.setdefault(image, path) != path:
            raise LossweaveError(
                f"two images have the id {image!r}: {self._paths[image]} and {path}"
            )

    def add(self, image: str, found: Sequence[tuple[Any, Any]]) -> None:
        """The proposals of one image.

        Args:
            image: its id.
            found: for each of the targets, boxes and scores as :meth:`ProposalWriter.add`
                takes them.
        """
        for writer, (boxes, scores) in zip(self._writers, found, strict=True):
            writer.add(image, boxes, scores)

    def keep_at_times(self) -> None:
        """Leave what there is if that has not been done for long, in case of a crash."""
        if time.perf_counter() - self._since > _KEEP_EVERY:
            self._count()
            self.keep()

    def keep(self) -> None:
        """Leave what there is, for :meth:`take_up` or :meth:`merge`."""
        for writer in self._writers:
            writer.keep()

    def close(self) -> None:
        """Write the files."""
        for writer in self._writers:
            writer.close()

    def merge(self) -> None:
        """Write the files from what all processes have left, after each has called :meth:`keep`.

        Raises:
            LossweaveError: a part is missing or damaged.
        """
        for writer in self._writers:
            writer.merge()

    def files(self) -> dict[str, ProposalFile]:
        """The written files by name, opened and checked."""
        return {name: ProposalFile(path, self.key) for name, (path, _) in self.targets.items()}


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
            header = json.loads(str(np.load(self.path, allow_pickle=False)["header"]))
            arrays = _mapped(self.path)
            self.ids = [str(i) for i in arrays["ids"]]
            self._boxes, self._scores = arrays["boxes"], arrays["scores"]
            self._offsets = np.asarray(arrays["offsets"])
            self.key, self.checksum = header["key"], header["checksum"]
            self.settings, version = header["settings"], header["version"]
            self.seconds = float(header["seconds"])
            total = self._offsets[-1]
            if not len(self._boxes) == len(self._scores) == total:
                raise ValueError("the arrays' lengths differ")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, struct.error) as error:
            raise LossweaveError(
                f"the proposal file {self.path} is damaged ({error}); delete it, and go on with "
                "--resume to make it anew"
            ) from error
        if version != _VERSION:
            raise LossweaveError(f"{self.path} has version {version}, not {_VERSION}; delete it")
        if verify and _checksum(arrays) != self.checksum:
            raise LossweaveError(
                f"the proposal file {self.path} is damaged (its checksum does not fit); delete "
                "it, and go on with --resume to make it anew"
            )
        if key is not None and key != self.key:
            raise LossweaveError(
                f"the proposal file {self.path} is stale: other weights or settings made it; "
                "delete it, and go on with --resume to make it anew"
            )
        self._rows = {image: row for row, image in enumerate(self.ids)}

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


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    whole = hashlib.sha256()
    for name in _ARRAYS:
        array = np.ascontiguousarray(arrays[name])
        whole.update(f"{name}{array.dtype.str}{array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()


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
            size = int(np.prod(shape)) * dtype.itemsize
            if fortran or file.tell() + size > path.stat().st_size:
                raise ValueError(f"{name} is cut off")
            found[name] = (
                np.memmap(path, dtype=dtype, mode="r", offset=file.tell(), shape=shape)
                if size
                else np.zeros(shape, dtype)
            )
    return found
