"""What a stage has come to: recall of its RPN, and AP of the detector that it completes."""

from __future__ import annotations

import time

from lossweave.staged.passes import ProposalPasses
from lossweave.staged.recall import average_recall
from lossweave.staged.record import TrainingRecord
from lossweave.staged.stages import Stage
from lossweave.staged.weights import StageWeights

__all__ = ["StageEvaluation"]


class StageEvaluation:
    """Evaluates stages on the plan's split.

    Args:
        weights: of the stages.
        passes: that make their proposals.
        record: whose recalls are known already.
    """

    def __init__(
        self, weights: StageWeights, passes: ProposalPasses, record: TrainingRecord
    ) -> None:
        self._weights = weights
        self._passes = passes
        self._record = record
        self._adapter = weights.adapter
        self._plan = weights.adapter.plan

    def wants(self, stage: Stage) -> bool:
        """Whether a stage is to be evaluated, and has not been."""
        last = stage is self._plan.schedule.stages[-1]
        known = self._record.stage(stage.name).metrics
        return not known and (last or self._plan.evaluate_stages)

    def run(self, stage: Stage) -> None:
        """Evaluate a stage, into its record."""
        begin, metrics = time.perf_counter(), {}
        if "rpn_head" in stage.network:
            metrics.update(self.recall(stage))
        rpn = self._plan.schedule.last("rpn_head", until=stage.name)
        if "roi_head" in stage.network and rpn is not None:
            metrics.update(self.detection(rpn, stage))
            if rpn is not stage:
                metrics.update(self.recall(rpn))
        record = self._record.stage(stage.name)
        record.metrics = metrics
        record.evaluation_seconds += time.perf_counter() - begin

    def recall(self, stage: Stage) -> dict[str, float]:
        """Average recall of the RPN that a stage ended in."""
        if not self._plan.recall:
            return {}
        metrics = self._record.stage(stage.name).metrics
        known = {k: v for k, v in metrics.items() if "AR@" in k}
        if known:
            return known
        found = self._passes.for_evaluation(stage)["recall"]
        boxes = {image: found[image][0] for image in found}
        ground_truth = self._adapter.ground_truth(self._plan.split)
        return average_recall(ground_truth, boxes, self._plan.recall)

    def detection(self, rpn: Stage, roi: Stage) -> dict[str, float]:
        """AP of the system that two stages ended in: one detector, or two networks."""
        folder = self._weights.folder(roi)
        if self._plan.schedule.share(rpn, roi):
            return self._adapter.evaluate(None, self._weights.unify(rpn, roi), None, folder)
        proposals = self._passes.for_evaluation(rpn)["detection"].path
        return self._adapter.evaluate(roi, self._weights.final(roi), proposals, folder)
