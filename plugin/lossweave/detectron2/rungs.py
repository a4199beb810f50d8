"""Trainings that are cut into rungs: looked at, and ended, before their end."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from lossweave.host.rungs import checked_rungs, detections_of

__all__ = ["FOUND", "RungHook", "RungsDone"]

_LOGGER = logging.getLogger("detectron2.lossweave")
#: What a ``COCOEvaluator`` writes into its output directory.
FOUND = "coco_instances_results.json"


class RungsDone(BaseException):
    """The last rung is reached. No error, so no framework reports it."""


class RungHook(HookBase):
    """Evaluates a training at its rungs, and ends it at the last: saved, to be gone on with.

    Learning-rate schedules and all else that knows how long the training is are those of the
    whole training. What a rung's evaluation detects is kept in ``rung_<n>.bbox.json`` in the
    output directory, in COCO's format, where the evaluator is a ``COCOEvaluator``. It goes last,
    and takes the place of ``EvalHook``.

    Args:
        at: the rungs in iterations, ascending; the training ends at the last one.
        evaluate: the trainer's evaluation.
        stoppable: the same, which saves and ends when somebody asks to stop.
        checkpointer: the trainer's.
        found: the folder that the evaluator writes to.

    Raises:
        LossweaveError: rungs that are not whole numbers above 0 in ascending order.
    """

    def __init__(
        self,
        at: Sequence[int],
        evaluate: Callable[[], Any],
        stoppable: Callable[[], Any],
        checkpointer: Any,
        found: str | Path,
    ) -> None:
        self._at = checked_rungs(at)
        self._evaluate, self._stoppable = evaluate, stoppable
        self._checkpointer = checkpointer
        self._found = Path(found) / FOUND

    def before_train(self) -> None:
        """A training that was saved at its last rung may have been stopped in the evaluation.

        Raises:
            RungsDone: it was.
        """
        if self.trainer.start_iter >= self._at[-1]:
            self._stand(self._at[-1], self._evaluate)  # of no new iteration that is to be saved
            raise RungsDone

    def after_step(self) -> None:
        """Stand at a rung.

        Raises:
            RungsDone: it is the last one, and not the end of the training.
        """
        done = self.trainer.iter + 1
        if done not in self._at:
            return
        ends = done == self._at[-1] and done < self.trainer.max_iter
        if ends:  # the end of the whole training is saved by the trainer's own hook
            at = self.trainer.iter
            self._checkpointer.save(f"model_{at:07d}", iteration=at)
        self._stand(done, self._stoppable)
        if ends:
            raise RungsDone

    def _stand(self, rung: int, evaluate: Callable[[], Any]) -> None:
        evaluate()
        if comm.is_main_process() and self._found.is_file():
            kept = detections_of(self._checkpointer.save_dir, rung)
            self._found.replace(kept)
            _LOGGER.info("rung %d: %s", rung, kept)
        comm.synchronize()
