"""Write COCO annotations for a folder in VOC layout; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.demo.voc_cli import prepare

if __name__ == "__main__":
    run(prepare)
