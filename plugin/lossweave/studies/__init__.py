"""Studies: what a combiner did in a training, shown and measured.

Reading records, plotting, drawing and timing know no detection framework. The studies train
MMDetection's detectors; :mod:`~lossweave.studies.alternating_vs_joint` takes Detectron2's, too.
"""

from lossweave.studies.benchmark.timing import PairedTimes, interleaved
from lossweave.studies.runs.record import RunRecord, Series, TermHistory, read_run

__all__ = [
    "PairedTimes",
    "RunRecord",
    "Series",
    "TermHistory",
    "interleaved",
    "read_run",
]
