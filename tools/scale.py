"""The scale of one loss against the other's, by optimizer and clipping; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.scale.cli import scale

if __name__ == "__main__":
    run(scale)
