"""Taking turns by terms, beside the sums and the single tasks; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.turns.cli import turns

if __name__ == "__main__":
    run(turns)
