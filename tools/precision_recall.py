"""Detectors beside each other: what recall costs in precision; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.precision_recall.cli import precision_recall

if __name__ == "__main__":
    run(precision_recall)
