"""Studies: what a combiner did in a training, shown and measured.

Reading records, plotting, drawing and timing know no detection framework;
:mod:`~lossweave.studies.demo` and :mod:`~lossweave.studies.benchmark` train MMDetection's
detectors.
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
