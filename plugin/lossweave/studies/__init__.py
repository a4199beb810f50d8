"""Studies: what a combiner did in a training, shown and measured.

Reading records, plotting, drawing and timing know no detection framework. The studies train
MMDetection's detectors; :mod:`~lossweave.studies.alternating_vs_joint` takes Detectron2's, too.
"""

from lossweave.studies.record import RunRecord, Series, TermHistory, read_run
from lossweave.studies.timing import PairedTimes, interleaved

__all__ = [
    "PairedTimes",
    "RunRecord",
    "Series",
    "TermHistory",
    "interleaved",
    "read_run",
]
