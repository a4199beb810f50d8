"""Checkpoints that are there as a whole or not at all."""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner

from lossweave.errors import LossweaveError
from lossweave.registry import HOOKS
from lossweave.utils.fields import near_names
from lossweave.utils.files import write_atomically

__all__ = ["WHOLE_FILES", "CheckpointHook", "WholeFiles"]

#: The name of the storage backend in configs.
WHOLE_FILES = "lossweave"


class WholeFiles(LocalBackend):
    """MMEngine's local files, written beside and renamed."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, int]] | None = None

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a whole file or nothing."""
        write_atomically(filepath, obj)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file; inside :meth:`removing_later` only at its end."""
        if self._waiting is None:
            super().remove(filepath)
        else:
            self._waiting.append((str(filepath), os.stat(filepath).st_ino))

    @contextmanager
    def removing_later(self) -> Iterator[None]:
        """What is removed goes when the block is through, unless it was written anew in it."""
        if self._waiting is not None:
            yield
            return
        self._waiting = []
        try:
            yield
            for path, written in self._waiting:
                if os.path.isfile(path) and os.stat(path).st_ino == written:
                    super().remove(path)
        finally:
            self._waiting = None


register_backend(WHOLE_FILES, WholeFiles, force=True)


def _parameters(function: Any) -> set[str]:
    named = inspect.signature(function).parameters.values()
    return {p.name for p in named if p.kind is not p.VAR_KEYWORD} - {"self"}


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's hook, under which a whole checkpoint is on the disk at any moment.

    Files are written beside and renamed, and the checkpoint that is one too many is removed
    after the new one is there, not before. ``tools/train.py`` puts it in the place of
    MMEngine's, where checkpoints go to a local folder.

    Args: those of MMEngine's ``CheckpointHook``.

    Raises:
        LossweaveError: an argument that it does not take.

    Example:
        In a config: ``default_hooks = dict(checkpoint=dict(type='lossweave.CheckpointHook'))``
    """

    backend_args: dict[str, Any] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What it does not know itself it hands on when it saves, which is too late to find out.
        known = {
            *_parameters(MMEngineCheckpointHook.__init__),
            *_parameters(Runner.save_checkpoint),
        }
        for name in kwargs:
            if name not in known:
                raise LossweaveError(
                    f"CheckpointHook has no argument {name!r}; {near_names(name, sorted(known))}"
                )
        local = self.out_dir is None or "://" not in str(self.out_dir)
        if local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = dict(backend=WHOLE_FILES)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._removing_later():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not hasattr(self, "file_backend"):  # a validation alone, before which nothing trains
            return
        with self._removing_later():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_later(self) -> Iterator[None]:
        if isinstance(self.file_backend, WholeFiles):
            with self.file_backend.removing_later():
                yield
        else:
            yield
