"""Fixed proposals as they are made: image by image, and left where an interruption comes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lossweave.errors import LossweaveError
from lossweave.staged.proposal_file import VERSION, ProposalFile, checksum_of
from lossweave.utils.distributed import barrier
from lossweave.utils.files import replacing

__all__ = ["PassWriters", "ProposalWriter"]

#: Seconds after which a pass leaves what it has, in case of a crash.
_KEEP_EVERY = 600.0


class ProposalWriter:
    """Collects proposals image by image, and writes them once, as a whole.

    Args:
        path: the file to write.
        key: of what makes them; see :func:`~lossweave.staged.proposal_file.fingerprint`.
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
        checksum = checksum_of(arrays)
        header = dict(version=VERSION, key=self.key, checksum=checksum, settings=self.settings)
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
        key: of what makes the proposals; see :func:`~lossweave.staged.proposal_file.fingerprint`.
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
        self._part = part
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

    def finish(self) -> None:
        """Write the files: alone, or the first process from what all of them have left.

        Raises:
            LossweaveError: a part is missing or damaged.
        """
        number, count = self._part
        if count == 1:
            self.close()
            return
        self.keep()
        barrier()
        if number == 0:
            self.merge()
        barrier()

    def files(self) -> dict[str, ProposalFile]:
        """The written files by name, opened and checked."""
        return {name: ProposalFile(path, self.key) for name, (path, _) in self.targets.items()}
