"""Faster R-CNN in four steps against one joint training; ``--help`` has examples."""

from lossweave.command_line import run
from lossweave.studies.command_line import alternating_vs_joint

if __name__ == "__main__":
    run(alternating_vs_joint)
