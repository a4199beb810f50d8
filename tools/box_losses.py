"""Box losses beside each other, with gross errors in the data; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.box_losses.cli import box_losses

if __name__ == "__main__":
    run(box_losses)
