"""Penalties on weights and the corner of their L-curve; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.regularisation.cli import regularisation

if __name__ == "__main__":
    run(regularisation)
