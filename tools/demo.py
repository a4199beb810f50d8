"""Train a detector with several combiners and compare them; ``--help`` has examples."""

from lossweave.mmdet.command_line import run
from lossweave.studies.command_line import demo

if __name__ == "__main__":
    run(demo)
