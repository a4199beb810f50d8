"""Faster R-CNN in four steps against one joint training; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.alternating_vs_joint.cli import alternating_vs_joint

if __name__ == "__main__":
    run(alternating_vs_joint)
