"""Find the weights of the sum of losses, and the learning rate; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.tune.cli import tune

if __name__ == "__main__":
    run(tune)
