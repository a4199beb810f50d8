"""What every combiner makes of two losses that share their parameters; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.simulate.cli import simulate

if __name__ == "__main__":
    run(simulate)
