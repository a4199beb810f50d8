"""Measure what each combiner adds to a training step; ``--help`` has examples."""

from lossweave.mmdet.command_line import run
from lossweave.studies.command_line import benchmark

if __name__ == "__main__":
    run(benchmark)
