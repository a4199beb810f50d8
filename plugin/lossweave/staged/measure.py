"""What a stage costs: its times and memory, summed over sessions, whatever trains it."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from lossweave.staged.record import CurvePoint, StageRecord, median_seconds

__all__ = ["StageMeasure", "peak_memory", "reset_peak_memory"]


class StageMeasure:
    """Measures a stage; its state goes into the checkpoint, so sessions add up.

    An iteration's time is what passes from :meth:`resume_clock` to :meth:`tick`. What a crash threw
    away does not count, since the state is that of the checkpoint.

    Args:
        record: where :meth:`write` puts what was measured.

    Example:
        >>> measure = StageMeasure(StageRecord("rpn1"))
        >>> measure.begin(batch_size=2)
        >>> measure.tick()
        >>> measure.point({"rpn_cls": 0.7})
        >>> measure.write()
        >>> measure.record.image_passes, measure.record.curve[0].iteration
        (2, 1)
    """

    def __init__(self, record: StageRecord) -> None:
        self.record = record
        self._durations: list[float] = []
        self._curve: list[CurvePoint] = []
        self._peak: int | None = None
        self._begun = False

    def begin(self, batch_size: int, accumulation: int = 1) -> None:
        """Begin a session.

        Args:
            batch_size: images per iteration, over all processes.
            accumulation: iterations per update of the weights.
        """
        self.record.batch_size = batch_size
        self._accumulation = accumulation
        if not self.record.started:
            self.record.started = time.time()
        reset_peak_memory()
        self._begun = True
        self.resume_clock()

    def resume_clock(self) -> None:
        """The next iteration begins now."""
        self._mark = time.perf_counter()

    def tick(self) -> None:
        """An iteration ends now."""
        self._durations.append(time.perf_counter() - self._mark)

    def point(self, losses: dict[str, float]) -> None:
        """Note the losses by term after the iteration that ended last."""
        self._curve.append(CurvePoint(len(self._durations), sum(self._durations), losses))

    def write(self) -> None:
        """Bring the record up to date, if this session has got as far as training."""
        if not self._begun:
            return
        record, done = self.record, len(self._durations)
        self._peak = self._highest()
        record.iterations = done
        record.image_passes = done * record.batch_size
        record.optimizer_steps = -(-done // self._accumulation)
        record.seconds = sum(self._durations)
        record.seconds_per_iteration = median_seconds(self._durations)
        record.peak_memory = self._peak
        record.curve = list(self._curve)
        record.ended = time.time()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "durations": list(self._durations),
            "curve": [vars(point) for point in self._curve],
            "peak": self._highest(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self._durations = list(state["durations"])
        self._curve = [CurvePoint(**point) for point in state["curve"]]
        self._peak = state["peak"]

    def _highest(self) -> int | None:
        return max(filter(None, (self._peak, peak_memory())), default=None)


def reset_peak_memory() -> None:
    """Begin a new measurement of the peak."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak falls to what is in use


def peak_memory() -> int | None:
    """Bytes: of the accelerator's tensors, or of this process where there is no accelerator."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
